"""What a lowering hands over: the padded interface, recipes for every weight, bytes that repeat."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from lowered_engine import CONTEXT, DENSE, FLOAT, LIMITS, MOE, ODD, attach, checkpoint, engine, precision, semantic
from onnx.reference import ReferenceEvaluator

from qwen3_graphs.errors import LoweringError
from qwen3_graphs.formats import WeightFormat
from qwen3_graphs.lower import LOWERINGS, lower
from qwen3_graphs.lowered import Precision

if TYPE_CHECKING:
    from qwen3_graphs.architecture import Architecture
    from qwen3_graphs.lowered import Lowered

INT4, INT8, BF16 = WeightFormat("int4", 32), WeightFormat("int8", 32), WeightFormat("bf16")
CASES = [(architecture, fmt) for architecture in (DENSE, MOE) for fmt in (FLOAT, BF16, INT8, INT4)]
every_case = pytest.mark.parametrize(
    ("architecture", "fmt"), CASES, ids=[f"{'moe' if a.is_moe else 'dense'}-{f.kind}" for a, f in CASES]
)
every_target = pytest.mark.parametrize("target", LOWERINGS)
padded_target = pytest.mark.parametrize("target", ["onnx", "ort"])


def lowered(architecture: Architecture, target: str, formats: Precision) -> Lowered:
    if target == "ort_plugins" and formats.kv_cache == "fp32":
        formats = replace(formats, kv_cache="fp16")
    if target.startswith("tensorrt"):
        formats = tensorrt_formats(formats.weights)
        architecture = replace(architecture, intermediate_size=128)  # in whole groups
    return lower(semantic(architecture), target, formats, LIMITS)


def tensorrt_formats(fmt: WeightFormat) -> Precision:
    """The nearest that TensorRT has: everything in 16 bits but the matrices, and no groups of int8."""
    activations = "bf16" if fmt.kind == "bf16" else "fp16"
    plain = WeightFormat(activations)
    matrix = {"int4": fmt, "int8": WeightFormat("int8")}.get(fmt.kind, plain)
    return Precision(matrix, matrix, plain, activations, activations, quantized_activations=False)


def described(values: list[onnx.ValueInfoProto]) -> dict[str, tuple[str, list[int | str]]]:
    return {
        value.name: (
            onnx.TensorProto.DataType.Name(value.type.tensor_type.elem_type),
            [dim.dim_param or dim.dim_value for dim in value.type.tensor_type.shape.dim],
        )
        for value in values
    }


@padded_target
@pytest.mark.parametrize(("kind", "dtype"), [("fp32", "FLOAT"), ("fp16", "FLOAT16")])
def test_inputs_and_outputs_are_the_padded_interface(target: str, kind: str, dtype: str) -> None:
    graph = ir.to_proto(lowered(DENSE, target, precision(kv_cache=kind)).model).graph
    cache = (dtype, ["B", 2, "C", 32])
    assert described(graph.input) == {
        "input_ids": ("INT64", ["B*S"]),
        "query_len": ("INT32", ["B"]),
        "context_len": ("INT32", ["B"]),
        "logits_rows": ("INT64", ["R"]),
        **{f"kv.{layer}.{part}": cache for layer in (0, 1) for part in ("key", "value")},
    }
    assert described(graph.output) == {
        "logits": ("FLOAT", ["R", 90]),
        **{f"kv_out.{layer}.{part}": cache for layer in (0, 1) for part in ("key", "value")},
    }


@pytest.mark.parametrize(("kind", "dtype"), [("fp16", "FLOAT16"), ("int8", "INT8")])
def test_inputs_and_outputs_of_ort_cpu_are_the_packed_interface(kind: str, dtype: str) -> None:
    graph = ir.to_proto(lowered(DENSE, "ort_plugins", precision(kv_cache=kind)).model).graph
    scales = {f"kv_scales.{layer}": ("FLOAT", ["blocks", 2, 2, "block"]) for layer in (0, 1)}
    assert described(graph.input) == {
        "input_ids": ("INT64", ["T"]),
        "query_start": ("INT32", ["B+1"]),
        "context_len": ("INT32", ["B"]),
        "block_table": ("INT32", ["B", "M"]),
        "logits_rows": ("INT32", ["R"]),
        "live_vocab": ("INT32", []),
        "top_k": ("INT32", []),
        **{f"kv.{layer}": (dtype, ["blocks", 2, 2, "block", 32]) for layer in (0, 1)},
        **(scales if kind == "int8" else {}),
    }
    assert described(graph.output) == {
        "logits": ("FLOAT", ["R", 90]),
        "top_values": ("FLOAT", ["R", "top_k"]),
        "top_ids": ("INT32", ["R", "top_k"]),
        "log_sum_exp": ("FLOAT", ["summed"]),
    }


@every_target
@every_case
def test_every_initializer_is_a_constant_or_the_output_of_one_recipe(
    target: str, architecture: Architecture, fmt: WeightFormat
) -> None:
    result = lowered(architecture, target, precision(fmt))
    slots = [slot for recipe in result.recipes for slot in recipe.outputs]
    names = [slot.name for slot in slots]
    assert len(names) == len(set(names))
    absent = {name for name, value in result.model.graph.initializers.items() if value.const_value is None}
    assert absent == set(names)
    for slot in slots:
        value = result.model.graph.initializers[slot.name]
        assert value.dtype == ir.DataType[slot.dtype]
        assert tuple(value.shape.numpy()) == slot.shape


@every_target
@every_case
def test_recipes_read_the_whole_checkpoint(target: str, architecture: Architecture, fmt: WeightFormat) -> None:
    recipes = lowered(architecture, target, precision(fmt)).recipes
    read = {name for recipe in recipes for entry in recipe.sources for name in entry}
    assert read == set(checkpoint(architecture))


def test_onnx_holds_standard_operators_only() -> None:
    for architecture, fmt in CASES:
        proto = attach(lowered(architecture, "onnx", precision(fmt)), architecture)
        onnx.checker.check_model(proto, full_check=True)
        assert {opset.domain for opset in proto.opset_import} == {""}


@every_case
def test_onnx_agrees_with_the_reference_evaluator(architecture: Architecture, fmt: WeightFormat) -> None:
    opened = engine(architecture, "onnx", precision(fmt), exact=True)
    caches, kept = opened.caches(2), opened.caches(2)
    feeds = {
        "input_ids": np.arange(10),
        "query_len": np.array([5, 3], np.int32),
        "context_len": np.array([0, 0], np.int32),
        "logits_rows": np.array([0, 1, 2, 3, 4, 5, 6, 7]),
        **kept,
    }
    evaluated = ReferenceEvaluator(opened.proto).run(None, feeds)
    first, second = opened.call([np.arange(5), np.arange(5, 8)], [0, 0], caches)
    np.testing.assert_allclose(np.concatenate([first, second]), evaluated[0], atol=2e-5)
    np.testing.assert_allclose(caches["kv.1.value"][0, :, :5], evaluated[4][0, :, :5], atol=2e-5)


@every_target
def test_the_number_of_nodes_does_not_grow_with_the_experts(target: str) -> None:
    few, many = (lowered(architecture, target, precision(FLOAT)).model.graph for architecture in (MOE, ODD))
    assert len(list(few)) == len(list(many))


@pytest.mark.parametrize(
    ("target", "fmt"),
    [
        ("ort", INT4),
        ("ort", INT8),
        ("ort", FLOAT),
        ("onnx", BF16),
        ("ort_plugins", INT4),
        ("ort_plugins", FLOAT),
        ("tensorrt", BF16),
    ],
)
def test_a_tied_head_shares_the_bytes_of_the_embedding(target: str, fmt: WeightFormat) -> None:
    tied = lowered(replace(DENSE, tie_word_embeddings=True), target, precision(fmt))
    readers = [recipe for recipe in tied.recipes if recipe.sources == (("model.embed_tokens.weight",),)]
    assert len(readers) == 1


def test_equal_inputs_give_equal_bytes_in_every_process() -> None:
    program = "import sys; sys.path.insert(0, sys.argv[1]); import test_lowered_interface as t; print(*t.digests())"
    command = [sys.executable, "-c", program, str(Path(__file__).parent)]
    other = subprocess.run(
        command,
        check=True,
        capture_output=True,
        text=True,
        env={"PYTHONHASHSEED": "5", "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert other.stdout.split()[-len(LOWERINGS) :] == digests()


def digests() -> list[str]:
    models = [lowered(MOE, target, precision(INT4)).model for target in LOWERINGS]
    return [hashlib.sha256(ir.to_proto(model).SerializeToString(deterministic=True)).hexdigest() for model in models]


@padded_target
@pytest.mark.parametrize(
    ("formats", "message"),
    [
        (precision(kv_cache="int8"), "kv_cache is fp32 or fp16, found int8"),
        (precision(kv_cache="bf16"), "kv_cache is fp32 or fp16, found bf16"),
        (precision(WeightFormat("int4", 48)), "weights is one of int4 per-group 32, .*, found int4 per-group 48"),
    ],
)
def test_what_no_operator_computes_is_refused(target: str, formats: Precision, message: str) -> None:
    with pytest.raises(LoweringError, match=message):
        lowered(DENSE, target, formats)


def test_onnx_refuses_half_precision_activations() -> None:
    with pytest.raises(LoweringError, match="activations are fp32, found bf16"):
        lowered(DENSE, "onnx", replace(precision(), activations="bf16"))


def test_ort_refuses_integer_experts_of_broken_groups() -> None:
    with pytest.raises(LoweringError, match="divides their inputs, found 32 for 72 inputs"):
        lowered(ODD, "ort", precision(INT4))


def test_onnx_refuses_int4_matrices_with_an_odd_number_of_outputs() -> None:
    with pytest.raises(LoweringError, match=r"even number of outputs, found 91 in lm_head\.weight"):
        lowered(ODD, "onnx", precision(INT4))


def test_an_unknown_target_is_named() -> None:
    with pytest.raises(LoweringError, match="unknown lowering 'ovx': expected one of onnx, ort, ort_plugins, tensorrt"):
        lower(semantic(DENSE), "ovx", precision(), LIMITS)


def test_position_tables_cover_the_context() -> None:
    recipes = {recipe.layout: recipe for recipe in lowered(DENSE, "ort", precision()).recipes}
    for layout in ("rope_cos", "rope_sin"):
        assert recipes[layout].sources == ()
        assert recipes[layout].outputs[0].shape == (CONTEXT, 16)
