"""The semantic operators as PyTorch custom operators: eager arithmetic, shapes for tracing, and ONNX nodes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import onnxscript
import torch
from torch import Tensor
from torch.nn import functional

from qwen3_graphs.attention import paged_attention
from qwen3_graphs.moe import mixture_of_experts
from qwen3_graphs.schemas import DOMAIN, OPSET, VERSION, register_schemas

if TYPE_CHECKING:
    from collections.abc import Callable

attention = torch.library.custom_op("qwen3::attention", paged_attention, mutates_args=())
moe = torch.library.custom_op("qwen3::moe", mixture_of_experts, mutates_args=())


@torch.library.custom_op("qwen3::linear", mutates_args=())
def linear(x: Tensor, weight: Tensor) -> Tensor:
    """Multiply x [..., K] by the transpose of weight [N, K], which may be stored in a narrower type."""
    return x @ weight.to(x.dtype).T


@torch.library.custom_op("qwen3::embedding", mutates_args=())
def embedding(ids: Tensor, weight: Tensor) -> Tensor:
    """Gather the rows of weight [V, H] at ids int64 [T]."""
    return functional.embedding(ids, weight)


@attention.register_fake
def _(
    q: Tensor, _k: Tensor, _v: Tensor, _qn: Tensor, _kn: Tensor, _cos: Tensor, _sin: Tensor, kv: Tensor, *_: object
) -> tuple[Tensor, Tensor]:
    return torch.empty_like(q), torch.empty_like(kv)


@moe.register_fake
def _(x: Tensor, *_: object) -> Tensor:
    return torch.empty_like(x)


@linear.register_fake
def _(x: Tensor, weight: Tensor) -> Tensor:
    return x.new_empty((*x.shape[:-1], weight.shape[0]))


@embedding.register_fake
def _(ids: Tensor, weight: Tensor) -> Tensor:
    return weight.new_empty((*ids.shape, weight.shape[1]))


def translations() -> dict[Callable[..., object], Callable[..., object]]:
    """Return how `torch.onnx.export` writes each operator: as one node of the `qwen3` domain."""
    register_schemas()
    qwen3, standard = onnxscript.values.Opset(DOMAIN, VERSION), onnxscript.values.Opset("", OPSET)

    def attention_node(*inputs: object) -> object:
        tensors, (num_heads, kv_num_heads, head_dim, epsilon) = inputs[:11], inputs[11:]
        return qwen3.Attention(
            *tensors, num_heads=num_heads, kv_num_heads=kv_num_heads, head_dim=head_dim, epsilon=epsilon
        )

    def moe_node(*inputs: object) -> object:
        tensors, (top_k, normalize) = inputs[:5], inputs[5:]
        return qwen3.MoE(*tensors, top_k=top_k, normalize=int(bool(normalize)))

    return {
        torch.ops.qwen3.attention.default: attention_node,
        torch.ops.qwen3.moe.default: moe_node,
        torch.ops.qwen3.linear.default: qwen3.Linear,
        torch.ops.qwen3.embedding.default: qwen3.Embedding,
        # The exporter's own translation first reshapes the index, in case it is a scalar.
        torch.ops.aten.index_select.default: lambda x, axis, index: standard.Gather(x, index, axis=axis),
    }
