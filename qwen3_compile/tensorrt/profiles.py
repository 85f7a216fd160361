"""Optimization profiles: the sizes of a step that TensorRT must accept, and those that it makes fastest."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from qwen3_graphs.lowered import Plugins

if TYPE_CHECKING:
    from collections.abc import Mapping

    from qwen3_compile.spec import Spec
    from qwen3_compile.spec.schema import ProfilesSection

Bounds = tuple[int, int, int]


@dataclass(frozen=True)
class PlanProfile:
    """One profile.

    Attributes:
        name: what it is for.
        sizes: of each dimension that steps choose, by its name in the graph's inputs: least, best, most.
    """

    name: str
    sizes: Mapping[str, Bounds]


def profiles_of(spec: Spec) -> tuple[PlanProfile, ...]:
    """The profiles of a spec for TensorRT, in the order of their numbers in the plan.

    Prefill takes any step within the limits, decode steps of one token a sequence. A step may ask for the logits of
    any of its tokens (validation asks for all), so prefill has as many rows as tokens; TensorRT reserves memory for
    that many, 2 bytes a row and entry of the vocabulary.
    """
    limits, chosen = spec.limits, spec.target.profiles
    if chosen is None:
        raise ValueError(f"backend {spec.target.backend} has no profiles")
    most, tokens = limits.max_batch, limits.max_step_tokens
    if spec.has_plugin("attention"):
        return _packed(spec, chosen)
    prefill = {
        "B": (1, chosen.prefill_batch, most),
        "S": (1, chosen.prefill_tokens, tokens),
        "R": (1, chosen.prefill_batch, tokens),
    }
    decode = {"B": (1, chosen.decode_batch, most), "S": (1, 1, 1), "R": (1, chosen.decode_batch, most)}
    return PlanProfile("prefill", prefill), PlanProfile("decode", decode)


def _packed(spec: Spec, chosen: ProfilesSection) -> tuple[PlanProfile, ...]:
    """The profiles of packed steps over a pool of cache blocks that holds every sequence at its longest."""
    most, tokens = spec.limits.max_batch, spec.limits.max_step_tokens
    held = -(-spec.limits.max_context // Plugins.block_size)

    def profile(name: str, batch: int, step: Bounds, rows: int) -> PlanProfile:
        pool = {"M": (1, held, held), "blocks": (1, most * held, most * held)}
        sequences = {"B": (1, batch, most), "B+1": (2, batch + 1, most + 1)}
        return PlanProfile(name, {"T": step, "R": (1, batch, rows), **sequences, **pool})

    prefill = min(tokens, chosen.prefill_batch * chosen.prefill_tokens)
    return (
        profile("prefill", chosen.prefill_batch, (1, prefill, tokens), tokens),
        profile("decode", chosen.decode_batch, (1, chosen.decode_batch, most), most),
    )
