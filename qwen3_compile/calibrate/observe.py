"""Eager PyTorch over a checkpoint, one layer at a time, with a function watching the input of every matrix."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import torch
from torch import Tensor, nn

from qwen3_compile.checkpoint.names import EMBEDDING, HEAD
from qwen3_graphs import names, reference
from qwen3_graphs.model import Linear, MoE
from qwen3_graphs.moe import watched_experts

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from qwen3_graphs.architecture import Architecture
    from qwen3_graphs.model import DecoderLayer

    Load: TypeAlias = Callable[[str], Tensor]
    Watch: TypeAlias = Callable[[str, Tensor], Tensor]


def watched_states(
    architecture: Architecture, load: Load, sequences: Sequence[NDArray[np.int64]], watch: Watch
) -> Tensor:
    """Run whole sequences through the model, passing the input of each matrix through `watch`.

    Args:
        architecture: dimensions of the model.
        load: returns a weight by its canonical name, the experts of a layer stacked (as `qwen3_graphs.reference` asks).
        sequences: token ids int64 [n], n >= 1, of each sequence.
        watch: called with a matrix's canonical name (of experts, without their number: several times a layer, once
            for each expert that has tokens) and its input float32 [t, K]; what it returns is multiplied in its place.

    Returns:
        What `watch` returned for the head's input, float32 [T, H]: the states of all tokens after the final norm.
    """
    lengths = [ids.size for ids in sequences]
    query_start = torch.tensor(np.cumsum([0, *lengths]), dtype=torch.int32)
    rope = reference.position_tables(architecture, max(lengths))
    x = reference.embed(architecture, load, torch.from_numpy(np.concatenate(sequences)))
    for index in range(architecture.num_hidden_layers):
        layer = reference.load_layer(architecture, index, load)
        _attach(layer, names.layer_prefix(index), watch)
        x = reference.forward_layer(layer, x, query_start, rope)
    states = reference.forward_head(reference.load_head(architecture, load, output="hidden"), x)
    return watch(EMBEDDING if architecture.tie_word_embeddings else HEAD, states)


def _attach(layer: DecoderLayer, prefix: str, watch: Watch) -> None:
    """Make the layer's matrices ask `watch` for their inputs."""
    for name, module in layer.named_modules():
        if isinstance(module, Linear):
            _watch_linear(module, f"{prefix}{name}.weight", watch)
    if isinstance(layer.mlp, MoE):
        # The semantic operator of experts is one step, without an inside to watch.
        layer.register_module("mlp", _WatchedExperts(layer.mlp, f"{prefix}mlp.experts.", watch))


def _watch_linear(module: Linear, name: str, watch: Watch) -> None:
    module.register_forward_pre_hook(lambda _, inputs: (watch(name, inputs[0]),))


class _WatchedExperts(nn.Module):
    """The experts of a layer, computed where the inputs of each can be watched."""

    def __init__(self, moe: MoE, prefix: str, watch: Watch) -> None:
        super().__init__()
        self._moe, self._prefix, self._watch = moe, prefix, watch

    def forward(self, x: Tensor) -> Tensor:
        """Route each token to its experts, [T, H] -> [T, H]."""
        architecture, state = self._moe.architecture, self._moe.state_dict()
        return watched_experts(
            x,
            state["gate.weight"],
            state["experts.gate_proj.weight"],
            state["experts.up_proj.weight"],
            state["experts.down_proj.weight"],
            architecture.num_experts_per_tok,
            architecture.norm_topk_prob,
            lambda name, inputs: self._watch(f"{self._prefix}{name}.weight", inputs),
        )
