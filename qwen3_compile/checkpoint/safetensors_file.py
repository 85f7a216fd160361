"""The header of a safetensors file, checked before any byte of it is trusted, and views of its tensors.

The `safetensors` package gives numpy no bfloat16, so the header is parsed here; the format is eight bytes of
header length, a JSON header, and the tensors' bytes without holes (https://github.com/huggingface/safetensors).
"""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import ml_dtypes
import numpy as np

from qwen3_compile.checkpoint.json_file import parse_json_object
from qwen3_compile.errors import CheckpointError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from numpy.typing import NDArray

MAX_HEADER_BYTES = 100_000_000  # the limit of the reference implementation

ELEMENT_BITS = {
    "BOOL": 8, "U8": 8, "I8": 8, "F8_E4M3": 8, "F8_E5M2": 8, "F8_E8M0": 8, "F8_E4M3FNUZ": 8, "F8_E5M2FNUZ": 8,
    "I16": 16, "U16": 16, "F16": 16, "BF16": 16, "I32": 32, "U32": 32, "F32": 32, "I64": 64, "U64": 64, "F64": 64,
    "C64": 64, "F4": 4, "F6_E2M3": 6, "F6_E3M2": 6,
}  # fmt: skip

FLOAT64 = "F64"

NUMPY_TYPES: dict[str, np.dtype[Any]] = {
    "BF16": np.dtype(ml_dtypes.bfloat16),
    "F16": np.dtype(np.float16),
    "F32": np.dtype(np.float32),
    FLOAT64: np.dtype(np.float64),
    "F8_E4M3": np.dtype(ml_dtypes.float8_e4m3fn),
    "U8": np.dtype(np.uint8),
    "I32": np.dtype(np.int32),
    "I64": np.dtype(np.int64),
}


@dataclass(frozen=True)
class StoredTensor:
    """Where a tensor lies: its safetensors type name, shape, and byte offset from the start of the file."""

    path: Path
    file_size: int
    dtype: str
    shape: tuple[int, ...]
    offset: int

    def part(self, *, offset: int, shape: tuple[int, ...]) -> StoredTensor:
        """The contiguous sub-tensor that begins `offset` elements in (whole-byte element types only)."""
        start = self.offset + offset * ELEMENT_BITS[self.dtype] // 8
        return StoredTensor(self.path, self.file_size, self.dtype, shape, start)

    def view(self) -> NDArray[Any]:
        """A read-only view of the bytes on disk (a copy if the file misaligns them).

        Raises:
            CheckpointError: the file is gone or has another size than when its header was read.
        """
        try:
            with self.path.open("rb") as file:
                # A mapping past the end of a file is a bus error, not an exception.
                size = os.fstat(file.fileno()).st_size
                if size != self.file_size:
                    raise CheckpointError(
                        f"{self.path}: {size} bytes now, {self.file_size} when it was opened; was it overwritten?"
                    )
                mapped = np.memmap(file, NUMPY_TYPES[self.dtype], mode="r", offset=self.offset, shape=self.shape)
        except OSError as error:
            raise CheckpointError(f"{self.path}: cannot be read: {error.strerror}") from error
        array = np.asarray(mapped)
        return array if array.flags.aligned else array.copy()


def read_header(path: Path) -> Mapping[str, StoredTensor]:
    """Every tensor that the safetensors file `path` holds, by stored name.

    Raises:
        CheckpointError: the file is missing, truncated, or its header breaks a rule of the format.
    """
    try:
        with path.open("rb") as file:
            file_size = os.fstat(file.fileno()).st_size
            length = int.from_bytes(file.read(8), "little")
            if file_size < 8 or length > min(MAX_HEADER_BYTES, file_size - 8):
                raise CheckpointError(
                    f"{path}: incomplete safetensors file: {file_size} bytes, header of {length}; download it again"
                )
            content = file.read(length)
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read: {error.strerror}") from error
    header = parse_json_object(content, where=f"{path}: header")
    header.pop("__metadata__", None)

    data_start = 8 + length
    ranges = []
    tensors = {}
    for name, entry in header.items():
        dtype, shape, (begin, end) = _parse_entry(entry, where=f"{path}: header: {name!r}")
        ranges.append((begin, end, name))
        tensors[name] = StoredTensor(path, file_size, dtype, shape, data_start + begin)
    _check_ranges(ranges, data_size=file_size - data_start, path=path)
    return tensors


def _parse_entry(entry: object, *, where: str) -> tuple[str, tuple[int, ...], tuple[int, int]]:
    if not isinstance(entry, dict) or entry.keys() != {"dtype", "shape", "data_offsets"}:
        raise CheckpointError(f"{where}: expected dtype, shape and data_offsets")
    dtype, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(dtype, str) or dtype not in ELEMENT_BITS:
        raise CheckpointError(f"{where}: unknown dtype {dtype!r}")
    if not _is_sizes(shape):
        raise CheckpointError(f"{where}: shape {shape!r} is not a list of sizes")
    if not _is_sizes(offsets) or len(offsets) != 2 or offsets[0] > offsets[1]:
        raise CheckpointError(f"{where}: data_offsets {offsets!r} are not a begin and an end")
    bits = math.prod(shape) * ELEMENT_BITS[dtype]
    if bits != 8 * (offsets[1] - offsets[0]):
        raise CheckpointError(
            f"{where}: {dtype} {shape} takes {bits / 8:g} bytes, but data_offsets span {offsets[1] - offsets[0]}"
        )
    return dtype, tuple(shape), (offsets[0], offsets[1])


def _is_sizes(value: object) -> bool:
    # JSON's true is an int to Python. 2**63 bounds what numpy and mmap can address.
    return isinstance(value, list) and all(type(size) is int and 0 <= size < 2**63 for size in value)


def _check_ranges(ranges: list[tuple[int, int, str]], *, data_size: int, path: Path) -> None:
    position = 0
    for begin, end, name in sorted(ranges):
        if begin != position:
            problem = "overlaps the tensor before it" if begin < position else "leaves a hole before it"
            raise CheckpointError(f"{path}: header: {name!r} begins at byte {begin}, which {problem} ({position})")
        position = end
    if position != data_size:
        raise CheckpointError(
            f"{path}: the header declares {position} bytes of tensors, the file holds {data_size}; download it again"
        )
