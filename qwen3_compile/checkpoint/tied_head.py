"""A head that is the embedding: stored once, under either name, or twice."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from qwen3_compile.checkpoint.names import EMBEDDING, HEAD
from qwen3_compile.checkpoint.safetensors_file import NUMPY_TYPES
from qwen3_compile.errors import CheckpointError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from qwen3_compile.checkpoint.safetensors_file import StoredTensor
    from qwen3_compile.checkpoint.schemes import StoredWeight


def take_tied_head(weights: dict[str, StoredWeight], notes: list[str]) -> None:
    """Keep a tied matrix under the embedding's name alone.

    Args:
        weights: by canonical name; the head is taken out.
        notes: receives what was found.

    Raises:
        CheckpointError: both are stored and differ: which of the two is meant?
    """
    head, embedding = weights.pop(HEAD, None), weights.get(EMBEDDING)
    if head is None:
        return
    if embedding is None:
        weights[EMBEDDING] = head
        notes.append(f"the tied matrix is stored as {HEAD}")
        return
    alike = len(head.parts) == len(embedding.parts)
    if not alike or not all(_same(*pair) for pair in zip(head.parts, embedding.parts, strict=True)):
        raise CheckpointError(
            f"{head.parts[0].path}: {HEAD} differs from {EMBEDDING}, but tie_word_embeddings is true in config.json;"
            " set it to false there if the model has its own head"
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
