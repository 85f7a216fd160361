"""Matrices in E4M3, with a scale for each block of 128 x 128, each row, or the whole matrix: what three schemes share.

`X.weight` [N, K] are the codes. The scales are called `X.weight_scale`, or `X.weight_scale_inv`, and are factors under
either name.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from qwen3_compile.checkpoint.schemes.scheme import SCALE_TYPES
from qwen3_compile.errors import CheckpointError
from qwen3_compile.quantize.float8 import BLOCK, Float8

if TYPE_CHECKING:
    from collections.abc import Mapping

    from qwen3_compile.checkpoint.safetensors_file import StoredTensor

E4M3 = "F8_E4M3"
_SUFFIXES = ("_scale_inv", "_scale")


@dataclass(frozen=True)
class StoredFloat8:
    """Where the codes and the scales of a matrix lie."""

    codes: StoredTensor
    scales: StoredTensor
    element_type: str = "float8_e4m3fn"

    @property
    def shape(self) -> tuple[int, ...]:
        """N and K."""
        return self.codes.shape

    @property
    def parts(self) -> tuple[StoredTensor, ...]:
        """Codes and scales."""
        return self.codes, self.scales

    def read(self, name: str) -> Float8:
        """A view of the codes of the matrix `name`, and its scales in float32.

        Raises:
            CheckpointError: a scale is below zero.
        """
        codes, scales = self.codes.view().view(np.uint8), self.scales.view().astype(np.float32)
        if (scales < 0).any():
            raise CheckpointError(f"{self.scales.path}: {name} has a scale below zero: the checkpoint is damaged")
        if scales.shape == _blocks(self.codes):
            return Float8(codes, scales)
        return Float8(codes, scales.reshape(()) if scales.size == 1 else scales.reshape(-1))


def holds_float8(tensors: Mapping[str, StoredTensor]) -> bool:
    """Whether a tensor is in E4M3."""
    return any(tensor.dtype == E4M3 for tensor in tensors.values())


def take_float8(tensors: dict[str, StoredTensor]) -> dict[str, StoredFloat8]:
    """Take matrices in E4M3 and their scales out of `tensors`.

    Returns:
        Codes and scales by the matrix's name.

    Raises:
        CheckpointError: a matrix has no scales, or scales of another shape or type.
    """
    found = {}
    for name in [name for name, tensor in tensors.items() if tensor.dtype == E4M3]:
        codes = tensors.pop(name)
        names = [name + suffix for suffix in _SUFFIXES if name + suffix in tensors]
        if len(names) != 1:
            raise CheckpointError(
                f"{codes.path}: {name} is {E4M3}, which needs one of {' and '.join(name + s for s in _SUFFIXES)};"
                f" found {len(names)} of them"
            )
        found[name] = StoredFloat8(codes, _check_scales(tensors.pop(names[0]), codes, names[0]))
    return found


def _check_scales(scales: StoredTensor, codes: StoredTensor, name: str) -> StoredTensor:
    if len(codes.shape) != 2:
        raise CheckpointError(f"{codes.path}: {name} scales a tensor of shape {list(codes.shape)}, expected a matrix")
    rows, blocks = codes.shape[0], _blocks(codes)
    if scales.shape not in (blocks, (rows, 1), (rows,), (1, 1), (1,), ()):
        raise CheckpointError(
            f"{scales.path}: {name} is {list(scales.shape)} for a matrix of {list(codes.shape)}, expected"
            f" {list(blocks)} (blocks of {BLOCK} x {BLOCK}), {[rows, 1]} or [1]"
        )
    if scales.dtype not in SCALE_TYPES:
        raise CheckpointError(f"{scales.path}: {name} is {scales.dtype}, expected BF16, F16 or F32")
    return scales


def _blocks(codes: StoredTensor) -> tuple[int, int]:
    """Blocks along the rows and the columns of a matrix."""
    rows, columns = codes.shape
    return -(-rows // BLOCK), -(-columns // BLOCK)
