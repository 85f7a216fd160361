"""What the machine's arithmetic gives, and what machine it is."""

from __future__ import annotations

import ctypes
import os
import platform
import re
from pathlib import Path

from kernels import best_and_median, linear_call

from qwen3_plugins.ort import library_path, why_missing

ROWS, INPUTS, OUTPUTS = 512, 1024, 4096
SECONDS = 1.0
VECTORS = ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_int8", "asimddp", "i8mm", "sve")


def int8_throughput(threads: int) -> float:
    """Operations a second of a large product of int8 activations and int8 weights, one scale per row; the best run.

    Raises:
        RuntimeError: the operator library is missing.
    """
    path = library_path()
    if path is None:
        raise RuntimeError(why_missing())
    native = ctypes.CDLL(str(path))
    native.qwen3_linear.restype = ctypes.c_char_p
    run, _ = linear_call(native, native.qwen3_instructions(), threads, "int8", 0, OUTPUTS, INPUTS, ROWS)
    best, _ = best_and_median(run, SECONDS)
    return 2 * ROWS * INPUTS * OUTPUTS / best


def describe() -> dict[str, str]:
    """The processor, its vector instructions and the system, for the head of a report (Linux)."""
    processor, instructions = parse_cpuinfo(Path("/proc/cpuinfo").read_text(encoding="utf-8"))
    return {
        "processor": processor or platform.machine(),
        "cores": str(len(os.sched_getaffinity(0))),
        "instructions": ", ".join(instructions),
        "system": platform.platform(),
    }


def parse_cpuinfo(text: str) -> tuple[str, list[str]]:
    """The name of the processor, empty where Linux gives none as on ARM, and those of `VECTORS` that it has."""
    name = re.search(r"^model name\s*: (.*)$", text, re.MULTILINE)
    flags = re.search(r"^(?:flags|Features)\s*: (.*)$", text, re.MULTILINE)
    found = flags[1].split() if flags else []
    return name[1] if name else "", [each for each in VECTORS if each in found]
