"""How large a model is: parameters, and the bytes of its weights in a given precision."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from qwen3_graphs.formats import WeightFormat

if TYPE_CHECKING:
    from qwen3_graphs.architecture import Architecture
    from qwen3_graphs.lowered import Precision

_SCALE_BITS = 32  # scales take the type of the activations, at most float32
_MIN_ROW_LENGTH = 768  # no row of a released model is shorter; a multiple of every group size


@dataclass(frozen=True)
class Parameters:
    """Parameters by what decides their number format.

    Attributes:
        matrices: projections and MLPs, every expert included.
        idle_experts: those of `matrices` that one token does not touch.
        embedding: the input matrix.
        head: the output matrix; 0 where there is none, or it is the input matrix.
        small: norms and routers, which are never quantized.
    """

    matrices: int
    idle_experts: int
    embedding: int
    head: int
    small: int


def count_parameters(architecture: Architecture, *, has_head: bool = True) -> Parameters:
    """Count the parameters of a model from its dimensions; an embedding model has no head."""
    a = architecture
    layers, dense = a.num_hidden_layers, len(a.dense_layers) if a.is_moe else a.num_hidden_layers
    attention = 2 * a.hidden_size * a.head_dim * (a.num_attention_heads + a.num_key_value_heads)
    expert = 3 * a.hidden_size * a.moe_intermediate_size
    mlps = dense * 3 * a.hidden_size * a.intermediate_size + (layers - dense) * a.num_experts * expert
    routers = (layers - dense) * a.num_experts * a.hidden_size
    embedding = a.vocab_size * a.hidden_size
    return Parameters(
        matrices=layers * attention + mlps,
        idle_experts=(layers - dense) * (a.num_experts - a.num_experts_per_tok) * expert,
        embedding=embedding,
        head=embedding if has_head and not a.tie_word_embeddings else 0,
        small=layers * (2 * a.hidden_size + 2 * a.head_dim) + routers + a.hidden_size,
    )


def parameter_counts(architecture: Architecture, *, has_head: bool = True) -> tuple[int, int]:
    """Return all parameters, and those that one token touches; a tied matrix counts once."""
    count = count_parameters(architecture, has_head=has_head)
    total = count.matrices + count.embedding + count.head + count.small
    return total, total - count.idle_experts


def weight_bytes(
    architecture: Architecture, precision: Precision, *, has_head: bool = True, scale_bits: int = _SCALE_BITS
) -> int:
    """Return an upper estimate of the bytes of an engine's weights; tied matrices of one format are stored once.

    `scale_bits` are those of the scale of a group of integers.
    """
    count = count_parameters(architecture, has_head=has_head)
    head = count.head
    if has_head and architecture.tie_word_embeddings and precision.lm_head != precision.embedding:
        head = count.embedding
    bits = (
        count.matrices * _bits(precision.weights, scale_bits)
        + count.embedding * _bits(precision.embedding, scale_bits)
        + head * _bits(precision.lm_head, scale_bits)
        + count.small * 32
    )
    return round(bits / 8)


def _bits(weight_format: WeightFormat, scale_bits: int) -> float:
    """Bits of a weight with its share of scales and zero points; one scale per row is the most that fp8 has."""
    by_group = weight_format.granularity == "per-group"
    row = weight_format if by_group else WeightFormat(weight_format.kind)
    return (
        row.matrix_bytes(1, _MIN_ROW_LENGTH, scale_bits=scale_bits if by_group else _SCALE_BITS).total
        * 8
        / _MIN_ROW_LENGTH
    )
