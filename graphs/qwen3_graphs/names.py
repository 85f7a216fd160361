"""The checkpoint's names for the parameters of the model's pieces."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from qwen3_graphs.architecture import Architecture

EMBEDDING = "model.embed_tokens.weight"


def layer_prefix(index: int) -> str:
    """Return what stands before the names of a `DecoderLayer`'s parameters in the checkpoint."""
    return f"model.layers.{index}."


def head_name(architecture: Architecture, parameter: str) -> str:
    """Return the checkpoint's name of a `Head` parameter; a tied head is the embedding.

    Raises:
        KeyError: `parameter` is not one of a head's.
    """
    matrix = EMBEDDING if architecture.tie_word_embeddings else "lm_head.weight"
    return {"norm.weight": "model.norm.weight", "lm_head.weight": matrix}[parameter]
