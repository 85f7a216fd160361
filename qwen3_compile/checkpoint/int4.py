"""Matrices that NVIDIA's ModelOpt stores in four bits (`quant_algo: W4A16_AWQ`).

`X.weight` is uint8 [N / 2, K]: a byte holds row 2n in its low half and row 2n + 1 in its high half, in two's
complement. `X.weight_scale` is a number for each group of inputs, [N, K / group].
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from qwen3_compile.checkpoint.float8 import SCALE_TYPES
from qwen3_compile.checkpoint.safetensors_file import INT4
from qwen3_compile.errors import CheckpointError
from qwen3_compile.quantize import Quantized

if TYPE_CHECKING:
    from qwen3_compile.checkpoint.safetensors_file import StoredTensor

_PACKED = "U8"


@dataclass(frozen=True)
class StoredInt4:
    """Where the codes and the scales of a matrix lie."""

    codes: StoredTensor
    scales: StoredTensor

    def read(self, name: str) -> Quantized:
        """Unpack the matrix `name`: a copy, one byte a code.

        Raises:
            CheckpointError: a scale is not a number above zero.
        """
        packed, scales = self.codes.view().view(np.int8), self.scales.view().astype(np.float32)
        if not (np.isfinite(scales) & (scales > 0)).all():
            raise CheckpointError(f"{self.scales.path}: {name} has a scale that is not above zero: it is damaged")
        rows, columns = packed.shape
        codes = np.empty((2 * rows, columns), np.int8)
        codes[1::2] = packed >> 4
        codes[0::2] = (packed << 4) >> 4
        return Quantized(codes, scales, columns // scales.shape[1])


def take_int4(tensors: dict[str, StoredTensor]) -> dict[str, StoredInt4]:
    """Take the scales of packed matrices out of `tensors`, in which the matrices get the shape that they stand for.

    Returns:
        Codes and scales by the matrix's name.

    Raises:
        CheckpointError: a packed matrix has no scales, or scales of another shape or type.
    """
    found = {}
    for name in [name for name, tensor in tensors.items() if tensor.dtype == _PACKED and name.endswith(".weight")]:
        codes, scales = tensors[name], tensors.pop(f"{name}_scale", None)
        if scales is None:
            raise CheckpointError(f"{codes.path}: {name} is {_PACKED}, which needs {name}_scale; it is missing")
        _check(codes, scales, name)
        found[name] = StoredInt4(codes, scales)
        rows, columns = codes.shape
        tensors[name] = replace(codes, dtype=INT4, shape=(2 * rows, columns))
    return found


def _check(codes: StoredTensor, scales: StoredTensor, name: str) -> None:
    where = f"{codes.path}: {name}_scale"
    whole = len(codes.shape) == len(scales.shape) == 2 and scales.shape[0] == 2 * codes.shape[0]
    if not whole or not scales.shape[1] or codes.shape[1] % scales.shape[1]:
        raise CheckpointError(
            f"{where} is {list(scales.shape)} for four-bit codes {list(codes.shape)}, two rows in a byte: expected a"
            " number for each row and each group of inputs"
        )
    if scales.dtype not in SCALE_TYPES:
        raise CheckpointError(f"{where} is {scales.dtype}, expected {', '.join(SCALE_TYPES)}")
