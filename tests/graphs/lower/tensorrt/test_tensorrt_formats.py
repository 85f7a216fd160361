"""The file that TensorRT imports computes with the values that its formats store.

Covers: fp8, int8, int4, quantized activations, AWQ pre-scales
Reference: the eager model with the same (dequantized) weights and quantized activations
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from conversation import SEQUENCES, Conversation
from lowered_engine import DENSE, SHALLOW, checkpoint, eager, reference, relative_error, semantic, stored
from lowered_engine import LIMITS as SIZES
from onnx.reference import ReferenceEvaluator
from rounded_inputs import calibrated, rounded
from tensorrt_engine import AS_WRITTEN, executed, imported, precision

from qwen3_graphs.errors import LoweringError
from qwen3_graphs.formats import WeightFormat
from qwen3_graphs.lower import lower
from qwen3_graphs.lowered import Precision

if TYPE_CHECKING:
    from qwen3_graphs.architecture import Architecture

WHOLE = replace(DENSE, hidden_size=128, intermediate_size=128)  # whole groups of 128
TIED = replace(WHOLE, tie_word_embeddings=True)
INT8, FP8, FP8_TENSOR = WeightFormat("int8"), WeightFormat("fp8"), WeightFormat("fp8", per_tensor=True)
FORMATS = [None, INT8, FP8, FP8_TENSOR, *(WeightFormat("int4", size) for size in (32, 64, 128))]
WITH_QUANTIZED_ACTIVATIONS = [INT8, FP8, FP8_TENSOR]
PROMPTS = [np.random.default_rng(seed).integers(0, 90, 20) for seed in range(3)]

# As in the steps: rounding of hidden states. In bfloat16 a router's close call may turn, and with it a whole row.
LIMITS = {"fp16": 4e-3, "bf16": 4e-2}


def name(fmt: WeightFormat | None) -> str:
    if fmt is None:
        return "plain"
    return fmt.kind + (f"-{fmt.group_size}" if fmt.group_size else "") + ("-tensor" if fmt.per_tensor else "")


def row_errors(conversation: Conversation) -> np.ndarray:
    """Largest difference of each row over the largest value of all."""
    formats = conversation.engine.formats
    used = [i for i in range(3) if conversation.context[i]]
    dtype = {"fp16": torch.float16, "bf16": torch.bfloat16}[formats.activations]
    model = eager(conversation.engine.architecture, formats)
    expected = np.concatenate(reference(model, [SEQUENCES[i][: conversation.context[i]] for i in used], dtype))
    found = np.concatenate([row for i in used for row in conversation.outputs[i]])
    return np.abs(found - expected).max(axis=-1) / np.abs(expected).max()


def mean_error(found: list[np.ndarray], expected: list[np.ndarray]) -> float:
    """Where inputs are rounded to eight bits, a difference in sixteen turns a few: the largest error says little."""
    return float(np.abs(np.concatenate(found) - np.concatenate(expected)).mean())


@pytest.mark.parametrize("activations", ["fp16", "bf16"])
@pytest.mark.parametrize("architecture", [WHOLE, TIED, SHALLOW], ids=["untied", "tied", "moe"])
@pytest.mark.parametrize("fmt", FORMATS, ids=name)
def test_each_format(activations: str, architecture: Architecture, fmt: WeightFormat | None) -> None:
    conversation = Conversation(executed(architecture, precision(activations, fmt)))
    conversation.step({0: 9, 1: 5, 2: 6})
    conversation.step({0: 1, 1: 1, 2: 1})
    errors = row_errors(conversation)
    turned = 0.1 if architecture.is_moe and activations == "bf16" else 0
    assert np.quantile(errors, 1 - turned) < LIMITS[activations]


@pytest.mark.parametrize("architecture", [WHOLE, TIED], ids=["untied", "tied"])
@pytest.mark.parametrize("head", [INT8, FP8_TENSOR, WeightFormat("int4", 64)], ids=name)
def test_the_head_has_a_format_of_its_own(architecture: Architecture, head: WeightFormat) -> None:
    conversation = Conversation(executed(architecture, precision("fp16", WeightFormat("int4", 32), lm_head=head)))
    conversation.step({0: 9, 1: 5})
    assert row_errors(conversation).max() < LIMITS["fp16"]


@pytest.mark.parametrize("fmt", WITH_QUANTIZED_ACTIVATIONS, ids=name)
def test_every_matrix_multiplies_with_rounded_inputs(fmt: WeightFormat) -> None:
    """Compares each product in the file with float64 arithmetic on the very input that it had there."""
    formats = replace(precision("fp16", fmt), quantized_activations=True)
    scales = calibrated(DENSE, formats, PROMPTS)
    proto = imported(DENSE, formats, calibrated=scales)
    inputs = {
        "self_attn.q_proj": "layers.1.input_layernorm.rmsnormalization",
        "self_attn.o_proj": "layers.1.self_attn.attention",
        "mlp.up_proj": "layers.1.post_attention_layernorm.rmsnormalization",
        "mlp.down_proj": "layers.1.mlp.mul_1",
    }
    products = {f"layers.1.{matrix}": f"layers.1.{matrix}.linear" for matrix in inputs}
    shown = [*inputs.values(), *products.values()]
    proto.graph.output.extend(
        onnx.helper.make_tensor_value_info(value, onnx.TensorProto.FLOAT16, None) for value in shown
    )
    values = dict(zip(shown, _run(proto, shown), strict=True))
    model = eager(DENSE, formats).state_dict()
    for matrix, source in inputs.items():
        x, scale = values[source].astype(np.float32), scales[f"model.layers.1.{matrix}.input_scale"]
        codes = np.clip(np.rint(x / scale), -128, 127).astype(np.float64)
        if fmt.kind == "fp8":
            codes = torch.from_numpy(x / scale).clamp(-448, 448).to(torch.float8_e4m3fn).double().numpy()
        expected = codes * scale @ model[f"model.layers.1.{matrix}.weight"].double().numpy().T
        found = values[products[f"layers.1.{matrix}"]]
        plain = x @ model[f"model.layers.1.{matrix}.weight"].double().numpy().T
        np.testing.assert_allclose(found, expected, rtol=2e-3, atol=1e-3 * np.abs(expected).max())
        assert np.abs(plain - expected).max() > 4e-3 * np.abs(expected).max()


def _run(proto: onnx.ModelProto, names: list[str]) -> list[np.ndarray]:
    options = ort.SessionOptions()
    options.graph_optimization_level = getattr(ort.GraphOptimizationLevel, AS_WRITTEN)
    session = ort.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])
    shapes = {item.name: item.shape for item in session.get_inputs() if item.name.startswith("kv.")}
    feeds = {
        "input_ids": PROMPTS[0][None],
        "query_len": np.array([20], np.int32),
        "context_len": np.array([0], np.int32),
        "logits_rows": np.arange(20),
        **{key: np.zeros((1, *shape[1:]), np.float16) for key, shape in shapes.items()},
    }
    return list(session.run(names, feeds))


@pytest.mark.parametrize("fmt", WITH_QUANTIZED_ACTIVATIONS, ids=name)
@pytest.mark.parametrize("part", ["experts", "head"])
def test_rounded_inputs_of_experts_and_of_the_head(part: str, fmt: WeightFormat) -> None:
    formats = replace(precision("fp16", fmt if part == "experts" else None, lm_head=fmt), quantized_activations=True)
    architecture = SHALLOW if part == "experts" else TIED
    scales = calibrated(architecture, formats, PROMPTS)
    opened = executed(architecture, formats, calibrated=scales)
    found = opened.call(PROMPTS, [0, 0, 0], opened.caches(3))
    with_rounding = reference(rounded(architecture, formats, scales), PROMPTS)
    without = reference(eager(architecture, formats), PROMPTS)
    assert mean_error(found, with_rounding) < mean_error(without, with_rounding) / 1.5


def test_inputs_scaled_before_four_bit_matrices() -> None:
    """AWQ: columns divided by what the inputs are multiplied with, so that the product is that of the float matrix."""
    matrix = "model.layers.0.self_attn.q_proj.weight"
    formats = replace(precision("fp16", WeightFormat("int4", 32)), pre_scaled=(matrix,))
    factors = np.random.default_rng(3).uniform(0.5, 2, WHOLE.hidden_size).astype(np.float32)
    opened = executed(WHOLE, formats, calibrated={matrix.removesuffix("weight") + "pre_quant_scale": factors})
    found = opened.call(PROMPTS, [0, 0, 0], opened.caches(3))
    model = eager(WHOLE, formats)
    model.state_dict()[matrix].mul_(torch.from_numpy(factors.astype(np.float16).astype(np.float32)))
    assert relative_error(found, reference(model, PROMPTS)) < LIMITS["fp16"]
    assert relative_error(found, reference(eager(WHOLE, formats), PROMPTS)) > 10 * LIMITS["fp16"]


@pytest.mark.parametrize("fmt", [None, INT8, FP8, WeightFormat("int4", 128)], ids=name)
def test_a_layer_of_real_size(fmt: WeightFormat | None) -> None:
    real = replace(
        DENSE,
        hidden_size=1024,
        intermediate_size=3072,
        num_hidden_layers=1,
        num_attention_heads=16,
        num_key_value_heads=8,
        head_dim=128,
        rope_theta=1e6,
        tie_word_embeddings=True,
    )
    conversation = Conversation(executed(real, precision("bf16", fmt)))
    conversation.step({0: 20, 1: 7})
    conversation.step({0: 1, 1: 1})
    assert row_errors(conversation).max() < LIMITS["bf16"]


@pytest.mark.parametrize("activations", ["fp16", "bf16"])
@pytest.mark.parametrize("fmt", [INT8, FP8, WeightFormat("int4", 32)], ids=name)
def test_the_file_means_the_same_at_every_level_of_optimization(fmt: WeightFormat, activations: str) -> None:
    formats = replace(precision(activations, fmt), quantized_activations=fmt.kind != "int4")
    scales = calibrated(WHOLE, formats, PROMPTS) if formats.quantized_activations else {}
    answers = []
    for level in ("ORT_DISABLE_ALL", AS_WRITTEN, "ORT_ENABLE_EXTENDED", "ORT_ENABLE_ALL"):
        opened = executed(WHOLE, formats, calibrated=scales, level=level)
        answers.append(np.concatenate(opened.call(PROMPTS, [0, 0, 0], opened.caches(3))))
    for answer in answers[1:]:
        np.testing.assert_array_equal(answer, answers[0])


@pytest.mark.parametrize("activations", ["fp16", "bf16"])
@pytest.mark.parametrize("architecture", [WHOLE, SHALLOW], ids=["dense", "moe"])
def test_the_file_is_valid_onnx(architecture: Architecture, activations: str) -> None:
    onnx.checker.check_model(imported(architecture, precision(activations, WeightFormat("int4", 32))), full_check=True)


@pytest.mark.parametrize("activations", ["fp16", "bf16"])
@pytest.mark.parametrize("fmt", [None, INT8, WeightFormat("int4", 32)], ids=name)
def test_the_file_agrees_with_the_reference_evaluator(fmt: WeightFormat | None, activations: str) -> None:
    opened = executed(WHOLE, precision(activations, fmt))
    caches = opened.caches(2)
    feeds = {
        "input_ids": np.arange(10).reshape(2, 5),
        "query_len": np.array([5, 3], np.int32),
        "context_len": np.array([0, 0], np.int32),
        "logits_rows": np.arange(8),
        **opened.caches(2),
    }
    evaluated = ReferenceEvaluator(opened.proto).run(None, feeds)[0]
    found = opened.call([np.arange(5), np.arange(5, 8)], [0, 0], caches)
    # The two sum in other orders before they round.
    assert relative_error([np.concatenate(found)], [evaluated]) < LIMITS[activations] / 4


def test_scales_that_tensorrt_reads_are_above_zero() -> None:
    proto = imported(WHOLE, precision("bf16", WeightFormat("int4", 32), lm_head=INT8))
    scales = [tensor for tensor in proto.graph.initializer if tensor.name.endswith("column_scales")]
    assert len(scales) == 2 * 7 + 1
    for tensor in scales:
        assert (onnx.numpy_helper.to_array(tensor).astype(np.float32) > 0).all()


def test_stored_values_need_no_more_than_their_scales() -> None:
    """Codes and scales in the file stand for the values that the eager model was given."""
    proto = imported(WHOLE, precision("fp16", FP8))
    held = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in proto.graph.initializer}
    source = "model.layers.0.mlp.down_proj.weight"
    values = held[f"{source}.columns"].astype(np.float32) * held[f"{source}.column_scales"]
    np.testing.assert_array_equal(values.T, stored(checkpoint(WHOLE)[source], FP8, "fp16"))


@pytest.mark.parametrize(
    ("formats", "message"),
    [
        (replace(precision("fp16"), activations="fp32"), "activations are fp16 or bf16, found fp32"),
        (replace(precision("fp16"), kv_cache="bf16"), "kv_cache has the type of the activations, fp16, found bf16"),
        (replace(precision("bf16"), embedding=INT8), "embedding has the type of the activations, bf16, found int8"),
        (precision("bf16", WeightFormat("fp16")), "weights is one of bf16, fp8, int8, int4, found fp16"),
        (precision("fp16", WeightFormat("uint4", 64)), r"weights is one of .*, found uint4"),
        (
            precision("fp16", WeightFormat("fp8", 128)),
            "is one of fp8 per-channel, fp8 per-tensor, found fp8 per-block",
        ),
        (precision("fp16", WeightFormat("int8", 32)), "weights is one of int8 per-channel, found int8 per-group 32"),
        (
            precision("fp16", WeightFormat("int4", 256)),
            "is one of int4 per-group 32, .*, found int4 per-group 256",
        ),
        (precision("fp16", WeightFormat("int4", 128)), "divides the inputs, found 128 for 64 inputs of model.layers.0"),
    ],
)
def test_what_tensorrt_has_no_layer_for_is_refused(formats: Precision, message: str) -> None:
    with pytest.raises(LoweringError, match=f"target tensorrt: {message}|target tensorrt: .*{message}"):
        lower(semantic(DENSE), "tensorrt", formats, SIZES)


@pytest.mark.parametrize("target", ["onnx", "ort", "ort_plugins"])
def test_other_targets_refuse_scaled_inputs(target: str) -> None:
    plain = WeightFormat("fp32")
    cache = "fp16" if target == "ort_plugins" else "fp32"
    formats = Precision(plain, plain, plain, "fp32", cache, pre_scaled=("model.layers.0.mlp.up_proj.weight",))
    with pytest.raises(LoweringError, match=r"target .*: no matrix can have a pre_quant_scale"):
        lower(semantic(DENSE), target, formats, SIZES)
