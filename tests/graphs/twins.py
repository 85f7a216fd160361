"""Random Qwen3 checkpoints held twice: by transformers, and as the canonical weights of our own model."""

from __future__ import annotations

import dataclasses
import functools
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from transformers import PreTrainedModel, Qwen3Config, Qwen3ForCausalLM, Qwen3MoeConfig, Qwen3MoeForCausalLM

from qwen3_graphs.architecture import Architecture
from qwen3_graphs.model import OutputKind, Qwen3
from qwen3_graphs.trace import trace

if TYPE_CHECKING:
    import onnx_ir as ir

DENSE = Architecture(
    vocab_size=67,
    hidden_size=24,
    intermediate_size=40,
    num_hidden_layers=3,
    num_attention_heads=4,
    num_key_value_heads=2,
    head_dim=8,
    max_position_embeddings=96,
    rope_theta=10_000.0,
    tie_word_embeddings=True,
)
MOE = dataclasses.replace(
    DENSE, num_experts=8, num_experts_per_tok=3, moe_intermediate_size=12, tie_word_embeddings=False
)
# Experts in layer 1 alone.
MIXED = dataclasses.replace(MOE, num_hidden_layers=5, dense_layers=(0, 2, 3, 4))
UNTIED = dataclasses.replace(DENSE, tie_word_embeddings=False, num_key_value_heads=1)

TRACED_CONTEXT = 64


@functools.cache
def traced(architecture: Architecture, output: OutputKind = "logits") -> ir.Model:
    """Trace once what several tests look at; none of them changes it."""
    return trace(architecture, output=output, max_context=TRACED_CONTEXT)


def twin(architecture: Architecture, seed: int) -> tuple[PreTrainedModel, dict[str, Tensor]]:
    """Make a random transformers model and its weights under canonical names, the experts stacked."""
    kind, config_kind = (
        (Qwen3MoeForCausalLM, Qwen3MoeConfig) if architecture.is_moe else (Qwen3ForCausalLM, Qwen3Config)
    )
    theirs = kind._from_config(config_kind(**_config(architecture)), attn_implementation="eager").eval()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in theirs.parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            parameter.copy_(1 + 0.3 * noise if parameter.dim() == 1 else noise * parameter.shape[-1] ** -0.5)
    return theirs, canonical(theirs, architecture)


def canonical(theirs: PreTrainedModel, architecture: Architecture) -> dict[str, Tensor]:
    """Rename and split what transformers fuses: gate_up_proj [E, 2I, H] holds the gates, then the ups."""
    weights = {}
    for name, weight in theirs.state_dict().items():
        if name.endswith("experts.gate_up_proj"):
            stem = name.removesuffix("gate_up_proj")
            weights[stem + "gate_proj.weight"], weights[stem + "up_proj.weight"] = weight.chunk(2, dim=1)
        elif name.endswith("experts.down_proj"):
            weights[name + ".weight"] = weight
        elif not (name == "lm_head.weight" and architecture.tie_word_embeddings):
            weights[name] = weight
    return weights


def ours(
    architecture: Architecture, weights: dict[str, Tensor], max_context: int, output: OutputKind = "logits"
) -> Qwen3:
    model = Qwen3(architecture, max_context, output)
    wanted = model.state_dict().keys()
    model.load_state_dict({name: weight for name, weight in weights.items() if name in wanted})
    return model


def _config(architecture: Architecture) -> dict[str, Any]:
    rope: dict[str, Any] = {"rope_type": "default", "rope_theta": architecture.rope_theta}
    if architecture.yarn is not None:
        rope |= {"rope_type": "yarn", **dataclasses.asdict(architecture.yarn)}
    shared = {
        field.name: getattr(architecture, field.name)
        for field in dataclasses.fields(architecture)
        if field.name not in {"yarn", "rope_theta", "rope_factor", "dense_layers"}
    }
    sparse = {"decoder_sparse_step": 1, "mlp_only_layers": list(architecture.dense_layers)}
    return {**shared, "rope_parameters": rope, "attention_bias": False, **sparse}
