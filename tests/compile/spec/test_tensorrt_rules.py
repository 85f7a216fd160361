"""What a spec for TensorRT may ask: defaults, and every pair that NVIDIA's builder refuses, named before any work.

Covers: architectures, formats, groups, types, shapes, profiles, plugins
Reference: refusals of NVIDIA's builder seen by hand; its documentation for the full TensorRT
"""

from itertools import pairwise

import pytest
from minimal_spec import MOE, error, errors, spec

from qwen3_compile.targets import default_target
from qwen3_compile.targets.tensorrt.capabilities import has_formats
from qwen3_graphs.formats import WeightFormat

RTX, FULL = "target.backend=tensorrt-rtx", "target.backend=tensorrt"
CAPABILITIES = "target.compute_capabilities"


def test_a_backend_is_enough_to_ask_for():
    target = spec(RTX).resolved()["target"]
    assert target == {
        "backend": "tensorrt-rtx",
        "provider": "cuda",
        "compute_capabilities": ["8.0", "8.6", "8.9", "12.0"],
        "plugins": "none",
        "profiles": {"prefill_batch": 1, "prefill_tokens": 512, "decode_batch": 4},
    }
    precision = spec(RTX).precision
    assert (precision.activations, precision.kv_cache, precision.activation_quantization) == ("fp16", "fp16", "none")


def test_profiles_follow_the_limits_and_can_be_set():
    profiles = spec(RTX, "limits.max_batch=8", "limits.max_step_tokens=64", "target.profiles.decode_batch=2")
    assert profiles.target.profiles.model_dump() == {"prefill_batch": 1, "prefill_tokens": 64, "decode_batch": 2}


@pytest.mark.parametrize(
    ("weights", "capabilities"),
    [
        ("fp16", ["8.0", "8.6", "8.9", "12.0"]),
        ("int4", ["8.0", "8.6", "8.9", "12.0"]),
        ("fp8", ["8.9", "12.0"]),
    ],
)
def test_only_architectures_with_the_formats_are_built_for(weights, capabilities):
    assert spec(RTX, f"precision.weights={weights}").target.compute_capabilities == capabilities


def test_the_full_tensorrt_builds_for_the_gpu_of_the_machine():
    found = spec(FULL)
    assert found.target.compute_capabilities == []
    assert spec(FULL, f"{CAPABILITIES}=['9.0']").target.compute_capabilities == ["9.0"]


@pytest.mark.parametrize(
    ("precision", "weights", "quantized_activations"),
    [
        (["weights=fp8"], WeightFormat("fp8"), False),
        (["weights=fp8", "fp8_scales=tensor"], WeightFormat("fp8", per_tensor=True), False),
        (["weights=fp8", "activation_quantization=fp8"], WeightFormat("fp8"), True),
        (["weights=int8", "activation_quantization=int8"], WeightFormat("int8"), True),
        (["weights=int4", "group_size=128"], WeightFormat("int4", 128), False),
        (["weights=bf16", "activations=bf16"], WeightFormat("bf16"), False),
    ],
)
def test_formats_reach_the_graphs_package(precision, weights, quantized_activations):
    found = spec(RTX, *(f"precision.{text}" for text in precision)).graph_precision()
    assert (found.weights, found.quantized_activations) == (weights, quantized_activations)


@pytest.mark.parametrize(
    ("overrides", "key", "words"),
    [
        # Architectures.
        ([f"{CAPABILITIES}=['9.0']"], CAPABILITIES, "found '9.0' (which tensorrt has)"),
        ([f"{CAPABILITIES}=['10.0']"], CAPABILITIES, "found '10.0' (which tensorrt has)"),
        ([f"{CAPABILITIES}=['7.0']"], CAPABILITIES, "builds for 7.5, 8.0, 8.6, 8.9, 12.0, 12.1, found '7.0'"),
        ([f"{CAPABILITIES}=['8.9', '8.9']"], CAPABILITIES, "8.9 is named twice"),
        ([f"{CAPABILITIES}=[]"], CAPABILITIES, "at least one"),
        ([f"{CAPABILITIES}=['sm89']"], f"{CAPABILITIES}.0", "found 'sm89'"),
        ([f"{CAPABILITIES}=8.9"], CAPABILITIES, "expected a list, found 8.9"),
        (["precision.calibration_prompts=[]"], "precision.calibration_prompts", "expected at least one, found []"),
        # Formats that an architecture lacks.
        (
            [
                "precision.weights=fp8",
                "precision.lm_head=fp16",
                f"{CAPABILITIES}=['8.0', '8.9']",
            ],
            "precision.weights",
            "fp8 needs compute capability 8.9, target.compute_capabilities names 8.0",
        ),
        (
            ["precision.lm_head=fp16", f"{CAPABILITIES}=['7.5']"],
            "precision.weights",
            "int4 needs compute capability 8.0",
        ),
        (
            [*MOE, "precision.weights=fp16", f"{CAPABILITIES}=['7.5', '8.9']"],
            CAPABILITIES,
            "a mixture of experts needs compute capability 8.0, found 7.5: remove it",
        ),
        (
            [
                "precision.weights=fp16",
                "model.architecture.head_dim=64",
                "target.plugins=[attention]",
                f"{CAPABILITIES}=['7.5']",
            ],
            CAPABILITIES,
            "the plugins have kernels for 8.0, 8.6, 8.9, 9.0, 10.0, 10.3, 12.0, 12.1, found 7.5",
        ),
        # Types.
        (["precision.weights=fp16", "precision.kv_cache=bf16"], "precision.kv_cache", "expected fp16"),
        (["precision.embedding=int4"], "precision.embedding", "supports fp16 or bf16, found 'int4'"),
        (["precision.kv_cache=int8"], "precision.kv_cache", "supports fp16 or bf16, found 'int8'"),
        (
            ["precision.lm_head=bf16"],
            "precision.lm_head",
            "expected fp16 like the activations",
        ),
        (
            ["precision.weights=fp8", "precision.fp8_scales=block"],
            "precision.fp8_scales",
            "channel or tensor, found 'block'",
        ),
        (
            ["precision.activation_quantization=int8"],
            "precision.activation_quantization",
            "int8 activations need int8 weights",
        ),
        (
            ["precision.activation_quantization=fp8"],
            "precision.activation_quantization",
            "fp8 activations need fp8 weights",
        ),
        (
            ['precision.calibration_prompts=["Hello"]'],
            "precision.calibration_prompts",
            "only scales of quantized activations are measured",
        ),
        (
            ["precision.lm_head=int8"],
            "precision.group_size",
            "int8 (lm_head) is per-channel with TensorRT, found groups of 128: use another format for lm_head",
        ),
        (
            ["precision.weights=fp8", "precision.lm_head=int8", "precision.activation_quantization=fp8"],
            "precision.lm_head",
            "with fp8 activations expected fp8 or fp16, found 'int8'",
        ),
        # Shapes.
        (
            ["precision.group_size=128", "model.architecture.hidden_size=192"],
            "precision.group_size",
            "hidden_size (192)",
        ),
        (
            [
                "precision.group_size=128",
                "model.architecture.num_attention_heads=2",
                "model.architecture.num_key_value_heads=1",
            ],
            "precision.group_size",
            "num_attention_heads * head_dim (64)",
        ),
        (["precision.group_size=128", *MOE], "precision.group_size", "moe_intermediate_size (64)"),
        # Kernels and profiles.
        (["target.plugins=[moe]"], "target.plugins", "a dense model has no experts"),
        (["target.plugins=[attention]"], "target.plugins", "kernels for a head_dim of 64 or 128, found 32"),
        (
            [*MOE, "target.plugins=[moe]", "precision.weights=int8"],
            "target.plugins",
            "fp16, bf16, fp8, int4, found weights",
        ),
        (
            [*MOE, "target.plugins=[moe]", "precision.group_size=64"],
            "precision.group_size",
            "kernels for int4 in groups of 32 or 128, found 64",
        ),
        (
            [*MOE, "target.plugins=[moe]", "precision.weights=fp8", "precision.activation_quantization=fp8"],
            "precision.activation_quantization",
            "the moe plugin does not quantize activations, found 'fp8'",
        ),
        (["target.profiles.decode_batch=5"], "target.profiles.decode_batch", "at most limits.max_batch (4), found 5"),
        (["target.profiles.prefill_tokens=513"], "target.profiles.prefill_tokens", "at most limits.max_step_tokens"),
        (["target.provider=cpu"], "target", "found tensorrt-rtx on cpu with plugins none"),
    ],
)
def test_what_cannot_be_built_is_refused_by_name(overrides, key, words):
    line = error(RTX, *overrides)
    assert f" {key}: " in line
    assert words in line


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["precision.group_size=32"], "group_size: tensorrt supports 64 or 128 or channel, found 32"),
        (
            [f"{CAPABILITIES}=['8.0', '9.0']"],
            "builds for this machine's GPU, found 2",
        ),
    ],
)
def test_the_full_tensorrt_has_limits_of_its_own(overrides, words):
    assert words in error(FULL, *overrides)


def test_what_only_tensorrt_is_asked_is_refused_elsewhere():
    lines = errors(f"{CAPABILITIES}=['8.9']", "target.profiles={}")
    assert [line.split(": ")[0].split()[-1] for line in lines] == [CAPABILITIES, "target.profiles"]
    assert all("only TensorRT uses it, found backend ort: omit it" in line for line in lines)
    assert "found ort on cpu with plugins [attention]" in error("target.plugins=[attention]")


@pytest.mark.parametrize("backend", ["tensorrt", "tensorrt-rtx"])
def test_a_newer_architecture_never_has_fewer_formats(backend):
    named = default_target(backend).formats.capabilities
    held = [{kind for kind in ("fp16", "bf16", "int8", "int4", "fp8") if has_formats(one, [kind])} for one in named]
    assert all(older <= newer for older, newer in pairwise(held))
    assert held[0] == {"fp16", "int8"}
