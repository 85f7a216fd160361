"""Files with our TensorRT plugins compute what the eager model does, executed on CPU through their functions."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx
import pytest
from lowered_engine import CONTEXT, LIMITS, eager, reference, semantic
from plugin_engine import ATTENTION, BLOCK, BOTH, EXPERTS, WIDE, PluginEngine, imported, opened, precision, session

from qwen3_graphs.errors import LoweringError
from qwen3_graphs.lower import lower
from qwen3_graphs.lowered import Plugins, WeightFormat

SEQUENCES = [np.random.default_rng(seed).integers(0, 90, CONTEXT - 7 * seed) for seed in range(3)]
TOLERANCE = {"fp16": 6e-3, "bf16": 5e-2}


def _error(engine: PluginEngine, *, output: str = "logits", seed: int = 0, largest_chunk: int = 20) -> float:
    """The largest difference to the eager model, over the largest value."""
    expected = reference(eager(engine.architecture, engine.formats, output), SEQUENCES)
    rows = engine.feed(SEQUENCES, seed=seed, largest_chunk=largest_chunk)
    assert len(rows) > 20
    scale = max(np.abs(array).max() for array in expected)
    return max(float(np.abs(row - expected[sequence][place]).max()) for sequence, place, row in rows) / float(scale)


@pytest.mark.parametrize("activations", ["fp16", "bf16"])
def test_attention_over_shuffled_blocks_in_random_chunks(activations):
    engine = opened(WIDE, precision(activations), ATTENTION)
    assert _error(engine) < TOLERANCE[activations]


def test_decode_with_idle_sequences():
    assert _error(opened(WIDE, precision("fp16"), ATTENTION), seed=3, largest_chunk=1) < TOLERANCE["fp16"]


def test_hidden_states_of_an_embedding_model():
    engine = opened(WIDE, precision("fp16"), ATTENTION, output="hidden")
    assert _error(engine, output="hidden") < TOLERANCE["fp16"]


@pytest.mark.parametrize(
    "weights", [WeightFormat("fp16"), WeightFormat("fp8"), WeightFormat("int4", 32), WeightFormat("int4", 128)]
)
@pytest.mark.parametrize("normalised", [True, False])
def test_experts_in_every_format(weights, normalised):
    architecture = replace(EXPERTS, norm_topk_prob=normalised, moe_intermediate_size=128, num_hidden_layers=1)
    assert _error(opened(architecture, precision("fp16", weights), BOTH)) < 2e-2
