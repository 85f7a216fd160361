"""What every worker measures, in the same order, in its own environment: so this module needs numpy alone.

A worker runs one engine in a fresh process and prints one JSON object. All prompts are random token ids, different
ones each time, because an engine may keep what it computed for a prefix.
"""

from __future__ import annotations

import argparse
import json
import re
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Protocol

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

FIRST, SHORT, WARM_UP, THREADS = 16, 16, 8, 2
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


def measure(model: Model, prompts: Prompts, lengths: Lengths) -> dict[str, float]:
    """Rates in tokens a second. The first call has to have been made: it is the caller's to time."""
    model.generate(prompts.draw(SHORT), WARM_UP)
    short = model.generate(prompts.draw(SHORT), lengths.short_decoded + 1)
    # The long prompt goes before the one that is timed as prefill, and is what warms that up.
    long = model.generate(prompts.draw(lengths.long), lengths.long_decoded + 1)
    prefill = model.generate(prompts.draw(lengths.prefill), 1)
    return {
        "prefill": lengths.prefill / prefill.first,
        "prefill_long": lengths.long / long.first,
        "decode_short": lengths.short_decoded / short.others,
        "decode_long": lengths.long_decoded / long.others,
    }


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
        **measure(model, prompts, arguments.lengths),
    }
    print_result(result)


def print_result(result: dict[str, float]) -> None:
    """Print the results as the last line of the worker's output, with the peak of its memory."""
    print(json.dumps({"peak_rss": peak_memory(), **result}), flush=True)


def peak_memory() -> int:
    """Peak resident bytes of this process (Linux)."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return int(re.findall(r"VmHWM:\s+(\d+) kB", status)[0]) * 1024
