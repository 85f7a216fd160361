"""What each backend accepts on each provider: the one place to edit when a lowering learns more."""

from __future__ import annotations

from dataclasses import dataclass

FLOATS = ("fp32", "fp16", "bf16")
INTEGERS = ("int8", "int4")


@dataclass(frozen=True)
class Accepted:
    """What a backend computes on a provider.

    Attributes:
        weights: number formats of `precision.weights`; likewise the four that follow.
        lm_head: of the output matrix.
        embedding: of the input matrix.
        activations: of everything between matrices.
        kv_cache: of keys and values.
        activation_quantization: of the inputs of integer matrices; empty where the tool that runs the engine decides.
        group_sizes: of int8 and int4.
        whole_expert_groups: integer experts need a group size that divides their inputs.
        rounded_int8_experts: int8 experts always round their inputs.
        even_int4_outputs: int4 matrices need an even number of outputs.
    """

    weights: tuple[str, ...]
    lm_head: tuple[str, ...]
    embedding: tuple[str, ...]
    activations: tuple[str, ...]
    kv_cache: tuple[str, ...]
    activation_quantization: tuple[str, ...]
    group_sizes: tuple[int | str, ...]
    whole_expert_groups: bool = False
    rounded_int8_experts: bool = False
    even_int4_outputs: bool = False


_ORT = (*FLOATS, *INTEGERS)
_OURS = (*FLOATS, "fp8", *INTEGERS)

SUPPORT: dict[tuple[str, str], Accepted] = {
    ("ort-cpu", "cpu"): Accepted(
        _OURS,
        _OURS,
        _OURS,
        activations=("fp32",),
        kv_cache=("fp16", "int8"),
        activation_quantization=("int8", "none"),
        group_sizes=(32, 64, 128, "channel"),
    ),
    ("ort", "cpu"): Accepted(
        _ORT,
        _ORT,
        _ORT,
        activations=("fp32",),
        kv_cache=("fp32", "fp16"),
        activation_quantization=("int8", "none"),
        group_sizes=(32, 64, 128),
        whole_expert_groups=True,
        rounded_int8_experts=True,
    ),
    ("onnx", "cpu"): Accepted(
        _ORT,
        _ORT,
        _ORT,
        activations=("fp32",),
        kv_cache=("fp32", "fp16"),
        activation_quantization=(),
        group_sizes=(32, 64, 128, "channel"),
        even_int4_outputs=True,
    ),
}
