"""Time the attention kernels alone, beside this machine's read bandwidth and fp32 arithmetic in the same run.

    python benchmarks/attention_kernel.py [--threads 2] [--heads 16 --kv-heads 8 --head-dim 128]

Decoding is given as bytes of cache read a second, prompts as floating-point operations a second (two for each
multiply-add that the causal mask leaves). Kernel and ceiling are measured in turns, each figure is the tenth percentile
of many short runs: on a shared machine the others are those in which a thread had to wait for a processor.
"""

from __future__ import annotations

import argparse
import ctypes
import os
import time
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from qwen3_plugins.ort import library_path, why_missing

if TYPE_CHECKING:
    from collections.abc import Callable

INSTRUCTIONS = {"scalar": 0, "avx2": 1, "avx512": 2}
Array = NDArray[np.generic]


def pointer(array: Array | None) -> ctypes.c_void_p:
    """An array's memory for ctypes; None is a null pointer."""
    return ctypes.c_void_p(None if array is None else array.ctypes.data)


def in_turns(runs: list[Callable[[], Array]], rounds: int = 5) -> list[float]:
    """The tenth percentile of the seconds of each kind of run, measured alternately."""
    seconds: list[list[Array]] = [[] for _ in runs]
    for _ in range(rounds):
        for kind, run in zip(seconds, runs, strict=True):
            kind.append(run())
    return [float(np.quantile(np.concatenate(kind), 0.1)) for kind in seconds]


class Kernel:
    """One attention step on `layers` caches in turn, so that none of them stays in the processor's caches."""

    def __init__(self, library: ctypes.CDLL, args: argparse.Namespace, new: int, context: int, *, int8: bool) -> None:
        heads, kv_heads, dim, block = args.heads, args.kv_heads, args.head_dim, 16
        self.library, self.threads = library, args.threads
        rng = np.random.default_rng(0)
        width = -(-(new + context) // block)
        size = width * block * kv_heads * dim * 2 * (1 if int8 else 2)
        self.layers = 4 if new > 1 else max(1, 256 * 2**20 // size)
        shape = (width * self.layers, 2, kv_heads, block, dim)
        self.kv = np.empty(shape, np.int8 if int8 else np.float16)
        self.kv.view(np.int8 if int8 else np.uint16)[...] = 3
        self.scales = np.full(shape[:-1], 0.01, np.float32) if int8 else None
        self.bytes = (self.kv.nbytes + (0 if self.scales is None else self.scales.nbytes)) // self.layers
        self.tables = rng.permutation(width * self.layers).astype(np.int32).reshape(self.layers, 1, width)
        self.qkv = rng.standard_normal((new, (heads + 2 * kv_heads) * dim)).astype(np.float32)
        self.norm = np.ones(dim, np.float32)
        self.angles = [f(rng.random((new + context, dim // 2))).astype(np.float32) for f in (np.cos, np.sin)]
        self.query_start, self.context = np.array([0, new], np.int32), np.array([context], np.int32)
        self.out = np.empty((new, heads * dim), np.float32)
        sizes = [new, 1, width, new + context, heads, len(self.kv), kv_heads, block, dim, int(int8)]
        self.sizes = (ctypes.c_int64 * len(sizes))(*sizes)
        self.operations = 4 * heads * dim * (new * context + new * (new + 1) // 2)

    def seconds(self, instructions: str) -> Array:
        """Time of one step on each layer."""
        fault = ctypes.create_string_buffer(400)
        seconds = np.empty(len(self.tables))
        arrays = [self.qkv, self.norm, self.norm, *self.angles, self.query_start, self.context]
        status = self.library.qwen3_test_attention(
            self.sizes,
            ctypes.c_float(1e-6),
            *(pointer(array) for array in [*arrays, self.tables, self.kv, self.scales, self.out]),
            INSTRUCTIONS[instructions],
            self.threads,
            len(self.tables),
            pointer(seconds),
            fault,
            ctypes.c_int64(len(fault)),
        )
        if status:
            raise SystemExit(fault.value.decode())
        return seconds


PIECE = 2**20
"""Words that are read at a time."""


def read_seconds(library: ctypes.CDLL, memory: Array, threads: int) -> Array:
    """Time of reading each piece of memory."""
    seconds = np.empty(memory.size // PIECE)
    library.qwen3_test_read(pointer(memory), ctypes.c_int64(PIECE), len(seconds), threads, pointer(seconds))
    return seconds


def product_seconds(square: Array) -> Array:
    """Time of numpy's float32 matrix product, several times."""
    seconds = []
    for _ in range(10):
        begin = time.perf_counter()
        square @ square
        seconds.append(time.perf_counter() - begin)
    return np.array(seconds)


def main() -> None:
    """Print one line for each case."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--heads", type=int, default=16)
    parser.add_argument("--kv-heads", type=int, default=8)
    parser.add_argument("--head-dim", type=int, default=128)
    parser.add_argument("--instructions", nargs="+", default=["avx2", "avx512"], choices=INSTRUCTIONS)
    args = parser.parse_args()
    path = os.environ.get("QWEN3_ORT_LIBRARY") or library_path()
    if path is None:
        raise SystemExit(why_missing())
    library = ctypes.CDLL(str(path))

    memory = np.ones(32 * 2**20, np.uint64)
    square = np.ones((512, 512), np.float32)

    for context in (512, 2048, 8192):
        for int8 in (False, True):
            kernel = Kernel(library, args, 1, context, int8=int8)
            for name in args.instructions:
                seconds, reading = in_turns(
                    [partial(kernel.seconds, name), partial(read_seconds, library, memory, args.threads)]
                )
                rate, ceiling = kernel.bytes / seconds / 1e9, PIECE * 8 / reading / 1e9
                print(
                    f"decode  context {context:5} {'int8' if int8 else 'fp16'} {name:7}"
                    f" {seconds * 1e6:8.0f} us a layer {rate:6.1f} GB/s = {rate / ceiling:4.0%} of {ceiling:.1f}"
                )
    for new, context in ((512, 0), (2048, 0), (512, 2048)):
        kernel = Kernel(library, args, new, context, int8=False)
        for name in args.instructions:
            seconds, product = in_turns([partial(kernel.seconds, name), partial(product_seconds, square)], 3)
            rate, ceiling = kernel.operations / seconds / 1e9, 2 * len(square) ** 3 / product / 1e9
            print(
                f"prefill {new:5} after {context:5} {name:7} {seconds * 1e3:8.2f} ms a layer"
                f" {rate:6.0f} GFLOP/s = {rate / ceiling:4.0%} of numpy's matrix product, {ceiling:.0f}"
            )


if __name__ == "__main__":
    main()
