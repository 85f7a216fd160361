"""How fast an engine runs on this machine, as a share of what the machine's memory could give.

Decode reads every weight of a token once, so its ceiling is memory bandwidth; the read bandwidth is measured
beside the engine, in the same process, because machines differ and shared ones drift.
"""

from __future__ import annotations

import re
import statistics
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import psutil

from qwen3_runtime.packing import Chunk, pack_step

if TYPE_CHECKING:
    from qwen3_runtime.step import Backend

READ_BYTES = 1 << 29  # far more than any cache holds
FIRST_TOKEN_PROMPT = 16


@dataclass(frozen=True)
class TokenBytes:
    """What one decoded token reads: bytes of weights, and bytes of cache for each token of context."""

    weights: int
    cache_per_token: int


@dataclass(frozen=True)
class Benchmark:
    """Medians over the repeats; rates in tokens a second, times in seconds, bandwidth in bytes a second.

    The first token is that after a prompt of `FIRST_TOKEN_PROMPT` tokens, or of `prompt_tokens` where those are fewer.
    """

    threads: int
    prompt_tokens: int
    decoded_tokens: int
    repeats: int
    prefill_rate: float
    decode_rate: float
    first_token_seconds: float
    peak_memory: int
    read_bandwidth: float
    bytes_per_token: int
    bandwidth_share: float


def read_bandwidth(threads: int, repeats: int = 5) -> float:
    """Bytes a second that `threads` threads read from memory in sequence: the best of `repeats` passes.

    The best, because a ceiling is wanted: whatever disturbs a pass only makes it slower.
    """
    blocks = np.ones((threads, READ_BYTES // 8 // threads), dtype=np.uint64)
    seconds = []
    with ThreadPoolExecutor(threads) as pool:
        for _ in range(repeats):
            start = time.perf_counter()
            # An OR over the words reads each byte once, at the width of vectors, and releases the GIL for all of it.
            list(pool.map(np.bitwise_or.reduce, blocks))
            seconds.append(time.perf_counter() - start)
    return blocks.nbytes / min(seconds)


def measure_speed(
    backend: Backend,
    sizes: TokenBytes,
    *,
    vocab: int,
    step_tokens: int,
    threads: int,
    prompt: int,
    decode: int,
    repeats: int,
) -> Benchmark:
    """Time a backend on random tokens.

    Args:
        backend: an open backend with room for `prompt + decode` tokens in one sequence.
        sizes: what a token reads.
        vocab: token ids are drawn below it.
        step_tokens: the most new tokens a step may hold.
        threads: threads the backend was opened with (for the bandwidth that it is compared to).
        prompt: tokens of prefill, at which depth decoding starts.
        decode: tokens decoded.
        repeats: runs, after one that is not counted.

    Returns:
        The medians.
    """
    rng = np.random.default_rng(0)
    prefills, decodes, firsts = [], [], []
    for _ in range(repeats + 1):
        ids = rng.integers(0, vocab, size=prompt + decode)
        start = time.perf_counter()
        _feed(backend, ids[: min(FIRST_TOKEN_PROMPT, prompt)], 0, step_tokens)
        firsts.append(time.perf_counter() - start)
        start = time.perf_counter()
        _feed(backend, ids[:prompt], 0, step_tokens)
        middle = time.perf_counter()
        for at in range(prompt, prompt + decode):
            _feed(backend, ids[at : at + 1], at, step_tokens)
        prefills.append(prompt / (middle - start))
        decodes.append(decode / (time.perf_counter() - middle))
    rate = statistics.median(decodes[1:])
    peak = _peak_memory()  # before the bandwidth's own blocks
    bandwidth = read_bandwidth(threads)
    per_token = sizes.weights + sizes.cache_per_token * (prompt + decode // 2)
    return Benchmark(
        threads=threads,
        prompt_tokens=prompt,
        decoded_tokens=decode,
        repeats=repeats,
        prefill_rate=statistics.median(prefills[1:]),
        decode_rate=rate,
        first_token_seconds=statistics.median(firsts[1:]),
        peak_memory=peak,
        read_bandwidth=bandwidth,
        bytes_per_token=per_token,
        bandwidth_share=per_token * rate / bandwidth,
    )


def _feed(backend: Backend, ids: np.ndarray[tuple[int], np.dtype[np.int64]], at: int, step_tokens: int) -> None:
    blocks = -(-(at + len(ids)) // backend.cache.block_size)
    for start in range(0, len(ids), step_tokens):
        chunk = ids[start : start + step_tokens]
        backend.run(pack_step([Chunk(chunk, at + start, np.arange(blocks, dtype=np.int32))], rows="last"))


def _peak_memory() -> int:
    """Peak resident bytes of this process, or what is resident now where the system keeps no such peak."""
    try:
        # Not getrusage: on Linux its peak may be that of the process that started this one.
        status = Path("/proc/self/status").read_text(encoding="ascii")
    except OSError:
        return int(psutil.Process().memory_info().rss)
    return int(re.findall(r"VmHWM:\s+(\d+) kB", status)[0]) * 1024
