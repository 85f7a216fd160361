"""Runs steps of engines on ONNX Runtime's CUDA provider over the stand-in: what it accepts, not what comes out."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import onnxruntime

from qwen3_runtime import Engine
from qwen3_runtime.step import Step

# Of each sequence by its block, how many tokens it is fed: ragged first prompts, single tokens with and without a gap
# between their blocks, a chunk with a past, a chunk beside a single token.
STEPS = [{0: 9, 1: 2, 2: 5}, {0: 1, 1: 1, 2: 1}, {0: 1, 2: 1}, {1: 12}, {0: 1, 1: 7}]


def drive(path: Path) -> str:
    """Feed the steps; returns what was run."""
    with Engine.open(path, max_sequences=3) as engine:
        held, io = [0, 0, 0], engine.manifest.io
        for counts in STEPS:
            tokens = sum(counts.values())
            step = Step(
                input_ids=np.arange(tokens) % io.tokenizer_vocab_size,
                query_start=np.cumsum([0, *counts.values()]).astype(np.int32),
                context_len=np.array([held[block] for block in counts], np.int32),
                block_table=np.array(list(counts), np.int32)[:, None],
                logits_rows=np.arange(tokens, dtype=np.int32),
            )
            found = engine.backend.run(step).values
            assert found.shape == (tokens, io.vocab_size), found.shape
            for block, count in counts.items():
                held[block] += count
        return f"{len(STEPS)} steps, {sum(held)} tokens"


if __name__ == "__main__":
    onnxruntime.set_default_logger_severity(3)  # without kernels there is nothing to choose the fastest of
    for engine_path in map(Path, sys.argv[1:]):
        print(f"{engine_path.name}: {drive(engine_path)}")
    print(f"{len(sys.argv) - 1} engines accepted")
