"""Weights that are floats: a checkpoint without quantization, and what a quantized one leaves as it is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from qwen3_compile.checkpoint.safetensors_file import FLOAT64
from qwen3_compile.checkpoint.schemes.scheme import Scheme, StoredFormat

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from qwen3_compile.checkpoint.safetensors_file import StoredTensor

# By the file's names of types; a tensor of another type is in no scheme, and `element_type` keeps the file's name.
ELEMENT_TYPES = {"BF16": "bfloat16", "F16": "float16", "F32": "float32", FLOAT64: "float32"}


@dataclass(frozen=True)
class StoredFloats:
    """A tensor of floats; float64 is rounded to float32."""

    tensor: StoredTensor

    @property
    def shape(self) -> tuple[int, ...]:
        """As in the file."""
        return self.tensor.shape

    @property
    def element_type(self) -> str:
        """Of what is read."""
        return ELEMENT_TYPES.get(self.tensor.dtype, self.tensor.dtype)

    @property
    def parts(self) -> tuple[StoredTensor, ...]:
        """The one tensor."""
        return (self.tensor,)

    def read(self, name: str) -> NDArray[Any]:  # noqa: ARG002  # a view cannot be wrong
        """A read-only view of the file; of float64, a rounded copy."""
        elements = self.tensor.view()
        return elements if self.tensor.dtype != FLOAT64 else _rounded(elements)


def _rounded(array: NDArray[np.float64]) -> NDArray[np.float32]:
    with np.errstate(over="ignore"):  # what becomes infinite is named where weights are packed
        return array.astype(np.float32)


SCHEME = Scheme(
    name="no quantization_config",
    is_stated=lambda _: False,
    is_stored=lambda tensors: all(tensor.dtype in ELEMENT_TYPES for tensor in tensors.values()),
    problems=lambda _: (),
    format_of=lambda _: StoredFormat(),
    take=lambda _: {},
)
