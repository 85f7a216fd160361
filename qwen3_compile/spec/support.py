"""What each backend accepts on each provider: the one place to edit when a lowering learns more."""

from __future__ import annotations

from dataclasses import dataclass

FLOATS = ("fp32", "fp16", "bf16")
WEIGHTS = (*FLOATS, "int8", "int4")


@dataclass(frozen=True)
class Accepted:
    """What a backend computes on a provider.

    Attributes:
        weights: number formats of `precision.weights`; likewise the four that follow.
        lm_head: of the output matrix.
        embedding: of the input matrix.
        activations: of everything between matrices.
        kv_cache: of keys and values.
        whole_expert_groups: integer experts need a group size that divides their inputs.
        even_int4_outputs: int4 matrices need an even number of outputs.
    """

    weights: tuple[str, ...]
    lm_head: tuple[str, ...]
    embedding: tuple[str, ...]
    activations: tuple[str, ...]
    kv_cache: tuple[str, ...]
    whole_expert_groups: bool = False
    even_int4_outputs: bool = False


SUPPORT: dict[tuple[str, str], Accepted] = {
    ("ort-cpu", "cpu"): Accepted(WEIGHTS, WEIGHTS, WEIGHTS, activations=("fp32",), kv_cache=("fp16", "int8")),
    ("ort", "cpu"): Accepted(
        WEIGHTS, WEIGHTS, WEIGHTS, activations=("fp32",), kv_cache=("fp32", "fp16"), whole_expert_groups=True
    ),
    ("onnx", "cpu"): Accepted(
        WEIGHTS, WEIGHTS, WEIGHTS, activations=("fp32",), kv_cache=("fp32", "fp16"), even_int4_outputs=True
    ),
}
