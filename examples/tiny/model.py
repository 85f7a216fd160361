"""Qwen3, dense and mixture of experts, in the least PyTorch that trains quickly on one CPU core.

Parameter names are those of the released checkpoints, except that the experts of a layer are stacked while they
train. `tests/examples` holds the saved checkpoints against `transformers`.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F  # noqa: N812 - the name that PyTorch's own documentation uses
from torch import Tensor, nn


@dataclass(frozen=True)
class Dimensions:
    """Sizes of one tiny model; field names are those of the released `config.json`."""

    vocab_size: int
    num_experts: int = 0
    num_experts_per_tok: int = 0
    moe_intermediate_size: int = 0
    tie_word_embeddings: bool = True
    hidden_size: int = 128
    intermediate_size: int = 384
    num_hidden_layers: int = 4
    num_attention_heads: int = 4
    num_key_value_heads: int = 2
    head_dim: int = 64
    max_position_embeddings: int = 2048
    rope_theta: float = 1_000_000.0
    rms_norm_eps: float = 1e-6


class RMSNorm(nn.Module):
    """Root-mean-square norm over the last axis, with a learned weight."""

    def __init__(self, size: int, epsilon: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size))
        self.epsilon = epsilon

    def forward(self, x: Tensor) -> Tensor:
        """Same shape as x."""
        return F.rms_norm(x, (x.shape[-1],), self.weight, self.epsilon)


def rotary(length: int, dims: Dimensions) -> tuple[Tensor, Tensor]:
    """Cos and sin of RoPE (Su et al., 2021), float32 [length, head_dim / 2] each."""
    rates = dims.rope_theta ** (-torch.arange(0, dims.head_dim, 2, dtype=torch.float32) / dims.head_dim)
    angles = torch.arange(length, dtype=torch.float32)[:, None] * rates
    return angles.cos(), angles.sin()


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Apply RoPE to [batch, heads, length, head_dim], first half paired with second half."""
    first, second = x.chunk(2, dim=-1)
    return torch.cat((first * cos - second * sin, second * cos + first * sin), dim=-1)


class Attention(nn.Module):
    """Causal grouped-query attention with a norm on each query and key head."""

    def __init__(self, dims: Dimensions) -> None:
        super().__init__()
        self.dims = dims
        queries, keys = dims.num_attention_heads * dims.head_dim, dims.num_key_value_heads * dims.head_dim
        self.q_proj = nn.Linear(dims.hidden_size, queries, bias=False)
        self.k_proj = nn.Linear(dims.hidden_size, keys, bias=False)
        self.v_proj = nn.Linear(dims.hidden_size, keys, bias=False)
        self.o_proj = nn.Linear(queries, dims.hidden_size, bias=False)
        self.q_norm = RMSNorm(dims.head_dim, dims.rms_norm_eps)
        self.k_norm = RMSNorm(dims.head_dim, dims.rms_norm_eps)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        """Of x [batch, length, hidden], cos and sin [length, head_dim / 2] -> [batch, length, hidden]."""
        heads = (*x.shape[:-1], -1, self.dims.head_dim)
        q = rotate(self.q_norm(self.q_proj(x).view(heads)).transpose(1, 2), cos, sin)
        k = rotate(self.k_norm(self.k_proj(x).view(heads)).transpose(1, 2), cos, sin)
        v = self.v_proj(x).view(heads).transpose(1, 2)
        shared = self.dims.num_attention_heads // self.dims.num_key_value_heads
        k, v = k.repeat_interleave(shared, dim=1), v.repeat_interleave(shared, dim=1)
        out = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        return self.o_proj(out.transpose(1, 2).flatten(2))


class MLP(nn.Module):
    """SwiGLU."""

    def __init__(self, dims: Dimensions) -> None:
        super().__init__()
        self.gate_proj = nn.Linear(dims.hidden_size, dims.intermediate_size, bias=False)
        self.up_proj = nn.Linear(dims.hidden_size, dims.intermediate_size, bias=False)
        self.down_proj = nn.Linear(dims.intermediate_size, dims.hidden_size, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Same shape as x."""
        return self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))


class Experts(nn.Module):
    """The stacked SwiGLU experts of one layer: gate and up [E, I, H], down [E, H, I]."""

    def __init__(self, dims: Dimensions) -> None:
        super().__init__()
        experts, inner, hidden = dims.num_experts, dims.moe_intermediate_size, dims.hidden_size
        self.gate_proj = nn.Parameter(torch.empty(experts, inner, hidden))
        self.up_proj = nn.Parameter(torch.empty(experts, inner, hidden))
        self.down_proj = nn.Parameter(torch.empty(experts, hidden, inner))

    def forward(self, x: Tensor, chosen: Tensor, weights: Tensor) -> Tensor:
        """Weighted sum of the chosen experts: x [T, H], chosen and weights [T, k] -> [T, H]."""
        order = chosen.flatten().argsort()
        tokens = order // chosen.shape[1]
        counts = torch.bincount(chosen.flatten(), minlength=len(self.gate_proj)).tolist()
        parts = []
        for expert, rows in enumerate(x[tokens].split(counts)):
            inner = F.silu(rows @ self.gate_proj[expert].T) * (rows @ self.up_proj[expert].T)
            parts.append(inner @ self.down_proj[expert].T)
        out = torch.cat(parts) * weights.flatten()[order, None]
        return torch.zeros_like(x).index_add(0, tokens, out)


class MoE(nn.Module):
    """Softmax router, top-k, renormalized weights, no shared expert."""

    def __init__(self, dims: Dimensions) -> None:
        super().__init__()
        self.top_k = dims.num_experts_per_tok
        self.gate = nn.Linear(dims.hidden_size, dims.num_experts, bias=False)
        self.experts = Experts(dims)
        self.routing: tuple[Tensor, Tensor] | None = None

    def forward(self, x: Tensor) -> Tensor:
        """Same shape as x; `routing` keeps the router's probabilities [T, E] and choices [T, k]."""
        flat = x.flatten(0, -2)
        probabilities = self.gate(flat).softmax(dim=-1)
        weights, chosen = probabilities.topk(self.top_k)
        self.routing = probabilities, chosen
        weights = weights / weights.sum(dim=-1, keepdim=True)
        return self.experts(flat, chosen, weights).view_as(x)


class Layer(nn.Module):
    """Pre-norm attention and MLP (or mixture of experts), each with a residual connection."""

    def __init__(self, dims: Dimensions) -> None:
        super().__init__()
        self.input_layernorm = RMSNorm(dims.hidden_size, dims.rms_norm_eps)
        self.self_attn = Attention(dims)
        self.post_attention_layernorm = RMSNorm(dims.hidden_size, dims.rms_norm_eps)
        self.mlp = MoE(dims) if dims.num_experts else MLP(dims)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        """Of x [batch, length, hidden] -> the same shape."""
        x = x + self.self_attn(self.input_layernorm(x), cos, sin)
        return x + self.mlp(self.post_attention_layernorm(x))


class Backbone(nn.Module):
    """Embedding, layers and final norm: ids [batch, length] -> hidden states [batch, length, hidden]."""

    def __init__(self, dims: Dimensions) -> None:
        super().__init__()
        self.dims = dims
        self.embed_tokens = nn.Embedding(dims.vocab_size, dims.hidden_size)
        self.layers = nn.ModuleList(Layer(dims) for _ in range(dims.num_hidden_layers))
        self.norm = RMSNorm(dims.hidden_size, dims.rms_norm_eps)

    def forward(self, ids: Tensor) -> Tensor:
        """Ids int64 [batch, length] -> normalized hidden states."""
        cos, sin = rotary(ids.shape[1], self.dims)
        x = self.embed_tokens(ids)
        for layer in self.layers:
            x = layer(x, cos, sin)
        return self.norm(x)


class Qwen3(nn.Module):
    """The causal language model: ids [batch, length] -> logits of the chosen positions."""

    def __init__(self, dims: Dimensions) -> None:
        super().__init__()
        self.model = Backbone(dims)
        self.lm_head = nn.Linear(dims.hidden_size, dims.vocab_size, bias=False)
        residual_scale = (2 * dims.num_hidden_layers) ** -0.5
        for name, weight in self.named_parameters():
            if weight.dim() > 1:
                closes_residual = name.endswith(("o_proj.weight", "down_proj", "down_proj.weight"))
                nn.init.normal_(weight, std=0.05 * (residual_scale if closes_residual else 1.0))
        if dims.tie_word_embeddings:
            self.lm_head.weight = self.model.embed_tokens.weight

    def forward(self, ids: Tensor, rows: Tensor) -> Tensor:
        """Logits [R, vocab] of `rows` [R], positions in the flattened ids."""
        return self.lm_head(self.model(ids).flatten(0, 1)[rows])

    def balance_loss(self, real: Tensor) -> Tensor:
        """Load-balancing loss over the whole batch, averaged over layers; 1.0 when perfectly balanced.

        E * sum_e(share of choices that fall on expert e * mean router probability of e), with the shares counted
        over every real token of the global batch (Qwen3 Technical Report, section 2; Qiu et al., 2025).

        Args:
            real: bool [batch * length], false for padding.
        """
        losses = []
        for module in self.modules():
            if not isinstance(module, MoE) or module.routing is None:
                continue
            probabilities, chosen = module.routing
            experts = probabilities.shape[1]
            shares = torch.bincount(chosen[real].flatten(), minlength=experts) / (real.sum() * chosen.shape[1])
            losses.append(experts * (shares * probabilities[real].mean(dim=0)).sum())
        return torch.stack(losses).mean()
