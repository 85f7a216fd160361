"""`qwen3-compile doctor`: what this machine can build and run."""

from __future__ import annotations

import importlib.util
import os
import platform
import shutil
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click
from rich.text import Text

from qwen3_compile.cli.options import JSON
from qwen3_compile.cli.output import print_json
from qwen3_compile.machine import cpu_flags, installed_version
from qwen3_compile.targets import TARGETS
from qwen3_compile.terminal import Screen, harmless
from qwen3_runtime.errors import EngineError
from qwen3_runtime.installation import install_command

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from qwen3_compile.targets import Target

# Distribution, what it is for, and the extra that brings it.
PACKAGES = (
    ("onnxruntime", "runs engines on the CPU", "cpu"),
    ("torch", "traces and validates", "build"),
    ("onnx", "reads and writes graphs", "cli"),
)


@dataclass(frozen=True)
class Finding:
    """One line of the diagnosis; `advice` says what to do where `good` is false."""

    topic: str
    found: str
    good: bool
    advice: str = ""


@click.command()
@JSON
def command(as_json: bool) -> None:
    """Show what this machine can build and run, and what is missing."""
    findings = diagnose()
    if as_json:
        print_json([asdict(finding) for finding in findings])
        return
    screen = Screen()
    for finding in findings:
        mark = ("ok", "green") if finding.good else ("--", "yellow")
        screen.print(Text.assemble(mark, harmless(f"  {finding.topic:<18}{finding.found}")))
        if finding.advice and not finding.good:
            screen.print(f"    {'':<18}{finding.advice}", style="dim")


def diagnose() -> list[Finding]:
    """Look at the interpreter, the machine and the installed packages; only onnxruntime and TensorRT are imported."""
    findings = [
        _python(),
        *_machine(),
        *(_package(*package) for package in PACKAGES),
        *_providers(),
        _operators(),
        *_tensorrt(),
        _gpu(),
    ]
    return [*findings, *verdict({finding.topic: finding.good for finding in findings})]


def verdict(good: Mapping[str, bool]) -> list[Finding]:
    """What the findings come to: targets that can be built for here, and those whose engines run here."""
    compiler = good["onnxruntime"] and good["torch"] and good["onnx"]  # a build is validated with ONNX Runtime

    def possible(target: Target, without: Sequence[str] = ()) -> bool:
        return all(good[topic] for topic in target.needs if topic not in without)

    lists = {
        "can build for": [each.name for each in TARGETS if compiler and possible(each, each.builds_without)],
        "can run": [each.name for each in TARGETS if possible(each)],
    }
    return [
        Finding(topic, ", ".join(targets) or "nothing", bool(targets), "the lines above say what is missing")
        for topic, targets in lists.items()
    ]


def _python() -> Finding:
    version = platform.python_version()
    return Finding("Python", version, sys.version_info >= (3, 11), "install Python 3.11 or newer")


def _machine() -> list[Finding]:
    import psutil

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    memory, disk = psutil.virtual_memory(), shutil.disk_usage(Path.cwd())
    flags = cpu_flags()
    return [
        Finding("processor", f"{platform.machine()}, {cores} cores, {' '.join(flags) or 'no known extensions'}", True),
        Finding("memory", f"{memory.available / 2**30:.1f} of {memory.total / 2**30:.1f} GiB free", True),
        Finding("disk here", f"{disk.free / 2**30:.0f} GiB free", disk.free > 2**31, "an engine of 0.6B takes 0.5 GiB"),
    ]


def _package(name: str, use: str, extra: str) -> Finding:
    found = installed_version(name)
    if found is None:
        return Finding(name, "not installed", False, f"{use}: {install_command(extra)}")
    return Finding(name, found, True)


def _operators() -> Finding:
    from qwen3_plugins.ort import library_path, why_missing

    path = library_path()
    return Finding("operators", str(path) if path else "not built", path is not None, why_missing())


def _tensorrt() -> list[Finding]:
    """Whether either TensorRT can build; its module is imported, since a package of the name may hold nothing."""
    from qwen3_compile.errors import UnsupportedError
    from qwen3_compile.tensorrt.availability import load_library
    from qwen3_plugins.tensorrt.bindings.modules import MODULES

    findings = []
    for backend in reversed(MODULES):
        try:
            found = str(load_library(backend).__version__)
            findings.append(Finding(backend, found, True))
        except UnsupportedError as error:
            findings.append(Finding(backend, "not usable", False, str(error)))
    return findings


def _gpu() -> Finding:
    """What runs TensorRT engines, and builds those of the full TensorRT."""
    from qwen3_plugins.tensorrt.bindings.device import Device
    from qwen3_plugins.tensorrt.bindings.modules import load_cuda
    from qwen3_plugins.tensorrt.errors import BindingsError, MissingModuleError

    runs = "runs TensorRT engines, and builds those for tensorrt; tensorrt-rtx builds without a GPU"
    try:
        device = Device(load_cuda("runtime"))
    except MissingModuleError:
        return Finding("NVIDIA GPU", "not checked", False, f"to look for one: pip install cuda-bindings; it {runs}")
    except BindingsError as error:
        return Finding("NVIDIA GPU", "none", False, f"it {runs} ({error})")
    found = f"{device.name}, compute capability {device.compute_capability}"
    device.close()
    return Finding("NVIDIA GPU", found, True)


def _providers() -> list[Finding]:
    if importlib.util.find_spec("onnxruntime") is None:
        return [Finding("CUDA provider", "none", False, install_command("cuda"))]
    from qwen3_runtime.backends.ort.session import import_onnxruntime, require_provider

    names = [name.removesuffix("ExecutionProvider") for name in import_onnxruntime().get_available_providers()]
    cuda = Finding("CUDA provider", "none", False, install_command("cuda"))
    if "CUDA" in names:
        try:
            require_provider("CUDAExecutionProvider")
            cuda = Finding("CUDA provider", "available", True)
        except EngineError as error:
            cuda = Finding("CUDA provider", "installed", False, f"it does not work here: {error}")
    return [Finding("providers", ", ".join(names), "CPU" in names, "reinstall onnxruntime"), cuda]
