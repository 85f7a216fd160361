"""How a `config.json` says that RoPE is scaled, in the dialects of transformers 4 and 5."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from qwen3_compile.errors import CheckpointError
from qwen3_graphs.architecture import YarnScaling

if TYPE_CHECKING:
    from qwen3_compile.checkpoint.config_section import ConfigSection

DEFAULT_THETA = 10_000.0  # of transformers' configuration classes of Qwen3
_KINDS = ("default", "linear", "yarn")
_KEYS = {
    "rope_type", "type", "rope_theta", "factor", "original_max_position_embeddings", "attention_factor", "beta_fast",
    "beta_slow", "truncate", "mscale", "mscale_all_dim", "partial_rotary_factor",
}  # fmt: skip


@dataclass(frozen=True)
class RopeConfig:
    """Base of the frequencies and their scaling: YaRN, or a factor that positions are divided by."""

    theta: float
    yarn: YarnScaling | None = None
    factor: float = 1.0


def read_rope(config: ConfigSection, max_position: int) -> RopeConfig:
    """Read base and scaling: transformers 5 writes `rope_parameters`, releases have `rope_theta` and `rope_scaling`.

    A base inside the section goes before one beside it, and without either it is `DEFAULT_THETA`, as in transformers.

    Raises:
        CheckpointError: the scaling is not supported, or a value is out of range.
    """
    parameters, scaling = config.section("rope_parameters"), config.section("rope_scaling")
    if parameters and scaling and parameters.values != scaling.values:
        raise CheckpointError(f"{config.where}: rope_parameters and rope_scaling differ; keep one")
    source = parameters or scaling
    theta = config.number("rope_theta", default=DEFAULT_THETA)
    if source is None:
        return RopeConfig(theta)
    theta = source.number("rope_theta", default=theta)
    kind = source.values.get("rope_type", source.values.get("type", "default"))
    if kind not in _KINDS:
        why = "its frequencies change with a sequence's length" if kind in ("dynamic", "longrope") else "Qwen3 has none"
        raise CheckpointError(
            f"{source.where}: rope type {kind!r} is not supported ({why}); expected {', '.join(_KINDS)}: "
            "remove the scaling from config.json and set rope_scaling in the spec"
        )
    if unknown := source.values.keys() - _KEYS:
        raise CheckpointError(f"{source.where}: {min(unknown)} is not supported")
    if source.values.get("partial_rotary_factor") not in (None, 1):
        raise CheckpointError(
            f"{source.where}: partial_rotary_factor is {source.values['partial_rotary_factor']!r}: "
            "rotary embedding of a part of each head is not supported"
        )
    if kind == "linear":
        return RopeConfig(theta, factor=source.number("factor"))
    return RopeConfig(theta, _yarn(config, source, max_position) if kind == "yarn" else None)


def _yarn(config: ConfigSection, source: ConfigSection, max_position: int) -> YarnScaling:
    original = source.integer("original_max_position_embeddings", default=max_position)
    original = config.integer("original_max_position_embeddings", default=original)  # transformers prefers it
    implied = max_position / original if "factor" in source.values else None
    factor = source.number("factor", default=implied)
    return YarnScaling(
        factor=factor,
        original_max_position_embeddings=original,
        attention_factor=_attention_factor(source, factor),
        beta_fast=source.number("beta_fast", default=32.0),
        beta_slow=source.number("beta_slow", default=1.0),
        truncate=source.boolean("truncate", default=True),
    )


def _attention_factor(source: ConfigSection, factor: float) -> float | None:
    """The factor that is stated, or that `mscale` and `mscale_all_dim` give together; None leaves it to YaRN."""
    if source.values.get("attention_factor") is not None:
        return source.number("attention_factor")
    scales = [source.values.get(key) for key in ("mscale", "mscale_all_dim")]
    if not all(scales):
        return None
    above, below = (source.number(key) for key in ("mscale", "mscale_all_dim"))
    return _magnitude(factor, above) / _magnitude(factor, below)


def _magnitude(factor: float, scale: float) -> float:
    return 0.1 * scale * math.log(factor) + 1.0 if factor > 1.0 else 1.0
