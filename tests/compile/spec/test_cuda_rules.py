"""What a spec for ONNX Runtime on CUDA may ask."""

from __future__ import annotations

import pytest
from minimal_spec import MOE, error, spec

CUDA = ("target.plugins=none", "target.provider=cuda")
WIDE = [*MOE, "model.architecture.moe_intermediate_size=128", "precision.group_size=128"]


def test_a_provider_is_enough_to_ask_for() -> None:
    precision = spec(*CUDA).precision
    assert (precision.activations, precision.kv_cache, precision.activation_quantization) == ("fp16", "fp16", "none")
    assert not spec(*CUDA).graph_precision().quantized_activations


@pytest.mark.parametrize(
    "overrides",
    [
        ["precision.weights=bf16", "precision.activations=bf16"],
        ["precision.weights=fp8", "precision.lm_head=bf16", "precision.activations=bf16"],
        ["precision.weights=fp8", "precision.fp8_scales=channel", "precision.embedding=fp16"],
        WIDE,
    ],
)
def test_what_has_operators_is_accepted(overrides: list[str]) -> None:
    assert spec(*CUDA, *overrides).target.provider == "cuda"


@pytest.mark.parametrize(
    ("overrides", "key", "words"),
    [
        (
            ["precision.activations=fp32", "precision.kv_cache=fp16"],
            "precision.activations",
            "ort on cuda supports fp16 or bf16, found 'fp32'",
        ),
        (["precision.kv_cache=bf16"], "precision.kv_cache", "expected fp16 like the activations"),
        (["precision.lm_head=bf16", "precision.embedding=int4"], "precision.lm_head", "expected fp16"),
        (["precision.kv_cache=int8"], "precision.kv_cache", "supports fp16 or bf16, found 'int8'"),
        (["precision.weights=uint4", "precision.lm_head=int8"], "precision.weights", "found 'uint4'"),
        (["precision.embedding=fp8"], "precision.embedding", "supports fp16 or bf16 or int8 or int4, found 'fp8'"),
        (["precision.activation_quantization=int8"], "precision.activation_quantization", "supports none"),
        (["precision.weights=int8", "precision.group_size=channel"], "precision.group_size", "supports 32 or 64"),
        (
            [*WIDE, "precision.weights=fp8", "precision.group_size=null", "precision.embedding=fp16"],
            "precision.weights",
            "released without fp8 experts",
        ),
        ([*WIDE, "precision.group_size=32"], "precision.group_size", "experts in groups of 64 or 128, found 32"),
        ([*WIDE, "model.architecture.norm_topk_prob=false"], "model.architecture.norm_topk_prob", "expected true"),
    ],
)
def test_what_has_no_operator_is_refused_by_name(overrides: list[str], key: str, words: str) -> None:
    line = error(*CUDA, *overrides)
    assert f" {key}: " in line
    assert words in line
