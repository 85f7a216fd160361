"""Prefill and decode of whole engines of several targets, alternating in one process, beside the machine's bandwidth.

Builds engines of one spec on synthetic weights, once for each target, into a folder (or takes those that are there):

    python benchmarks/engine_speed.py                       # qwen3-0.6b, int4 in groups of 32
    python benchmarks/engine_speed.py --folder engines --threads 2 --json

A round measures every engine once and then the read bandwidth; figures are medians over the rounds, so that whatever
else the machine does in between disturbs all engines alike.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from qwen3_compile.bench import read_bandwidth
from qwen3_compile.cli.bench import token_bytes
from qwen3_compile.pipeline import build
from qwen3_compile.spec import find_spec, load_spec
from qwen3_runtime import Engine
from qwen3_runtime.backends.cores import physical_cores
from qwen3_runtime.packing import Chunk, pack_step

PREFILL, SHORT, LONG, DECODED = 512, 16, 2048, 32
CONTEXT = LONG + 2 * DECODED
TARGETS = {
    "ort": "{backend: ort, plugins: none}",
    "ort-plugins": "{backend: ort, plugins: all}",
}


@dataclass
class Contender:
    """An open engine with two sequences in its cache, a short one and a long one, and what was measured of it."""

    target: str
    engine: Engine
    weights: int
    cache_per_token: int
    ids: np.ndarray
    seconds: dict[str, list[float]] = field(default_factory=dict)

    def feed(self, sequence: int, at: int, count: int) -> None:
        """Run tokens at .. at + count - 1 of a sequence in steps of at most the engine's limit."""
        geometry = self.engine.backend.cache
        blocks = geometry.num_blocks // 2
        limit = self.engine.manifest.io.max_step_tokens
        for start in range(at, at + count, limit):
            size = min(limit, at + count - start)
            used = -(-(start + size) // geometry.block_size)
            held = np.arange(sequence * blocks, sequence * blocks + used, dtype=np.int32)
            self.engine.backend.run(pack_step([Chunk(self.ids[start : start + size], start, held)], rows="last"))

    def round(self) -> None:
        """Measure a prefill, and decoding after a short and after a long context; the long one is in the cache."""
        self._time("prefill", lambda: self.feed(0, 0, PREFILL), PREFILL)
        for name, sequence, depth in (("short", 0, SHORT), ("long", 1, LONG)):
            self.feed(sequence, depth, 2)  # the step's shapes are new
            self._time(name, lambda s=sequence, d=depth: [self.feed(s, d + i, 1) for i in range(DECODED)], DECODED)

    def _time(self, name: str, work, tokens: int) -> None:  # noqa: ANN001 - any callable
        started = time.perf_counter()
        work()
        self.seconds.setdefault(name, []).append((time.perf_counter() - started) / tokens)

    def rate(self, name: str) -> float:
        """Median tokens a second."""
        return 1 / statistics.median(self.seconds[name])

    def bytes_per_token(self, context: int) -> int:
        """What decoding one token after so many reads, of weights and cache."""
        return self.weights + self.cache_per_token * (context + DECODED // 2)


def make_engine(spec_name: str, target: str, folder: Path, overrides: list[str]) -> Path:
    """Build the engine of a target, one of `TARGETS`, unless it is in the folder."""
    path = folder / f"{spec_name}-{target}"
    if not path.exists():
        settings = [
            "model.source=synthetic://1",
            f"target={TARGETS[target]}",
            "precision={weights: int4, group_size: 32, kv_cache: fp16}",
            f"limits.max_context={CONTEXT}",
            "chat.max_tokens=512",
        ]
        build(load_spec(find_spec(spec_name), [*settings, *overrides]), path, validate=False)
    return path


def open_contender(target: str, path: Path, threads: int) -> Contender:
    """Open an engine and fill its long sequence."""
    engine = Engine.open(path, threads=threads, max_sequences=2, max_context=CONTEXT)
    sizes = token_bytes(engine, path)
    ids = np.random.default_rng(0).integers(0, engine.manifest.io.tokenizer_vocab_size, CONTEXT)
    contender = Contender(target, engine, sizes.weights, sizes.cache_per_token, ids)
    contender.feed(1, 0, LONG)
    return contender


def results(contenders: list[Contender], bandwidths: list[float]) -> list[dict[str, object]]:
    """One row for each engine; shares are of the median bandwidth."""
    bandwidth = statistics.median(bandwidths)
    rows: list[dict[str, object]] = []
    for one in contenders:
        row: dict[str, object] = {"target": one.target, "prefill": round(one.rate("prefill"), 1)}
        for name, context in (("short", SHORT), ("long", LONG)):
            read = one.bytes_per_token(context)
            row[f"decode_{name}"] = round(one.rate(name), 1)
            row[f"read_{name}_mb"] = round(read / 1e6, 1)
            row[f"bandwidth_share_{name}"] = round(read * one.rate(name) / bandwidth, 3)
        rows.append(row)
    return rows


def main() -> None:
    """Build, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--spec", default="qwen3-0.6b")
    parser.add_argument("--targets", nargs="+", choices=TARGETS, default=list(TARGETS))
    parser.add_argument("--folder", type=Path, default=Path("build/engine_speed"))
    parser.add_argument("--set", action="append", default=[], dest="overrides", metavar="KEY=VALUE")
    parser.add_argument("--threads", type=int, default=physical_cores())
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    arguments.folder.mkdir(parents=True, exist_ok=True)
    paths = {
        target: make_engine(arguments.spec, target, arguments.folder, arguments.overrides)
        for target in arguments.targets
    }
    contenders = [open_contender(target, path, arguments.threads) for target, path in paths.items()]
    bandwidths = []
    for _ in range(arguments.rounds):
        for contender in contenders:
            contender.round()
        bandwidths.append(read_bandwidth(arguments.threads, repeats=3))
    rows = results(contenders, bandwidths)
    bandwidth = statistics.median(bandwidths)
    if arguments.json:
        print(json.dumps({"threads": arguments.threads, "bandwidth": round(bandwidth), "engines": rows}))
        return
    print(f"{arguments.spec}, {arguments.threads} threads, read bandwidth {bandwidth / 1e9:.1f} GB/s (tokens/s)")
    header = f"{'target':<10}{f'prefill {PREFILL}':>13}{f'decode at {SHORT}':>15}{'of bandwidth':>14}"
    print(f"{header}{f'decode at {LONG}':>16}{'of bandwidth':>14}")
    for row in rows:
        print(
            f"{row['target']:<10}{row['prefill']:>13}{row['decode_short']:>15}{row['bandwidth_share_short']:>14.1%}"
            f"{row['decode_long']:>16}{row['bandwidth_share_long']:>14.1%}"
        )


if __name__ == "__main__":
    main()
