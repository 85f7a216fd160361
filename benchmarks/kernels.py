"""How fast the linear kernels are, beside what memory and arithmetic of this machine give in the same run.

    python benchmarks/kernels.py [--instructions avx2] [--threads 2] [--formats int4:32,int8:0]

Decode is measured over a matrix far larger than any cache, in GB/s of weights; prefill in GOP/s (two a
multiply-add). Medians, with the read bandwidth measured between them.
"""

from __future__ import annotations

import argparse
import ctypes
import statistics
import time
from typing import TYPE_CHECKING

import numpy as np

from qwen3_plugins.layouts import CODE_BITS, PANEL, padded_inputs, scale_array
from qwen3_plugins.ort import LIBRARY_NAME, library_path, why_missing

if TYPE_CHECKING:
    from collections.abc import Callable

LEVELS = ("scalar", "avx2", "avx512", "neon", "i8mm")
DECODE_BYTES = 192 << 20
PREFILL = ((1024, 3072), (1024, 4096), (3072, 1024), (2048, 4096))


def best_and_median(run: Callable[[], object], seconds: float) -> tuple[float, float]:
    """Seconds of a call, called for about so long."""
    run()
    times: list[float] = []
    end = time.perf_counter() + seconds
    while len(times) < 3 or time.perf_counter() < end:
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return min(times), statistics.median(times)


def random_weights(fmt: str, group: int, n: int, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Bytes that are valid weights of a format; what they stand for does not matter here. Without scales none."""
    panels, padded = -(-n // PANEL), padded_inputs(fmt, k, group)
    blob = np.random.default_rng(0).integers(0, 126, panels * PANEL * padded * CODE_BITS[fmt] // 8, dtype=np.uint8)
    blob &= 0x3B if CODE_BITS[fmt] > 8 else 0xFF
    kind, shape = scale_array(fmt, group, panels, padded) or (np.float32, (0,))
    # Bytes of uint4, with zero points: float16 scales of 0.01 and zero points of 1 and 2.
    return blob, np.full(shape, 0x21 if kind is np.uint8 else 0.01, kind)


def linear_call(
    native: ctypes.CDLL, level: int, threads: int, fmt: str, group: int, n: int, k: int, rows: int
) -> tuple[Callable[[], None], int]:
    """A call of `rows` rows by a random matrix [n, k], and the bytes of weights that it reads."""
    codes, scales = random_weights(fmt, group, n, k)
    x = np.random.default_rng(1).normal(size=(rows, k)).astype(np.float32)
    y = np.empty((rows, n), np.float32)

    def run() -> None:
        error = native.qwen3_linear(
            level, threads, fmt.encode(), *map(ctypes.c_int64, (n, k, group)),
            *(ctypes.c_void_p(a.ctypes.data) for a in (codes, scales, x)), ctypes.c_int64(rows),
            None, ctypes.c_float(1e-6), None, 0, 1, ctypes.c_void_p(y.ctypes.data),
        )  # fmt: skip
        if error:
            raise SystemExit(error.decode())

    return run, codes.nbytes + scales.nbytes


def main() -> None:
    """Measure what the arguments ask for and print it, a line each."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--library", default=str(library_path() or LIBRARY_NAME))
    parser.add_argument("--instructions", choices=LEVELS)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument(
        "--formats", default="int4:32,int4:128,uint4:32,uint4:128,int8:32,int8:0,fp8:128,bf16:0,fp16:0,fp32:0"
    )
    parser.add_argument("--rows", default="1,4,8")
    parser.add_argument("--seconds", type=float, default=0.7, help="for each measurement")
    arguments = parser.parse_args()
    try:
        native = ctypes.CDLL(arguments.library)
    except OSError:
        raise SystemExit(f"error: {why_missing()}") from None
    native.qwen3_linear.restype = ctypes.c_char_p
    level = LEVELS.index(arguments.instructions) if arguments.instructions else native.qwen3_instructions()
    buffer = np.ones(DECODE_BYTES // 8, np.uint64)

    def read() -> None:
        native.qwen3_test_read(
            ctypes.c_void_p(buffer.ctypes.data), ctypes.c_int64(buffer.size), 1, arguments.threads,
            ctypes.byref(ctypes.c_double()),
        )  # fmt: skip

    print(f"{LEVELS[level]}, {arguments.threads} threads")
    for item in arguments.formats.split(","):
        fmt, group = item.split(":")
        for rows in map(int, arguments.rows.split(",")):
            n = DECODE_BYTES * 8 // CODE_BITS[fmt] // 1024 // PANEL * PANEL
            run, size = linear_call(native, level, arguments.threads, fmt, int(group), n, 1024, rows)
            _, ceiling = best_and_median(read, arguments.seconds / 2)
            best, median = best_and_median(run, arguments.seconds)
            peak = DECODE_BYTES / ceiling / 1e9
            rate = size / median / 1e9
            print(f"{item:>8} decode {rows} rows: {rate:6.1f} GB/s (best {size / best / 1e9:5.1f})"
                  f" = {100 * rate / peak:4.0f} % of {peak:.1f} read")  # fmt: skip
        for k, n in PREFILL:
            run, _ = linear_call(native, level, arguments.threads, fmt, int(group), n, k, 512)
            best, median = best_and_median(run, arguments.seconds)
            work = 2 * 512 * n * k / 1e9
            print(f"{item:>8} prefill 512 x {k} x {n}: {work / median:6.0f} GOP/s (best {work / best:.0f})")


if __name__ == "__main__":
    main()
