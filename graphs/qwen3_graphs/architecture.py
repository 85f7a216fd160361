"""The dimensions of one Qwen3 model: everything that decides its graph, and nothing else."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection


@dataclass(frozen=True)
class YarnScaling:
    """Static YaRN scaling of RoPE (Peng et al., 2023, "YaRN: Efficient Context Window Extension").

    Attributes:
        factor: context multiple, for example 4.0.
        original_max_position_embeddings: the context (tokens) that the model was trained with.
        attention_factor: multiplier of cos and sin; `None` means 0.1 * ln(factor) + 1.
        beta_fast: rotations within the original context above which a dimension is left as it is.
        beta_slow: rotations below which a dimension is fully interpolated.
        truncate: whether the dimensions between which YaRN interpolates are rounded outwards to whole ones.
    """

    factor: float
    original_max_position_embeddings: int
    attention_factor: float | None = None
    beta_fast: float = 32.0
    beta_slow: float = 1.0
    truncate: bool = True


@dataclass(frozen=True)
class Architecture:
    """One member of the Qwen3 family, dense (`num_experts == 0`) or mixture of experts.

    Field names are those of the released `config.json`. `intermediate_size` is the dense MLP width and is unused where
    every layer is a mixture of experts, which are `moe_intermediate_size` wide. `dense_layers` of a mixture have a
    dense MLP. `rope_factor` is what positions are divided by (linear scaling of RoPE).
    """

    vocab_size: int
    hidden_size: int
    intermediate_size: int
    num_hidden_layers: int
    num_attention_heads: int
    num_key_value_heads: int
    head_dim: int
    max_position_embeddings: int
    rope_theta: float
    tie_word_embeddings: bool
    rms_norm_eps: float = 1e-6
    num_experts: int = 0
    num_experts_per_tok: int = 0
    moe_intermediate_size: int = 0
    norm_topk_prob: bool = True
    yarn: YarnScaling | None = None
    rope_factor: float = 1.0
    dense_layers: tuple[int, ...] = ()

    @property
    def is_moe(self) -> bool:
        """Whether the MLP of every layer but the `dense_layers` is a mixture of experts."""
        return self.num_experts > 0

    def has_experts(self, layer: int) -> bool:
        """Whether the MLP of layer `layer`, from 0, is a mixture of experts."""
        return self.is_moe and layer not in self.dense_layers


def layers_without_experts(layers: int, mlp_only_layers: Collection[int], decoder_sparse_step: int) -> tuple[int, ...]:
    """Those of a model's `layers` that `config.json` makes dense: the listed ones, and all but every so-manieth one."""
    return tuple(layer for layer in range(layers) if layer in mlp_only_layers or (layer + 1) % decoder_sparse_step)
