"""Does a TensorRT engine compute on its GPU what ONNX Runtime computes on the CPU of the same file?

The first thing to run on a machine with a GPU (docs/gpu-bringup.md). It builds an engine of one layer, or takes one
that is there, and feeds both the same steps, the simplest first, so that the first step that fails says what TensorRT
means by the graph:

    python benchmarks/gpu_check.py                                # one layer of qwen3-0.6b
    python benchmarks/gpu_check.py --engine build/qwen3-0.6b      # an engine that is there
    python benchmarks/gpu_check.py --set target.backend=tensorrt  # the full TensorRT; likewise other keys of the spec

The CPU's half runs anywhere: `--cpu-only`.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from qwen3_compile.pipeline import build
from qwen3_compile.spec import find_spec, load_spec
from qwen3_graphs.errors import Qwen3Error
from qwen3_runtime.backends import open_backend
from qwen3_runtime.backends.tensorrt import open_tensorrt
from qwen3_runtime.directory import read_engine_directory
from qwen3_runtime.packing import Chunk, pack_step

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from qwen3_runtime.step import Backend

    Results = dict[str, NDArray[np.float32]]  # by check

ONE_LAYER = (
    "model.source=synthetic://0",
    "model.architecture.num_hidden_layers=1",
    "target.backend=tensorrt-rtx",
    "precision.weights=fp16",
    "precision.lm_head=fp16",
    "precision.embedding=fp16",
    "precision.group_size=null",
    "limits.max_context=2048",
    "limits.max_batch=4",
    "limits.max_step_tokens=64",
)
SEQUENCES = 4
# Of the largest logit. Both sides round hidden states to the type of the activations, in other places.
TOLERANCE = {"float16": 0.01, "bfloat16": 0.06}

Feed = dict[int, tuple[int, int]]  # by sequence: tokens that are in its cache, new tokens


@dataclass(frozen=True)
class Check:
    """Steps, the last of which is compared, all its rows.

    Attributes:
        name: what the last step does.
        meaning: what is wrong where this is the first check that fails.
        steps: what is fed, in order; every check begins with the caches as the one before left them.
    """

    name: str
    meaning: str
    steps: tuple[Feed, ...]


CHECKS = (
    Check("one token", "weights, norms, rotation at position 0, or the head", ({0: (0, 1)},)),
    Check(
        "a prompt of 9 tokens",
        "the causal mask, or rotation beyond position 0",
        ({0: (0, 9)},),
    ),
    Check(
        "one more token after it",
        "the causal mask is aligned with the upper left corner, or with the cache's capacity, and not with the lower "
        "right corner of the keys that there are; or key lengths, or where the cache is updated",
        ({0: (0, 9)}, {0: (9, 1)}),
    ),
    Check(
        "5 more tokens after 9",
        "the causal mask among several rows that have a past",
        ({0: (0, 9)}, {0: (9, 5)}),
    ),
    Check(
        "prompts of 9, 7 and 7 tokens together",
        "padding: lengths count it, and rows before it must not see it",
        ({0: (0, 9), 1: (0, 7), 2: (0, 7)},),
    ),
    Check(
        "one token each after 9, 5 and 2",
        "key lengths of a batch, sequence by sequence",
        ({0: (0, 9)}, {1: (0, 5)}, {2: (0, 2)}, {0: (9, 1), 1: (5, 1), 2: (2, 1)}),
    ),
    Check(
        "a short prompt where a long one was",
        "keys beyond the length are read",
        ({0: (0, 20)}, {0: (0, 3)}, {0: (3, 1)}),
    ),
    Check(
        "the 1st to 8th token after a prompt, by one CUDA graph",
        "a replayed graph reads old inputs, lengths or addresses; --no-graphs tells",
        ({3: (0, 4)}, *({3: (4 + i, 1)} for i in range(8))),
    ),
    Check(
        "a prompt after decoding, and one more token",
        "contexts of the two profiles disturb each other",
        ({0: (0, 6)}, {0: (6, 1)}, {1: (0, 7)}, {0: (7, 1), 1: (7, 1)}),
    ),
)


def run_check(backend: Backend, check: Check, tokens: NDArray[np.int64]) -> NDArray[np.float32]:
    """Run a check's steps; the rows of the last, float32 [R, width].

    Args:
        backend: of an engine with at least `SEQUENCES` sequences.
        check: what to feed.
        tokens: int64 [SEQUENCES, n], what each sequence says.
    """
    cache = backend.cache
    held = cache.num_blocks // SEQUENCES
    rows = np.empty((0, 0), np.float32)
    for feed in check.steps:
        chunks = [
            Chunk(tokens[i, past : past + new], past, np.arange(i * held, (i + 1) * held, dtype=np.int32))
            for i, (past, new) in feed.items()
        ]
        rows = backend.run(pack_step(chunks, rows="all")).values.copy()
    return rows


def difference(found: NDArray[np.float32], expected: NDArray[np.float32]) -> float:
    """Largest difference of two results over the largest expected value; NaN where one of them is not a number."""
    return float(np.abs(found - expected).max() / np.abs(expected).max())


def compare(found: Results, expected: Results, limit: float) -> bool:
    """Print a line for each check, and of the first that fails what that means; whether all agree."""
    good = True
    for check in CHECKS:
        worst = difference(found[check.name], expected[check.name])
        agrees = worst <= limit
        print(f"{'ok  ' if agrees else 'FAIL'} {worst:8.1e} of {limit:.0e}  {check.name}")
        if good and not agrees:
            print(f"     the first to fail: {check.meaning}")
        good = good and agrees
    return good


def results(path: Path, *, on_cpu: bool, graphs: bool = True) -> Results:
    """Open an engine and run every check on it."""
    manifest = read_engine_directory(path)
    tokens = np.random.default_rng(0).integers(0, manifest.io.tokenizer_vocab_size, (SEQUENCES, 64))
    room = {"max_sequences": SEQUENCES, "max_context": manifest.io.max_context}
    if on_cpu:
        backend = open_backend(path, manifest, threads=None, on_cpu=True, **room)
    else:
        backend = open_tensorrt(path, manifest, graphs=graphs, **room)
    try:
        return {check.name: run_check(backend, check, tokens) for check in CHECKS}
    finally:
        backend.close()


def one_layer_engine(folder: Path, spec: str, overrides: list[str]) -> Path:
    """Build an engine of one layer on synthetic weights."""
    build(load_spec(find_spec(spec), [*ONE_LAYER, *overrides]), folder / "engine", validate=False)
    return folder / "engine"


def main() -> None:
    """Compare, and exit with 1 where the two differ."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--engine", type=Path, help="an engine for at least 4 sequences, instead of building one")
    parser.add_argument("--spec", default="qwen3-0.6b", help="whose layer to build")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="of the spec")
    parser.add_argument("--cpu-only", action="store_true", help="run the CPU's half alone")
    parser.add_argument("--no-graphs", action="store_true", help="queue every step anew, without CUDA graphs")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        try:
            path = options.engine or one_layer_engine(Path(folder), options.spec, options.set)
            limit = TOLERANCE[read_engine_directory(path).io.cache_dtype]
            expected = results(path, on_cpu=True)
            if options.cpu_only:
                print(f"the CPU's half of {len(CHECKS)} checks ran")
                return
            found = results(path, on_cpu=False, graphs=not options.no_graphs)
        except Qwen3Error as error:
            sys.exit(f"error: {error}")
    if not compare(found, expected, limit):
        sys.exit(1)


if __name__ == "__main__":
    main()
