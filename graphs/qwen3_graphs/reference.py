"""The float32 answer that engines are compared with: whole sequences, one layer's weights at a time.

The modules are those that are traced. Without a cache to fill, every token is given a cache block of its own,
so that sequences of any lengths are packed without padding. A caller that keeps the hidden states of several
packings can run all of them through a layer before the next one is loaded:

    hidden = [embed(architecture, load, ids) for ids in packings]
    for index in range(architecture.num_hidden_layers):
        layer = load_layer(architecture, index, load)
        hidden = [forward_layer(layer, x, starts, rope) for x, starts in zip(hidden, query_starts)]
    head = load_head(architecture, load)
    logits = [forward_head(head, x, rows) for x, rows in zip(hidden, wanted)]
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

import torch
from torch import Tensor, nn

from qwen3_graphs import names
from qwen3_graphs.model import Batch, DecoderLayer, Embedding, Head, OutputKind
from qwen3_graphs.rope import rope_tables

if TYPE_CHECKING:
    from collections.abc import Callable

    from qwen3_graphs.architecture import Architecture

    Load = Callable[[str], Tensor]

Piece = TypeVar("Piece", bound=nn.Module)


def position_tables(architecture: Architecture, max_context: int) -> tuple[Tensor, Tensor]:
    """Return `rope_tables` as tensors: cos and sin, float32 [max_context, head_dim / 2]."""
    cos, sin = rope_tables(architecture, max_context)
    return torch.from_numpy(cos), torch.from_numpy(sin)


@torch.no_grad()
def embed(architecture: Architecture, load: Load, input_ids: Tensor) -> Tensor:
    """Look up token ids int64 [T] -> hidden states float32 [T, H]. `load` is as in `load_layer`."""
    module = _assign(lambda: Embedding(architecture), lambda _: load(names.EMBEDDING))
    hidden: Tensor = module(input_ids)
    return hidden.float()


def load_layer(architecture: Architecture, index: int, load: Load) -> DecoderLayer:
    """Make decoder layer `index` of weights that may be of any floating-point type; they are widened in use.

    Args:
        architecture: dimensions of the model.
        index: the layer, from 0.
        load: returns a weight by its canonical name; the experts of a layer stacked, as in the semantic graph.

    Raises:
        ValueError: a weight has another shape than the architecture gives it.
    """
    prefix = names.layer_prefix(index)
    return _assign(lambda: DecoderLayer(architecture, index), lambda name: load(prefix + name))


@torch.no_grad()
def forward_layer(layer: DecoderLayer, hidden: Tensor, query_start: Tensor, rope: tuple[Tensor, Tensor]) -> Tensor:
    """Run whole sequences through one layer.

    Args:
        layer: from `load_layer`.
        hidden: float32 [T, H], the sequences concatenated.
        query_start: int32 [B+1], where each sequence begins; the last is T.
        rope: from `position_tables`, at least as long as the longest sequence.

    Returns:
        float32 [T, H].
    """
    architecture = layer.self_attn.architecture
    cache = hidden.new_empty(len(hidden), 2, architecture.num_key_value_heads, 1, architecture.head_dim)
    out: Tensor = layer(hidden, rope, cache, _one_block_a_token(query_start))[0]
    return out


def load_head(architecture: Architecture, load: Load, *, output: OutputKind = "logits") -> Head:
    """Make the final norm and, for logits, the output matrix; `load` is as in `load_layer`."""
    return _assign(lambda: Head(architecture, output), lambda name: load(names.head_name(architecture, name)))


@torch.no_grad()
def forward_head(head: Head, hidden: Tensor, rows: Tensor | None = None) -> Tensor:
    """Turn last hidden states [T, H] into float32 logits [R, vocab], or normalized hidden states [R, H].

    Args:
        head: from `load_head`.
        hidden: float32 [T, H].
        rows: int32 [R], the tokens that are wanted; all of them by default.
    """
    result: Tensor = head(hidden, torch.arange(len(hidden)) if rows is None else rows)
    return result


def forward(
    architecture: Architecture, load: Load, input_ids: Tensor, query_start: Tensor, *, output: OutputKind = "logits"
) -> Tensor:
    """Run whole sequences through the whole model, holding one layer's weights at a time.

    Args:
        architecture: dimensions of the model.
        load: as in `load_layer`.
        input_ids: int64 [T], the sequences concatenated.
        query_start: int32 [B+1], where each sequence begins; the last is T.
        output: `logits` or `hidden`.

    Returns:
        float32 [T, vocab] or [T, H].
    """
    rope = position_tables(architecture, int(query_start.diff().max()))
    hidden = embed(architecture, load, input_ids)
    for index in range(architecture.num_hidden_layers):
        hidden = forward_layer(load_layer(architecture, index, load), hidden, query_start, rope)
    return forward_head(load_head(architecture, load, output=output), hidden)


def _one_block_a_token(query_start: Tensor) -> Batch:
    """Place each sequence from position 0 in a cache whose blocks hold one token, block i for token i."""
    length = query_start.diff()
    place = torch.arange(int(length.max()), dtype=torch.int32)
    table = torch.where(place < length[:, None], query_start[:-1, None] + place, -1)
    return Batch(query_start, torch.zeros_like(length), table)


def _assign(make: Callable[[], Piece], load: Load) -> Piece:
    """Make a module whose parameters are what `load` returns for their names, in the type that they have there."""
    with torch.device("meta"):
        module = make()
    weights = {name: load(name) for name in module.state_dict()}
    for name, expected in module.state_dict().items():
        if weights[name].shape != expected.shape:
            raise ValueError(f"{name}: expected shape {list(expected.shape)}, found {list(weights[name].shape)}")
    module.load_state_dict(weights, assign=True)
    return module
