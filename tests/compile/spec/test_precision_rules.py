"""Which number formats, scales and roundings a spec may combine, and what the graphs package is told of them."""

import pytest
from minimal_spec import MOE, error, spec

from qwen3_graphs.formats import WeightFormat


@pytest.mark.parametrize(
    ("overrides", "weights", "head", "quantized_activations"),
    [
        (["weights=fp8"], WeightFormat("fp8", 128), WeightFormat("fp8", 128), False),
        (["weights=fp8", "fp8_scales=channel", "lm_head=bf16"], WeightFormat("fp8"), WeightFormat("bf16"), False),
        (["weights=fp8", "lm_head=int8"], WeightFormat("fp8", 128), WeightFormat("int8", 32), True),
        (["weights=int8", "group_size=channel"], WeightFormat("int8"), WeightFormat("int8"), True),
        (["weights=int8", "group_size=64"], WeightFormat("int8", 64), WeightFormat("int8", 64), True),
        (["activation_quantization=none"], WeightFormat("int4", 32), WeightFormat("int4", 32), False),
        (["weights=fp32"], WeightFormat("fp32"), WeightFormat("fp32"), False),
    ],
)
def test_scales_and_rounding_reach_the_graphs_package(overrides, weights, head, quantized_activations):
    found = spec(*(f"precision.{override}" for override in overrides)).graph_precision()
    assert (found.weights, found.lm_head, found.quantized_activations) == (weights, head, quantized_activations)


def test_a_standard_graph_rounds_no_inputs_unless_it_is_asked_for():
    assert spec("target.backend=onnx").precision.activation_quantization == "none"
    asked = spec("target.backend=onnx", "precision.activation_quantization=int8")
    assert asked.precision.activation_quantization == "int8"


@pytest.mark.parametrize(
    ("overrides", "key", "words"),
    [
        (
            ["precision.group_size=channel"],
            "precision.group_size",
            "int4 (weights, lm_head, embedding) needs 32, 64 or",
        ),
        (["precision.fp8_scales=block"], "precision.fp8_scales", "no format is fp8, found 'block' for int4"),
        (
            ["precision.weights=fp8", "model.architecture.head_dim=12", "model.architecture.num_key_value_heads=1"],
            "precision.fp8_scales",
            "num_key_value_heads * head_dim (12) to be a multiple of 16: use channel",
        ),
        (
            ["precision.weights=fp8", "precision.activation_quantization=int8"],
            "precision.activation_quantization",
            "only activations of integer matrices are quantized, found 'int8' for fp8",
        ),
        (
            ["target.backend=onnx", "precision.activation_quantization=fp8"],
            "precision.activation_quantization",
            "onnx supports none or int8, found 'fp8'",
        ),
        (
            [*MOE, "target.plugins=none", "precision.weights=int8", "precision.activation_quantization=none"],
            "precision.activation_quantization",
            "always quantizes the activations of int8 experts",
        ),
        (
            ["target.plugins=none", "precision.weights=int8", "precision.group_size=channel"],
            "precision.group_size",
            "ort supports 32 or 64 or 128, found 'channel' (which ort with plugins or onnx does)",
        ),
        (
            ["target.backend=onnx", "precision.lm_head=fp8", "precision.embedding=int4"],
            "precision.lm_head",
            "found 'fp8' (which ort with plugins does)",
        ),
    ],
)
def test_formats_that_do_not_hold_together_are_named(overrides, key, words):
    line = error(*overrides)
    assert key in line
    assert words in line
