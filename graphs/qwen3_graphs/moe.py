"""A mixture of SwiGLU experts in eager PyTorch: the reference of `qwen3::MoE`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional

if TYPE_CHECKING:
    from collections.abc import Callable


def mixture_of_experts(
    x: Tensor, router: Tensor, gate: Tensor, up: Tensor, down: Tensor, top_k: int, normalize: bool
) -> Tensor:
    """Send each token to its `top_k` most probable experts and add up their outputs.

    Weights may be stored in a narrower type than x; each expert is widened while it is used, so that memory
    above the stored weights is one expert's.

    Args:
        x: [T, H].
        router: [E, H].
        gate: [E, I, H].
        up: [E, I, H].
        down: [E, H, I].
        top_k: experts a token is sent to.
        normalize: whether the probabilities of the chosen experts are scaled to sum to one.

    Returns:
        [T, H].
    """
    return watched_experts(x, router, gate, up, down, top_k, normalize, lambda _, inputs: inputs)


def watched_experts(
    x: Tensor,
    router: Tensor,
    gate: Tensor,
    up: Tensor,
    down: Tensor,
    top_k: int,
    normalize: bool,
    watch: Callable[[str, Tensor], Tensor],
) -> Tensor:
    """Compute `mixture_of_experts`, passing the inputs of the experts' matrices through a function.

    Args:
        x: [T, H]; likewise the six that follow, as in `mixture_of_experts`.
        router: [E, H].
        gate: [E, I, H].
        up: [E, I, H].
        down: [E, H, I].
        top_k: experts a token is sent to.
        normalize: whether the probabilities of the chosen experts are scaled to sum to one.
        watch: called for each expert with `gate_proj` and `up_proj` and its tokens [t, H], and with `down_proj` and
            what lies between [t, I]; what it returns is multiplied. The router's input does not pass through it.

    Returns:
        [T, H].
    """
    probability = functional.softmax(x @ router.to(x.dtype).T, dim=-1, dtype=torch.float32)
    routing_weight, expert_id = probability.topk(top_k, dim=-1)
    if normalize:
        routing_weight = routing_weight / routing_weight.sum(dim=-1, keepdim=True)
    out = torch.zeros_like(x)
    for expert in sorted(set(expert_id.flatten().tolist())):
        token, rank = torch.where(expert_id == expert)
        routed = x[token]
        opened = functional.silu(watch("gate_proj", routed) @ gate[expert].to(x.dtype).T)
        hidden = opened * (watch("up_proj", routed) @ up[expert].to(x.dtype).T)
        expert_output = watch("down_proj", hidden) @ down[expert].to(x.dtype).T
        out.index_add_(0, token, expert_output * routing_weight[token, rank, None].to(x.dtype))
    return out
