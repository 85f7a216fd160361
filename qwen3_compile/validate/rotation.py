"""Rotary positions near the end of the context, which no text of a validation reaches.

A key of the first layer depends on its token and its position alone, and at position 0 it is not turned. So one token
is run at position 0 and at a few far positions, the keys are read from the engine's cache, and each far one must be
that of position 0 turned by the angles of the eager model. The tokens between are never run: attention reads whatever
the cache holds there, which no key of the first layer depends on. This finds tables that are too short, shifted or
rounded, positions that overflow or lose bits, and a scaling of RoPE that the engine does not have. Queries are turned
by the same tables in the same operators; their own angles are not read.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from qwen3_graphs.rope import rope_frequencies
from qwen3_runtime.packing import Chunk, pack_step

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from qwen3_graphs.architecture import Architecture
    from qwen3_runtime.manifest import ModelConfig
    from qwen3_runtime.step import Backend

# Relative error of a key, two roundings of the cache included; a position that is off by one gives more than 0.1.
KEY_ERROR_LIMITS = {"float32": 1e-3, "float16": 5e-3, "bfloat16": 3e-2, "int8": 5e-2}


@dataclass(frozen=True)
class Rotation:
    """How far keys at far positions are from where the eager model turns them; `judge` says if it is too far.

    Attributes:
        positions: those that were run, ascending.
        error: the largest distance, relative to the length of the key.
        position: where that is.
        limit: what the type of the cache allows.
    """

    positions: list[int]
    error: float
    position: int
    limit: float


def far_positions(max_context: int) -> list[int]:
    """The last two positions, and those at a half and three quarters of the context."""
    return sorted({max_context // 2, max_context * 3 // 4, max(max_context - 2, 0), max_context - 1})


def measure_rotation(backend: Backend, architecture: Architecture, model: ModelConfig) -> Rotation | None:
    """Run one token at far positions and compare its keys.

    Args:
        backend: of the engine, with nothing in its cache that is still needed.
        architecture: dimensions and RoPE of the model.
        model: the engine's.

    Returns:
        None where the backend cannot show its keys.
    """
    token = model.tokenizer_vocab_size // 2
    start = _keys(backend, token, 0)
    if start is None:
        return None
    frequency, _ = rope_frequencies(architecture)
    positions = [position for position in far_positions(model.max_context) if position]
    errors = []
    for position in positions:
        found = _keys(backend, token, position)
        if found is None:
            return None
        expected = rotate(start, position * frequency)
        errors.append(float(np.max(np.linalg.norm(found - expected, axis=-1) / np.linalg.norm(expected, axis=-1))))
    worst = int(np.argmax(errors)) if errors else 0  # the first NaN, if there is one
    return Rotation(
        positions,
        errors[worst] if errors else 0.0,
        positions[worst] if positions else 0,
        KEY_ERROR_LIMITS[model.cache_dtype],
    )


def rotate(keys: NDArray[np.float64], angles: NDArray[np.float64]) -> NDArray[np.float64]:
    """Rotate keys [heads, head_dim] by angles [head_dim / 2]: the first half is paired with the second."""
    first, second = np.split(keys, 2, axis=-1)
    cos, sin = np.cos(angles), np.sin(angles)
    return np.concatenate([first * cos - second * sin, second * cos + first * sin], axis=-1)


def _keys(backend: Backend, token: int, position: int) -> NDArray[np.float64] | None:
    """Keys of the first layer [kv_heads, head_dim] after one token was run at a position."""
    size = backend.cache.block_size
    # Blocks that are only read may be one and the same; that of the token must be another.
    blocks = np.zeros(position // size + 1, np.int32)
    blocks[-1] = min(1, backend.cache.num_blocks - 1) if position >= size else 0
    backend.run(pack_step([Chunk(np.array([token]), position, blocks)], rows="last"))
    keys = backend.stored_keys(0, int(blocks[-1]), position % size)
    return None if keys is None else keys.astype(np.float64)
