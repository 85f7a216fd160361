"""Peak memory and time of packing, by number of layers: memory must follow the largest tensor, not the depth.

Runs each build in a process of its own, on synthetic weights at released dimensions:

    python benchmarks/build_memory.py 0.6b:4 0.6b:28 1.7b:4 1.7b:28

Prints one JSON line for each. `anonymous_mb` is the peak of memory that is not a file's (what a process needs
however little the machine has), sampled every 10 ms from /proc, above what the process had when packing began.
"""

from __future__ import annotations

import json
import multiprocessing
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Self

SPECS = {"0.6b": "qwen3-0.6b", "1.7b": "qwen3-1.7b"}


def anonymous_bytes() -> int:
    """Anonymous resident memory of this process."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) * 1024
    raise RuntimeError("/proc/self/status tells no RssAnon")


class Peak:
    """Samples memory in a thread while a block runs."""

    def __enter__(self) -> Self:
        self.before = self.highest = anonymous_bytes()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()
        return self

    def _watch(self) -> None:
        while not self._stop.wait(0.01):
            self.highest = max(self.highest, anonymous_bytes())

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()


def measure(size: str, layers: int, weights: str, threads: int) -> dict[str, object]:
    """Pack one synthetic model and say what it took."""
    from qwen3_compile.pipeline.context import BuildContext
    from qwen3_compile.pipeline.stage import run_stage
    from qwen3_compile.pipeline.stages.checkpoint import CheckpointStage
    from qwen3_compile.pipeline.stages.lower import LowerStage
    from qwen3_compile.pipeline.stages.pack import PackStage
    from qwen3_compile.pipeline.stages.trace import TraceStage
    from qwen3_compile.spec import find_spec, load_spec

    overrides = [
        "model.source=synthetic://1",
        f"model.architecture.num_hidden_layers={layers}",
        f"precision={{weights: {weights}, group_size: {32 if weights.startswith('int') else 'null'}}}",
    ]
    spec = load_spec(find_spec(SPECS[size]), overrides)
    with tempfile.TemporaryDirectory() as folder:
        build = BuildContext.of(spec, Path(folder) / "scratch", threads=threads)
        build.folder = Path(folder) / "engine"
        build.scratch.mkdir()
        build.folder.mkdir()
        for stage in (CheckpointStage, TraceStage, LowerStage):
            run_stage(stage(build))
        largest = max(2 * rows * columns for rows, columns in _matrices(build.checkpoint))
        with Peak() as peak:
            started = time.perf_counter()
            run_stage(PackStage(build))
            took = time.perf_counter() - started
    return {
        "model": size,
        "layers": layers,
        "weights": weights,
        "threads": threads,
        "weights_mb": round(build.weights_size / 1e6),
        "largest_tensor_mb": round(largest / 1e6),
        "anonymous_mb": round((peak.highest - peak.before) / 1e6),
        "seconds": round(took, 1),
    }


def _matrices(checkpoint) -> list[tuple[int, int]]:  # noqa: ANN001 - a Checkpoint, imported where it is used
    return [info.shape for info in checkpoint.tensors().values() if len(info.shape) == 2]


def _report(arguments: tuple[str, int, str, int]) -> None:
    print(json.dumps(measure(*arguments)), flush=True)


def main() -> None:
    """Measure what the arguments name: SIZE:LAYERS[:WEIGHTS[:THREADS]]."""
    context = multiprocessing.get_context("spawn")
    for argument in sys.argv[1:] or ["0.6b:4", "0.6b:28", "1.7b:4", "1.7b:28"]:
        size, layers, weights, threads = (*argument.split(":"), *("", "int4", "2")[argument.count(":") :])
        process = context.Process(target=_report, args=((size, int(layers), weights, int(threads)),))
        process.start()
        process.join()


if __name__ == "__main__":
    main()
