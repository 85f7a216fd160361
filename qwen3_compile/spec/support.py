"""What each backend accepts on each provider: the one place to edit when a lowering learns more."""

from __future__ import annotations

from dataclasses import dataclass

FLOATS = ("fp32", "fp16", "bf16")
WEIGHTS = (*FLOATS, "int8", "int4")


@dataclass(frozen=True)
class Accepted:
    """Number formats that a backend computes on a provider; the fields are keys of the spec's `precision`."""

    weights: tuple[str, ...]
    lm_head: tuple[str, ...]
    embedding: tuple[str, ...]
    activations: tuple[str, ...]
    kv_cache: tuple[str, ...]


SUPPORT: dict[tuple[str, str], Accepted] = {
    ("ort", "cpu"): Accepted(WEIGHTS, WEIGHTS, WEIGHTS, activations=("fp32",), kv_cache=("fp32",)),
    ("onnx", "cpu"): Accepted(WEIGHTS, WEIGHTS, WEIGHTS, activations=("fp32",), kv_cache=("fp32",)),
}
