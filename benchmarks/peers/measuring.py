"""What every worker measures, in the same order, in its own environment: so this module needs numpy alone.

A worker runs one engine in a fresh process and prints one JSON object. All prompts are random token ids, different
ones each time, because an engine may keep what it computed for a prefix.
"""

from __future__ import annotations

import argparse
import json
import re
import statistics
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Protocol

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

FIRST, SHORT, WARM_UP, THREADS = 16, 16, 8, 2
REPEATS = 5  # of decoding after a short prompt
READ_BYTES, READ_PASSES = 1 << 28, 3
SETTLED = 0.05  # seconds until an engine's threads have stopped waiting for more work
IDS = (1000, 100_000)  # ordinary tokens of the released vocabulary


@dataclass(frozen=True)
class Lengths:
    """Tokens: of the prompts of a prefill and of a deep context, and decoded after a short and after a deep one."""

    prefill: int = 512
    long: int = 2048
    short_decoded: int = 64
    long_decoded: int = 32

    @property
    def context(self) -> int:
        """The longest context, prompt and output together."""
        return self.long + self.short_decoded


FULL = Lengths()
QUICK = Lengths(64, 128, 8, 4)
"""Lengths to try the path with: the figures mean nothing."""


class Durations(NamedTuple):
    """Seconds until the first token, and of all the others together."""

    first: float
    others: float


class Model(Protocol):
    """An open model that continues a prompt greedily."""

    def generate(self, prompt: NDArray[np.int64], new: int) -> Durations:
        """Continue `prompt` int64 [n] in an empty cache by exactly `new` tokens."""


class Prompts:
    """Random prompts that never repeat."""

    def __init__(self, seed: int) -> None:
        self._random = np.random.default_rng(seed)

    def draw(self, length: int) -> NDArray[np.int64]:
        """Token ids int64 [length]."""
        return self._random.integers(*IDS, length)


class Ceiling:
    """What `threads` threads read from memory, in bytes a second.

    That of a virtual machine may halve or double within seconds, so it is read before and after whatever is compared
    with it, in the same process.
    """

    def __init__(self, threads: int) -> None:
        self._blocks = np.ones((threads, READ_BYTES // 8 // threads), np.uint64)
        self._pool = ThreadPoolExecutor(threads)

    @property
    def nbytes(self) -> int:
        """Resident bytes that are not the engine's."""
        return self._blocks.nbytes

    def read(self) -> float:
        """The best of a few passes: whatever disturbs a pass only makes it slower."""
        time.sleep(SETTLED)
        seconds = []
        for _ in range(READ_PASSES):
            start = time.perf_counter()
            # An OR over the words reads each byte once, at the width of vectors, and releases the GIL for all of it.
            list(self._pool.map(np.bitwise_or.reduce, self._blocks))
            seconds.append(time.perf_counter() - start)
        return self._blocks.nbytes / min(seconds)

    def beside(self, decode: Callable[[], float]) -> tuple[float, float]:
        """Call `decode`; returns its tokens a second, and the mean of the readings before and after it."""
        before = self.read()
        rate = decode()
        return rate, (before + self.read()) / 2


def measure(model: Model, prompts: Prompts, lengths: Lengths, threads: int) -> dict[str, float]:
    """Rates in tokens a second; those of decoding also as tokens for each byte that memory would have given meanwhile.

    And the peak of the process's memory without what is read for comparison.
    The first call has to have been made: it is the caller's to time.
    """
    opened = peak_memory()
    ceiling = Ceiling(threads)
    model.generate(prompts.draw(SHORT), WARM_UP)
    short = [ceiling.beside(lambda: _decode(model, prompts.draw(SHORT), lengths.short_decoded)) for _ in range(REPEATS)]
    # The long prompt goes before the one that is timed as prefill, and is what warms that up.
    long, readable = model.generate(prompts.draw(lengths.long), lengths.long_decoded + 1), ceiling.read()
    prefill = model.generate(prompts.draw(lengths.prefill), 1)
    decode_long = lengths.long_decoded / long.others
    return {
        "prefill": lengths.prefill / prefill.first,
        "prefill_long": lengths.long / long.first,
        "decode_short": statistics.median(rate for rate, _ in short),
        "decode_long": decode_long,
        "per_byte_short": statistics.median(rate / read for rate, read in short),
        "per_byte_long": decode_long / readable,
        "read_bandwidth": statistics.median(read for _, read in short),
        "peak_rss": max(opened, peak_memory() - ceiling.nbytes),
    }


def _decode(model: Model, prompt: NDArray[np.int64], tokens: int) -> float:
    return tokens / model.generate(prompt, tokens + 1).others


def greedy(step: Callable[[NDArray[np.int64]], NDArray[np.float32]], prompt: NDArray[np.int64], new: int) -> Durations:
    """Time an engine that computes but does not sample: `step` appends tokens and gives the last one's logits."""
    start = time.perf_counter()
    token = int(step(prompt).argmax())
    first = time.perf_counter()
    for _ in range(new - 1):
        token = int(step(np.array([token])).argmax())
    return Durations(first - start, time.perf_counter() - first)


def worker_arguments() -> argparse.ArgumentParser:
    """The arguments that all workers have; a worker adds its own."""
    parser = argparse.ArgumentParser()
    parser.add_argument("model", type=Path)
    parser.add_argument("--threads", type=int, default=THREADS)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--quick", action="store_const", dest="lengths", const=QUICK, default=FULL)
    return parser


def run_worker(open_model: Callable[[], Model], arguments: argparse.Namespace) -> None:
    """Open a model, measure it and print the results."""
    prompts = Prompts(arguments.seed)
    start = time.perf_counter()
    model = open_model()
    loaded = time.perf_counter()
    first = model.generate(prompts.draw(FIRST), 1).first
    result = {
        "load_seconds": loaded - start,
        "first_token_seconds": first,
        **measure(model, prompts, arguments.lengths, arguments.threads),
    }
    print_result(result)


def print_result(result: dict[str, float]) -> None:
    """Print the results as the last line of the worker's output."""
    print(json.dumps(result), flush=True)


def peak_memory() -> int:
    """Peak resident bytes of this process (Linux)."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return int(re.findall(r"VmHWM:\s+(\d+) kB", status)[0]) * 1024
