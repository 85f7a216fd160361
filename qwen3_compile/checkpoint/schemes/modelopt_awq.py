"""`quant_method: modelopt`, `quant_algo: W4A16_AWQ`: matrices that NVIDIA's ModelOpt stores in four bits.

`X.weight` is uint8 [N / 2, K]: a byte holds row 2n in its low half and row 2n + 1 in its high half, in two's
complement. `X.weight_scale` is a number for each group of inputs, [N, K / group].
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from qwen3_compile.checkpoint.schemes.scheme import SCALE_TYPES, Scheme, StoredFormat
from qwen3_compile.errors import CheckpointError
from qwen3_compile.quantize import Quantized

if TYPE_CHECKING:
    from collections.abc import Mapping

    from qwen3_compile.checkpoint.safetensors_file import StoredTensor

_PACKED = "U8"
_ALGORITHM = "W4A16_AWQ"
_GROUP = 128  # ModelOpt's default


@dataclass(frozen=True)
class StoredInt4:
    """Where the codes and the scales of a matrix lie."""

    codes: StoredTensor
    scales: StoredTensor
    element_type: str = "int4"

    @property
    def shape(self) -> tuple[int, ...]:
        """N and K."""
        rows, columns = self.codes.shape
        return 2 * rows, columns

    @property
    def parts(self) -> tuple[StoredTensor, ...]:
        """Codes and scales."""
        return self.codes, self.scales

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


def _is_packed(name: str, tensor: StoredTensor) -> bool:
    return tensor.dtype == _PACKED and name.endswith(".weight")


def _take(tensors: dict[str, StoredTensor]) -> dict[str, StoredInt4]:
    found = {}
    for name in [name for name, tensor in tensors.items() if _is_packed(name, tensor)]:
        codes, scales = tensors.pop(name), tensors.pop(f"{name}_scale", None)
        if scales is None:
            raise CheckpointError(f"{codes.path}: {name} is {_PACKED}, which needs {name}_scale; it is missing")
        _check(codes, scales, name)
        found[name] = StoredInt4(codes, scales)
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


def _format(stated: Mapping[str, Any]) -> StoredFormat:
    group = stated.get("group_size")
    return StoredFormat("int4", group_size=group if type(group) is int and group > 0 else _GROUP)


SCHEME = Scheme(
    name=f"modelopt {_ALGORITHM}",
    is_stated=lambda stated: stated.get("quant_method") == "modelopt" and stated.get("quant_algo") == _ALGORITHM,
    is_stored=lambda tensors: any(_is_packed(name, tensor) for name, tensor in tensors.items()),
    problems=lambda _: (),
    format_of=_format,
    take=_take,
)
