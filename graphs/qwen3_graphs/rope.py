"""Rotary position tables: the cosines and sines that every layer reads, with or without YaRN."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from qwen3_graphs.architecture import Architecture, YarnScaling

_ROWS_AT_A_TIME = 4096  # bounds the float64 intermediates of a context of a million tokens


def rope_tables(architecture: Architecture, max_context: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Compute cos and sin of every position's angles (Su et al., 2021, "RoFormer"), in float64.

    Angles grow with the position, so float32 arithmetic would lose about 1e-3 at 40,000 tokens: the tables are
    rounded once, at the end.

    Args:
        architecture: supplies `head_dim`, `rope_theta`, `yarn` and `rope_factor`.
        max_context: rows of the tables, in tokens.

    Returns:
        cos and sin, float32 [max_context, head_dim / 2], YaRN's attention factor multiplied in.

    Raises:
        ValueError: `head_dim` is odd or `max_context` is not positive.
    """
    if architecture.head_dim % 2:
        raise ValueError(f"RoPE turns pairs of dimensions: expected an even head_dim, found {architecture.head_dim}")
    if max_context < 1:
        raise ValueError(f"expected a maximum context of at least 1 token, found {max_context}")
    frequency, magnitude = rope_frequencies(architecture)
    cos, sin = (np.empty((max_context, architecture.head_dim // 2), np.float32) for _ in range(2))
    for begin in range(0, max_context, _ROWS_AT_A_TIME):
        rows = slice(begin, min(begin + _ROWS_AT_A_TIME, max_context))
        angle = np.arange(rows.start, rows.stop)[:, None] * frequency
        cos[rows], sin[rows] = np.cos(angle) * magnitude, np.sin(angle) * magnitude
    return cos, sin


def rope_frequencies(architecture: Architecture) -> tuple[NDArray[np.float64], float]:
    """Angle of each pair of dimensions per position, float64 [head_dim / 2] radians, and what cos and sin are times."""
    frequency = architecture.rope_theta ** -(np.arange(0, architecture.head_dim, 2) / architecture.head_dim)
    frequency = frequency / architecture.rope_factor
    if architecture.yarn is None:
        return frequency, 1.0
    scaled = _yarn_frequencies(frequency, architecture.yarn, architecture.rope_theta, architecture.head_dim)
    return scaled, _attention_factor(architecture.yarn)


def _attention_factor(yarn: YarnScaling) -> float:
    """Return the multiplier of cos and sin (Peng et al., 2023, equation 22)."""
    if yarn.attention_factor is not None:
        return yarn.attention_factor
    return 0.1 * math.log(yarn.factor) + 1.0 if yarn.factor > 1.0 else 1.0


def _yarn_frequencies(
    frequency: NDArray[np.float64], yarn: YarnScaling, theta: float, head_dim: int
) -> NDArray[np.float64]:
    """Slow the dimensions that turn less than once in the original context (Peng et al., 2023, "NTK-by-parts").

    Dimensions that turn more than `beta_fast` times keep their frequency, those below `beta_slow` turns are
    divided by `factor`, and a linear ramp over the dimension's index joins the two.
    """

    def index_turning(turns: float) -> float:
        return (
            head_dim * math.log(yarn.original_max_position_embeddings / (turns * 2 * math.pi)) / (2 * math.log(theta))
        )

    first, last = index_turning(yarn.beta_fast), index_turning(yarn.beta_slow)
    if yarn.truncate:
        first, last = math.floor(first), math.ceil(last)
    first, last = max(first, 0), min(last, head_dim - 1)
    # A ramp of no width would divide by zero; 0.001 is the step that released checkpoints were run with.
    width = last - first or 0.001
    interpolated = np.clip((np.arange(head_dim // 2) - first) / width, 0.0, 1.0)
    result: NDArray[np.float64] = frequency * (1 - interpolated) + frequency / yarn.factor * interpolated
    return result
