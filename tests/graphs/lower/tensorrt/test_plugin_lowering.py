"""Files with our TensorRT plugins compute what the eager model does, executed on CPU through their functions.

Covers: packed random chunks over permuted blocks, idle sequences, embedding models; fp16 and bf16; experts in fp16,
    fp8, int4; refusals. What is executed is the function of each plugin's node
Reference: the eager model with the same (dequantized) weights
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx
import pytest
from lowered_engine import CONTEXT, LIMITS, eager, reference, semantic
from plugin_engine import ATTENTION, BLOCK, BOTH, EXPERTS, WIDE, PluginEngine, imported, opened, precision, session

from qwen3_graphs.errors import LoweringError
from qwen3_graphs.formats import WeightFormat
from qwen3_graphs.lower import lower
from qwen3_graphs.lowered import Plugins

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
@pytest.mark.parametrize("normalized", [True, False])
def test_experts_in_every_format(weights, normalized):
    architecture = replace(EXPERTS, norm_topk_prob=normalized, moe_intermediate_size=128, num_hidden_layers=1)
    assert _error(opened(architecture, precision("fp16", weights), BOTH)) < 2e-2


@pytest.mark.parametrize("weights", [WeightFormat("fp16"), WeightFormat("int4", 32)])
def test_experts_before_a_dense_layer(weights):
    architecture = replace(EXPERTS, num_hidden_layers=2, intermediate_size=96, dense_layers=(1,))
    assert _error(opened(architecture, precision("fp16", weights), BOTH)) < TOLERANCE["fp16"]


def test_experts_in_bfloat16():
    shallow = replace(EXPERTS, num_hidden_layers=1)  # behind another layer, rounding may turn a router's close call
    assert _error(opened(shallow, precision("bf16", WeightFormat("int4", 32)), BOTH)) < TOLERANCE["bf16"]


def test_experts_with_the_attention_of_tensorrt_keep_the_padded_interface():
    lowered = lower(semantic(EXPERTS), "tensorrt", precision("fp16"), LIMITS, Plugins(moe=True))
    graph = lowered.model.graph
    assert [value.name for value in graph.inputs][:4] == ["input_ids", "query_len", "context_len", "logits_rows"]
    kinds = {(node.domain, node.op_type) for node in graph}
    assert {("qwen3", "Qwen3MoE"), ("trt", "TRT_Attention")} <= kinds
    assert ("qwen3", "Qwen3Attention") not in kinds


def test_interface_of_packed_steps():
    graph = lower(semantic(WIDE), "tensorrt", precision("bf16"), LIMITS, ATTENTION).model.graph
    described = {
        value.name: (value.dtype.name, [size if isinstance(size, int) else size.value for size in value.shape])
        for value in (*graph.inputs, *graph.outputs)
    }
    cache = ("BFLOAT16", ["blocks", 2, 2, BLOCK, 64])
    assert described == {
        "input_ids": ("INT64", ["T"]),
        "query_start": ("INT32", ["B+1"]),
        "context_len": ("INT32", ["B"]),
        "block_table": ("INT32", ["B", "M"]),
        "logits_rows": ("INT32", ["R"]),
        **{f"{name}.{layer}": cache for name in ("kv", "kv_out") for layer in range(2)},
        "logits": ("FLOAT", ["R", 90]),
    }


def test_equal_arguments_give_equal_bytes():
    first, second = (imported(EXPERTS, precision("fp16", WeightFormat("fp8")), BOTH) for _ in range(2))
    assert first.SerializeToString(deterministic=True) == second.SerializeToString(deterministic=True)


def test_the_checker_accepts_the_file():
    onnx.checker.check_model(imported(EXPERTS, precision("bf16", WeightFormat("int4", 32)), BOTH), full_check=True)


@pytest.mark.parametrize(
    ("target", "architecture", "formats", "plugins", "said"),
    [
        ("ort_plugins", WIDE, precision("fp16"), ATTENTION, "lowering ort_plugins has no choice of plugins"),
        ("tensorrt", replace(WIDE, head_dim=32), precision("fp16"), ATTENTION, "head_dim is 64 or 128, found 32"),
        ("tensorrt", EXPERTS, precision("fp16", WeightFormat("int8")), BOTH, "weights is one of .*, found int8"),
        ("tensorrt", EXPERTS, precision("fp16", WeightFormat("int4", 64)), BOTH, "found int4 per-group 64"),
        (
            "tensorrt",
            EXPERTS,
            replace(precision("fp16", WeightFormat("fp8")), quantized_activations=True),
            BOTH,
            "experts take float activations",
        ),
    ],
)
def test_what_the_plugins_do_not_compute_is_refused(target, architecture, formats, plugins, said):
    with pytest.raises(LoweringError, match=said):
        lower(semantic(architecture), target, formats, LIMITS, plugins)


def test_a_model_without_the_functions_cannot_be_mistaken_for_the_file():
    """ONNX Runtime has no such operators: without the functions nothing is executed, rather than something else."""
    proto = imported(WIDE, precision("fp16"), ATTENTION)
    del proto.functions[:]
    with pytest.raises(Exception, match="is not a registered function"):
        session(proto)
