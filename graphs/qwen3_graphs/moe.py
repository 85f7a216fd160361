"""A mixture of SwiGLU experts in eager PyTorch: the reference of `qwen3::MoE`."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional


def mixture_of_experts(
    x: Tensor, router: Tensor, gate: Tensor, up: Tensor, down: Tensor, top_k: int, normalize: bool
) -> Tensor:
    """Send each token to its `top_k` most probable experts and add up their answers.

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
    probability = functional.softmax(x @ router.to(x.dtype).T, dim=-1, dtype=torch.float32)
    share, choice = probability.topk(top_k, dim=-1)
    if normalize:
        share = share / share.sum(dim=-1, keepdim=True)
    out = torch.zeros_like(x)
    for expert in sorted(set(choice.flatten().tolist())):
        token, rank = torch.where(choice == expert)
        routed = x[token]
        hidden = functional.silu(routed @ gate[expert].to(x.dtype).T) * (routed @ up[expert].to(x.dtype).T)
        answer = hidden @ down[expert].to(x.dtype).T
        out.index_add_(0, token, answer * share[token, rank, None].to(x.dtype))
    return out
