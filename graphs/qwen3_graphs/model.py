"""Qwen3, dense and mixture of experts, in eager PyTorch over packed sequences and a paged cache.

The pieces (`Embedding`, `DecoderLayer`, `Head`) work alone, so that a model larger than memory can run a layer
at a time; `Qwen3` composes them under the released checkpoints' parameter names. Every matrix is [out, in].
Weights may be stored in a narrower type than the activations, whose type the arithmetic has.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from qwen3_graphs import semantic_ops
from qwen3_graphs.rope import rope_tables

if TYPE_CHECKING:
    from collections.abc import Sequence

    from qwen3_graphs.architecture import Architecture

OutputKind = Literal["logits", "hidden"]


class Batch(NamedTuple):
    """Where the T packed tokens of a step belong (see `docs/architecture.md`).

    Attributes:
        query_start: int32 [B+1], where each sequence's new tokens begin; the last is T.
        context_len: int32 [B], tokens of each sequence already in the cache.
        block_table: int32 [B, M], the cache blocks of each sequence.
    """

    query_start: Tensor
    context_len: Tensor
    block_table: Tensor


class Rope(nn.Module):
    """The cosines and sines of positions below `max_context`, float32 [max_context, head_dim / 2] each."""

    cos: Tensor
    sin: Tensor

    def __init__(self, architecture: Architecture, max_context: int) -> None:
        super().__init__()
        for name, table in zip(("cos", "sin"), rope_tables(architecture, max_context), strict=True):
            self.register_buffer(name, torch.from_numpy(table), persistent=False)


class Matrix(nn.Module):
    """A weight [*shape] without bias, initialized by whoever loads it."""

    def __init__(self, *shape: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(shape), requires_grad=False)


class Embedding(Matrix):
    """Token ids int64 [T] -> hidden states [T, H]."""

    def __init__(self, architecture: Architecture) -> None:
        super().__init__(architecture.vocab_size, architecture.hidden_size)

    def forward(self, input_ids: Tensor) -> Tensor:
        """Gather rows."""
        hidden: Tensor = semantic_ops.embedding(input_ids, self.weight)
        return hidden


class Linear(Matrix):
    """x [..., K] -> [..., N]."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(outputs, inputs)

    def forward(self, x: Tensor) -> Tensor:
        """Multiply by the transpose."""
        product: Tensor = semantic_ops.linear(x, self.weight)
        return product


class RMSNorm(Matrix):
    """Root-mean-square normalization of the last axis (Zhang and Sennrich, 2019)."""

    def __init__(self, size: int, epsilon: float) -> None:
        super().__init__(size)
        self.epsilon = epsilon

    def forward(self, x: Tensor) -> Tensor:
        """Normalize x [..., size]."""
        return functional.rms_norm(x, self.weight.shape, self.weight.to(x.dtype), self.epsilon)


class Attention(nn.Module):
    """Grouped-query attention with normalized queries and keys."""

    def __init__(self, architecture: Architecture) -> None:
        super().__init__()
        self.architecture = architecture
        hidden, head_dim = architecture.hidden_size, architecture.head_dim
        queries, keys = architecture.num_attention_heads * head_dim, architecture.num_key_value_heads * head_dim
        self.q_proj = Linear(hidden, queries)
        self.k_proj = Linear(hidden, keys)
        self.v_proj = Linear(hidden, keys)
        self.o_proj = Linear(queries, hidden)
        self.q_norm = Matrix(head_dim)
        self.k_norm = Matrix(head_dim)

    def forward(self, x: Tensor, rope: tuple[Tensor, Tensor], kv: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
        """Attend from x [T, H] to each sequence's past -> [T, H] and the cache with this step's keys and values."""
        attended, kv = semantic_ops.attention(
            self.q_proj(x),
            self.k_proj(x),
            self.v_proj(x),
            self.q_norm.weight,
            self.k_norm.weight,
            *rope,
            kv,
            *batch,
            self.architecture.num_attention_heads,
            self.architecture.num_key_value_heads,
            self.architecture.head_dim,
            self.architecture.rms_norm_eps,
        )
        return self.o_proj(attended), kv


class MLP(nn.Module):
    """SwiGLU (Shazeer, 2020)."""

    def __init__(self, architecture: Architecture) -> None:
        super().__init__()
        self.gate_proj = Linear(architecture.hidden_size, architecture.intermediate_size)
        self.up_proj = Linear(architecture.hidden_size, architecture.intermediate_size)
        self.down_proj = Linear(architecture.intermediate_size, architecture.hidden_size)

    def forward(self, x: Tensor) -> Tensor:
        """Return down(silu(gate(x)) * up(x)), [T, H] -> [T, H]."""
        out: Tensor = self.down_proj(functional.silu(self.gate_proj(x)) * self.up_proj(x))
        return out


class MoE(nn.Module):
    """A router and its experts, whose matrices are stacked along a first axis."""

    def __init__(self, architecture: Architecture) -> None:
        super().__init__()
        self.architecture = architecture
        experts, width, hidden = architecture.num_experts, architecture.moe_intermediate_size, architecture.hidden_size
        self.gate = Matrix(experts, hidden)
        self.experts = nn.ModuleDict(
            {
                "gate_proj": Matrix(experts, width, hidden),
                "up_proj": Matrix(experts, width, hidden),
                "down_proj": Matrix(experts, hidden, width),
            }
        )

    def forward(self, x: Tensor) -> Tensor:
        """Route each token to its experts, [T, H] -> [T, H]."""
        out: Tensor = semantic_ops.moe(
            x,
            self.gate.weight,
            *(matrix.weight for matrix in self.experts.values()),
            self.architecture.num_experts_per_tok,
            self.architecture.norm_topk_prob,
        )
        return out


class DecoderLayer(nn.Module):
    """Hidden states [T, H] and one layer's cache -> the same, one layer later. `index` counts from 0."""

    def __init__(self, architecture: Architecture, index: int) -> None:
        super().__init__()
        self.input_layernorm = RMSNorm(architecture.hidden_size, architecture.rms_norm_eps)
        self.self_attn = Attention(architecture)
        self.post_attention_layernorm = RMSNorm(architecture.hidden_size, architecture.rms_norm_eps)
        self.mlp = MoE(architecture) if architecture.has_experts(index) else MLP(architecture)

    def forward(self, x: Tensor, rope: tuple[Tensor, Tensor], kv: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
        """Run the layer; `rope` is cos and sin, `kv` its cache [blocks, 2, kv_heads, block, head_dim]."""
        attended, kv = self.self_attn(self.input_layernorm(x), rope, kv, batch)
        x = x + attended
        return x + self.mlp(self.post_attention_layernorm(x)), kv


def read_out(x: Tensor, rows: Tensor, norm: RMSNorm, matrix: Tensor | None) -> Tensor:
    """Take rows int32 [R] of hidden states [T, H], normalize them, and multiply by the head [vocab, H] if any."""
    x = norm(x.index_select(0, rows))
    return x if matrix is None else semantic_ops.linear(x, matrix)


class Head(nn.Module):
    """The wanted rows of the last hidden states -> logits [R, vocab], or hidden states [R, H] after the norm.

    The matrix is a parameter of its own here even where the checkpoint ties it to the embedding.
    """

    def __init__(self, architecture: Architecture, output: OutputKind = "logits") -> None:
        super().__init__()
        self.norm = RMSNorm(architecture.hidden_size, architecture.rms_norm_eps)
        self.lm_head = Linear(architecture.hidden_size, architecture.vocab_size) if output == "logits" else None

    def forward(self, x: Tensor, logits_rows: Tensor) -> Tensor:
        """Read rows int32 [R] of x [T, H]."""
        return read_out(x, logits_rows, self.norm, None if self.lm_head is None else self.lm_head.weight)


class Body(nn.Module):
    """Everything but the head, under the names of checkpoints."""

    def __init__(self, architecture: Architecture) -> None:
        super().__init__()
        self.embed_tokens = Embedding(architecture)
        self.layers = nn.ModuleList(DecoderLayer(architecture, i) for i in range(architecture.num_hidden_layers))
        self.norm = RMSNorm(architecture.hidden_size, architecture.rms_norm_eps)


class Qwen3(nn.Module):
    """The whole model. Its parameters are named as in checkpoints; a tied head has none of its own."""

    def __init__(self, architecture: Architecture, max_context: int, output: OutputKind = "logits") -> None:
        super().__init__()
        self.output, self.tied = output, architecture.tie_word_embeddings
        self.rope = Rope(architecture, max_context)
        self.model = Body(architecture)
        if output == "logits" and not self.tied:
            self.lm_head = Linear(architecture.hidden_size, architecture.vocab_size)

    def forward(
        self, input_ids: Tensor, batch: Batch, logits_rows: Tensor, caches: Sequence[Tensor]
    ) -> tuple[Tensor, list[Tensor]]:
        """Run one step.

        Args:
            input_ids: int64 [T].
            batch: where the tokens belong.
            logits_rows: int32 [R], rows of `input_ids` to answer for.
            caches: one [blocks, 2, kv_heads, block, head_dim] a layer.

        Returns:
            Logits [R, vocab] (or normalized hidden states [R, H]) and the new caches.
        """
        x, rope, new_caches = self.model.embed_tokens(input_ids), (self.rope.cos, self.rope.sin), []
        for layer, kv in zip(self.model.layers, caches, strict=True):
            x, new_kv = layer(x, rope, kv, batch)
            new_caches.append(new_kv)
        return read_out(x, logits_rows, self.model.norm, self._head_matrix()), new_caches

    def _head_matrix(self) -> Tensor | None:
        if self.output == "hidden":
            return None
        return self.model.embed_tokens.weight if self.tied else self.lm_head.weight
