"""The machine that this runs on: its processor, as the operating system names it, and what is installed."""

from __future__ import annotations

import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

INSTRUCTIONS = ("avx2", "fma", "f16c", "avx512f", "avx512_vnni", "avx512_bf16", "asimd", "asimddp", "i8mm")
_CPUINFO = Path("/proc/cpuinfo")


def cpu_flags() -> list[str]:
    """The instruction sets that kernels care about, of those the operating system reports."""
    listed = {word for line in _cpuinfo() if line.startswith(("flags", "Features")) for word in line.split()}
    return [name for name in INSTRUCTIONS if name in listed]


def installed_version(name: str) -> str | None:
    """The version of a distribution, or of its twin for GPUs (`onnxruntime-gpu`); None where neither is installed."""
    for distribution in (name, f"{name}-gpu"):
        try:
            return version(distribution)
        except PackageNotFoundError:
            continue
    return None


def processor() -> str:
    """Model, architecture and instruction sets in one line; nothing that differs between two runs of one machine."""
    models = (line.partition(":")[2].strip() for line in _cpuinfo() if line.startswith("model name"))
    forced = os.environ.get("QWEN3_ORT_KERNELS")
    parts = [next(models, ""), platform.machine(), " ".join(cpu_flags()), f"kernels held to {forced}" if forced else ""]
    return ", ".join(part for part in parts if part)


def _cpuinfo() -> list[str]:
    try:
        return _CPUINFO.read_text(encoding="utf-8").splitlines()
    except OSError:
        return []
