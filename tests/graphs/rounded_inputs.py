"""The eager model with inputs of its matrices rounded to eight bits, and the scales that calibration would find."""

from __future__ import annotations

from typing import TYPE_CHECKING

import ml_dtypes
import numpy as np
import torch
from lowered_engine import eager, reference
from torch.nn import functional

from qwen3_graphs.model import Linear, MoE

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from torch import Tensor

    from qwen3_graphs.architecture import Architecture
    from qwen3_graphs.lowered import Precision
    from qwen3_graphs.model import Qwen3

    Rounding = Callable[[str, Tensor], Tensor]

LARGEST = {"fp8": 448, "int8": 127}


def calibrated(
    architecture: Architecture, formats: Precision, sequences: Sequence[np.ndarray]
) -> dict[str, np.ndarray]:
    """Scales float32 [] of the inputs of every matrix, from the largest values that the sequences give them."""
    largest: dict[str, float] = {}

    def seen(name: str, x: Tensor) -> Tensor:
        largest[name] = max(largest.get(name, 0.0), float(x.abs().max()))
        return x

    reference(_rounding(eager(architecture, formats), architecture, seen), sequences)
    return {
        f"{name}.input_scale": np.array(value / LARGEST[_kind(formats, name)], np.float32)
        for name, value in largest.items()
        if _kind(formats, name) in LARGEST
    }


def rounded(architecture: Architecture, formats: Precision, scales: dict[str, np.ndarray]) -> Qwen3:
    """The eager model that rounds as the formats say."""

    def rounding(name: str, x: Tensor) -> Tensor:
        if _kind(formats, name) not in LARGEST:
            return x
        scale, values = scales[f"{name}.input_scale"], x.numpy()
        if _kind(formats, name) == "fp8":
            codes = np.clip(values / scale, -448, 448).astype(ml_dtypes.float8_e4m3fn).astype(np.float32)
        else:
            codes = np.clip(np.rint(values / scale), -128, 127)
        return torch.from_numpy(codes * scale)

    return _rounding(eager(architecture, formats), architecture, rounding)


def _kind(formats: Precision, name: str) -> str:
    return formats.lm_head.kind if name in ("lm_head", "model.embed_tokens") else formats.weights.kind


def _rounding(model: Qwen3, architecture: Architecture, change: Rounding) -> Qwen3:
    """Pass the input of every matrix through `change`, which is given the matrix's name without `.weight`."""
    for name, module in model.named_modules():
        if isinstance(module, Linear) and name != "lm_head":  # which is not called: its matrix is read
            module.register_forward_pre_hook(lambda _, inputs, name=name: (change(name, inputs[0]),))
        elif isinstance(module, MoE):
            module.forward = _experts(module, f"{name}.experts", architecture, change)
    head = "model.embed_tokens" if architecture.tie_word_embeddings else "lm_head"
    model.model.norm.register_forward_hook(lambda _module, _inputs, x: change(head, x))
    return model


def _experts(module: MoE, name: str, architecture: Architecture, change: Rounding) -> Callable[[Tensor], Tensor]:
    """Every expert computes every token; routing weights of those that were not chosen are zero."""
    gate, up, down = (matrix.weight for matrix in module.experts.values())

    def forward(x: Tensor) -> Tensor:
        probability = functional.softmax(x @ module.gate.weight.T, dim=-1)
        routing_weight, expert_id = probability.topk(architecture.num_experts_per_tok, dim=-1)
        if architecture.norm_topk_prob:
            routing_weight = routing_weight / routing_weight.sum(dim=-1, keepdim=True)
        routing_weights = torch.zeros_like(probability).scatter_(1, expert_id, routing_weight)
        gates = change(f"{name}.gate_proj", x) @ gate.transpose(1, 2)
        ups = change(f"{name}.up_proj", x) @ up.transpose(1, 2)
        expert_outputs = change(f"{name}.down_proj", functional.silu(gates) * ups) @ down.transpose(1, 2)
        return torch.einsum("te,eth->th", routing_weights, expert_outputs)

    return forward
