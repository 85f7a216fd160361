"""A head that is the embedding: stored once, under either name, or twice."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from qwen3_compile.checkpoint.names import EMBEDDING, HEAD
from qwen3_compile.checkpoint.safetensors_file import NUMPY_TYPES
from qwen3_compile.errors import CheckpointError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from qwen3_compile.checkpoint.float8 import StoredFloat8
    from qwen3_compile.checkpoint.safetensors_file import StoredTensor


def take_tied_head(tensors: dict[str, StoredTensor], float8: dict[str, StoredFloat8], notes: list[str]) -> None:
    """Keep a tied matrix under the embedding's name alone.

    Args:
        tensors: stored tensors by canonical name; the head is taken out.
        float8: those of them in E4M3, likewise.
        notes: receives what was found.

    Raises:
        CheckpointError: both are stored and differ: which of the two is meant?
    """
    head, embedding = tensors.pop(HEAD, None), tensors.get(EMBEDDING)
    scaled_head, scaled_embedding = float8.pop(HEAD, None), float8.get(EMBEDDING)
    if head is None:
        return
    if embedding is None:
        tensors[EMBEDDING] = head
        if scaled_head is not None:
            float8[EMBEDDING] = scaled_head
        notes.append(f"the tied matrix is stored as {HEAD}")
        return
    pairs = [(head, embedding)]
    if scaled_head is not None and scaled_embedding is not None:
        pairs.append((scaled_head.scales, scaled_embedding.scales))
    if not all(_same(*pair) for pair in pairs):
        raise CheckpointError(
            f"{head.path}: {HEAD} differs from {EMBEDDING}, but tie_word_embeddings is true in config.json;"
            " set it to false there if the head is meant"
        )
    notes.append(f"{HEAD} repeats the tied {EMBEDDING}")


def _same(first: StoredTensor, second: StoredTensor) -> bool:
    kinds_agree = (first.dtype, first.shape) == (second.dtype, second.shape)
    return (
        kinds_agree
        and first.dtype in NUMPY_TYPES
        and _equal_bytes(np.atleast_1d(first.view()), np.atleast_1d(second.view()))
    )


def _equal_bytes(first: NDArray[Any], second: NDArray[Any]) -> bool:
    rows = max(1, (1 << 22) // max(1, first[:1].nbytes))
    return all(
        np.array_equal(first[row : row + rows].view(np.uint8), second[row : row + rows].view(np.uint8))
        for row in range(0, len(first), rows)
    )
