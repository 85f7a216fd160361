"""Target ort with plugins: any packed step gives what the eager model gives, in every format; other graphs are refused.

Covers: random schedules over permuted blocks; every weight format, an int8 cache; dense, MoE, tied, untied, YaRN;
    graphs that must be refused
Reference: the eager model with the same (dequantized) weights
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import onnx_ir as ir
import pytest
import torch
from lowered_engine import (
    CONTEXT,
    DENSE,
    FLOAT,
    LIMITS,
    MIXED,
    MOE,
    ODD,
    SHALLOW,
    UNNORMALIZED,
    eager,
    precision,
    reference,
    semantic,
)
from packed_engine import PackedEngine, packed_engine, whole

from qwen3_graphs.architecture import YarnScaling
from qwen3_graphs.errors import LoweringError
from qwen3_graphs.formats import WeightFormat
from qwen3_graphs.lower import lower
from qwen3_graphs.lower.core.writer import GraphWriter
from qwen3_graphs.lower.ort_plugins.panels import add_stacked_rows

if TYPE_CHECKING:
    from collections.abc import Callable

    from qwen3_graphs.architecture import Architecture
    from qwen3_graphs.lowered import Precision

TIED = replace(DENSE, tie_word_embeddings=True)
YARN = replace(DENSE, yarn=YarnScaling(4.0, 16))
# A key on the edge between two float16 values may be rounded to the other one; measured up to 9e-5.
HALF_CACHE = 5e-4
# Codes of seven bits and a sign for each key and value; measured 1.2 %.
INT8_CACHE = 0.04
# Eight bits for each group of activations: every matrix adds noise of about 0.5 %, measured 2 to 3 % at the logits.
INT8_ACTIVATIONS = 0.08
# In a mixture of experts that noise turns a router's close call here and there, and the row is another one then.
ROUTED_ALIKE = 0.95

FLOATS = [WeightFormat("fp32"), WeightFormat("fp16"), WeightFormat("bf16")]
INTEGERS = [WeightFormat(kind, size) for kind in ("int8", "int4", "uint4") for size in (32, 64, 128)] + [
    WeightFormat("int8")
]
FLOAT8 = [WeightFormat("fp8", 128), WeightFormat("fp8")]
LENGTHS = (CONTEXT, 1, 17, 33)
SEQUENCES = [np.random.default_rng(seed).integers(0, 90, length) for seed, length in enumerate(LENGTHS)]


def name(fmt: WeightFormat) -> str:
    return f"{fmt.kind}-{fmt.group_size}" if fmt.group_size else fmt.kind


def formats(weights: WeightFormat = FLOAT, **others: WeightFormat | str) -> Precision:
    return precision(weights, **{"kv_cache": "fp16", **others})  # type: ignore[arg-type]


def error(
    engine: PackedEngine,
    *,
    block_size: int = 16,
    seed: int = 0,
    largest_chunk: int = 20,
    output: str = "logits",
    cache: torch.dtype = torch.float16,
    share: float = 1.0,
) -> float:
    """Largest difference from the eager model in a random schedule's rows, relative to the largest logit.

    Of a `share` of the rows, those that differ least.
    """
    rows = engine.feed(SEQUENCES, block_size=block_size, seed=seed, largest_chunk=largest_chunk)
    assert {sequence for sequence, _, _ in rows} >= {0, 2, 3}
    model = eager(engine.architecture, engine.formats, output, half_scales=True)
    expected = reference(model, SEQUENCES, cache)
    scale = max(np.abs(array).max() for array in expected)
    differences = [np.abs(row - expected[sequence][place]).max() for sequence, place, row in rows]
    return float(np.quantile(differences, share, method="lower") / scale)


@pytest.mark.parametrize("block_size", [1, 7, 16, 64])
@pytest.mark.parametrize(
    "architecture",
    [DENSE, TIED, YARN, MOE, MIXED, UNNORMALIZED, ODD],
    ids=["untied", "tied", "yarn", "moe", "mixed", "not-normalized", "odd"],
)
def test_any_schedule_over_permuted_blocks(architecture: Architecture, block_size: int) -> None:
    """Prefills, chunks, decodes and idle sequences in one step, in every mix."""
    engine = packed_engine(architecture, formats(), threads=2)
    for seed, chunk in ((block_size, 20), (block_size + 1, 1)):
        assert error(engine, block_size=block_size, seed=seed, largest_chunk=chunk) < HALF_CACHE


@pytest.mark.parametrize("architecture", [DENSE, TIED, MOE, MIXED, ODD], ids=["untied", "tied", "moe", "mixed", "odd"])
@pytest.mark.parametrize("fmt", FLOATS + FLOAT8 + INTEGERS, ids=name)
def test_each_format_computes_with_the_values_it_stores(architecture: Architecture, fmt: WeightFormat) -> None:
    assert error(packed_engine(architecture, formats(fmt), quantized_activations=False)) < HALF_CACHE


@pytest.mark.parametrize("architecture", [DENSE, TIED, SHALLOW], ids=["untied", "tied", "moe"])
@pytest.mark.parametrize("fmt", INTEGERS, ids=name)
def test_integer_activations_stay_near(architecture: Architecture, fmt: WeightFormat) -> None:
    share = ROUTED_ALIKE if architecture.is_moe else 1.0
    assert HALF_CACHE < error(packed_engine(architecture, formats(fmt)), share=share) < INT8_ACTIVATIONS


@pytest.mark.parametrize("architecture", [DENSE, TIED], ids=["untied", "tied"])
@pytest.mark.parametrize(
    "mixed",
    [
        formats(WeightFormat("int4", 32), lm_head=WeightFormat("int8", 32), embedding=WeightFormat("bf16")),
        formats(WeightFormat("int8", 128), lm_head=FLOAT, embedding=WeightFormat("int4", 128)),
        formats(WeightFormat("bf16"), lm_head=WeightFormat("fp16"), embedding=WeightFormat("bf16")),
        formats(WeightFormat("fp8", 128), lm_head=WeightFormat("bf16"), embedding=WeightFormat("fp8")),
        formats(WeightFormat("int8"), lm_head=WeightFormat("fp8", 128), embedding=WeightFormat("int8")),
        formats(WeightFormat("int4", 32), lm_head=WeightFormat("uint4", 64), embedding=WeightFormat("uint4", 64)),
    ],
    ids=["int4-int8-bf16", "int8-fp32-int4", "bf16-fp16-bf16", "fp8-bf16-fp8", "int8-fp8-int8", "int4-uint4-uint4"],
)
def test_matrix_head_and_embedding_have_formats_of_their_own(architecture: Architecture, mixed: Precision) -> None:
    assert error(packed_engine(architecture, mixed, quantized_activations=False)) < HALF_CACHE


def test_an_int8_cache_keeps_a_scale_for_each_head_and_token() -> None:
    engine = packed_engine(DENSE, formats(kv_cache="int8"))
    assert HALF_CACHE < error(engine, cache=torch.float32) < INT8_CACHE


def test_an_embedding_model_gives_normalized_hidden_states() -> None:
    assert error(packed_engine(TIED, formats(), output="hidden"), output="hidden") < HALF_CACHE


@pytest.mark.parametrize("fmt", [FLOAT, WeightFormat("int4", 32)], ids=name)
def test_a_sequence_does_not_depend_on_its_neighbors(fmt: WeightFormat) -> None:
    engine = packed_engine(MOE, formats(fmt))
    step, paging = whole(SEQUENCES, 16)
    together = np.split(engine.run(step, engine.caches(paging)), step.query_start[1:-1])
    for tokens, beside in zip(SEQUENCES, together, strict=True):
        alone, own = whole([tokens], 16)
        np.testing.assert_allclose(engine.run(alone, engine.caches(own)), beside, rtol=0, atol=1e-4)


def test_blocks_of_queries_and_keys_that_meet_in_a_panel_are_refused() -> None:
    matrices = [
        ir.Value(name=f"{part}_proj.weight", shape=ir.Shape([rows, 64])) for part, rows in (("q", 24), ("k", 8))
    ]
    with pytest.raises(LoweringError, match=r"\[24, 8\] outputs.* multiples of 16: use one scale per channel"):
        add_stacked_rows(GraphWriter(), WeightFormat("fp8", 128), matrices)
    assert add_stacked_rows(GraphWriter(), WeightFormat("fp8"), matrices).n == 32


@pytest.mark.parametrize("top_k", [1, 7, 90])
def test_the_head_gives_the_largest_logits_when_asked(top_k: int) -> None:
    engine = packed_engine(DENSE, formats(WeightFormat("int4", 32)))
    step, paging = whole(SEQUENCES, 16)
    alone = engine.run(step, engine.caches(paging))
    logits, values, ids, log_sum_exp = engine.run_all(step, engine.caches(paging), top_k=top_k)
    np.testing.assert_array_equal(logits, alone)
    np.testing.assert_array_equal(ids, np.argsort(-logits, axis=1, kind="stable")[:, :top_k])
    np.testing.assert_array_equal(values, np.take_along_axis(logits, ids.astype(np.int64), 1))
    np.testing.assert_allclose(log_sum_exp, np.log(np.exp(logits.astype(np.float64)).sum(1)), atol=1e-5)


def test_a_layer_is_four_operators() -> None:
    for architecture, layer in (
        (DENSE, ["Linear", "Attention", "Linear", "Linear", "Linear"]),
        (MOE, ["Linear", "Attention", "Linear", "MoE"]),
    ):
        nodes = lower(semantic(architecture), "ort_plugins", formats(), LIMITS).model.graph
        assert [node.op_type for node in nodes] == ["Embedding", *layer * 2, "Head"]


def retyped(op_type: str, other: str) -> Callable[[ir.Graph], None]:
    def change(graph: ir.Graph) -> None:
        next(node for node in graph if node.op_type == op_type).op_type = other

    return change


def rewired(op_type: str, place: int, source: str) -> Callable[[ir.Graph], None]:
    """Feed an input of the first node of a type with the output of the first node of another."""

    def change(graph: ir.Graph) -> None:
        given = next(node for node in graph if node.op_type == source).outputs[0]
        next(node for node in graph if node.op_type == op_type).replace_input_with(place, given)

    return change


def extended(graph: ir.Graph) -> None:
    """Read a value once more, in an operator that no pattern has."""
    graph.append(ir.node("Relu", [next(node for node in graph if node.op_type == "Add").outputs[0]], name="more"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (retyped("Sigmoid", "Tanh"), "should come from Sigmoid, found Tanh"),
        (retyped("Gather", "GatherND"), "should come from Gather, found GatherND"),
        (retyped("RMSNormalization", "LpNormalization"), "should come from RMSNormalization, found LpNormalization"),
        (retyped("Embedding", "Rows"), "is needed as such"),
        (retyped("Attention", "Memory"), "qwen3::Memory"),
        (rewired("Mul", 1, "Add"), "should come from Sigmoid, found Add"),
        (rewired("Attention", 0, "Embedding"), "should come from qwen3::Linear, found qwen3::Embedding"),
        (rewired("Gather", 1, "Embedding"), "should gather the rows logits_rows"),
        (extended, r"Relu \(more\) is not part of any pattern that it fuses"),
    ],
    ids=["silu", "gather", "norm", "embedding", "attention", "gate", "queries", "rows", "more"],
)
def test_a_graph_of_another_shape_is_refused(change: Callable[[ir.Graph], None], message: str) -> None:
    model = ir.from_proto(ir.to_proto(semantic(DENSE)))
    change(model.graph)
    with pytest.raises(LoweringError, match=message):
        lower(model, "ort_plugins", formats(), LIMITS)


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        (replace(formats(), activations="bf16"), "activations are fp32, found bf16"),
        (formats(kv_cache="fp32"), "kv_cache is fp16 or int8, found fp32"),
        (formats(WeightFormat("int4", 16)), "weights is one of int4 .* 32, .* 64, .* 128, found int4 per-group 16"),
        (formats(WeightFormat("uint4", 16)), "weights is one of uint4 per-group 32, .*, found uint4 per-group 16"),
        (formats(WeightFormat("int4")), "weights is one of int4 per-group 32, .*, found int4 per-channel"),
        (
            formats(lm_head=WeightFormat("fp8", 64)),
            "lm_head is one of fp8 per-block 128 x 128, .*, found fp8 per-block 64 x 64",
        ),
    ],
)
def test_what_no_operator_computes_is_refused(wanted: Precision, message: str) -> None:
    with pytest.raises(LoweringError, match=f"target ort with plugins: {message}"):
        lower(semantic(DENSE), "ort_plugins", wanted, LIMITS)
