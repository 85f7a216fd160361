"""Streams weight recipes into one file: a tensor at a time, each at an offset that can be mapped.

The place of every initializer follows from its slot alone, so threads may pack in any order and the bytes are
the same. A thread holds one entry of one recipe (a matrix, or one expert), never a layer.
"""

from __future__ import annotations

import os
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from qwen3_compile.errors import CheckpointError
from qwen3_compile.pack.layouts import pack
from qwen3_compile.quantize import Float8, Quantized
from qwen3_compile.quantize.float8 import LARGEST

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from qwen3_compile.quantize import Stored
    from qwen3_graphs.lowered import TensorSlot, WeightRecipe

Array: TypeAlias = npt.NDArray[Any]

ALIGNMENT = 4096  # a page: external data at such offsets is mapped, not copied

_WRITE_BYTES = 64 << 20
_E4M3_NAN = np.uint8(0x7F)  # without the sign; E4M3 has no infinity
_LARGEST_SCALE = np.finfo(np.float32).max / LARGEST
# Exponent bits of the floating types: all ones mean NaN or infinity.
_EXPONENT = {"float16": 0x7C00, "bfloat16": 0x7F80, "float32": 0x7F800000, "float64": 0x7FF0000000000000}


@dataclass(frozen=True)
class Region:
    """Where an initializer's bytes are in the weights file."""

    offset: int
    length: int


@dataclass(frozen=True)
class Placement:
    """Where every initializer goes.

    Attributes:
        regions: by initializer's name.
        recipes: those to be packed; a recipe whose bytes another one writes is not among them.
        size: length of the file in bytes.
        entries: matrices (or experts) to pack in all.
    """

    regions: Mapping[str, Region]
    recipes: tuple[WeightRecipe, ...]
    size: int
    entries: int


def place(recipes: Sequence[WeightRecipe]) -> Placement:
    """Give every output of `recipes` its region, in their order.

    Recipes that make the same tensors from the same sources share their bytes.
    """
    regions: dict[str, Region] = {}
    distinct: dict[tuple[object, ...], WeightRecipe] = {}
    end = 0
    for recipe in recipes:
        contents = tuple((slot.dtype, slot.shape) for slot in recipe.outputs)
        first = distinct.setdefault((recipe.layout, recipe.format, recipe.sources, contents), recipe)
        for slot, written in zip(recipe.outputs, first.outputs, strict=True):
            if slot.name in regions:
                msg = f"initializer {slot.name} is made by two recipes"
                raise ValueError(msg)
            if first is recipe:
                start = -(-end // ALIGNMENT) * ALIGNMENT
                end = start + slot_bytes(slot)
                regions[slot.name] = Region(start, end - start)
            else:
                regions[slot.name] = regions[written.name]
    packed = tuple(distinct.values())
    return Placement(regions, packed, end, sum(map(_entries, packed)))


def _entries(recipe: WeightRecipe) -> int:
    """Matrices (or experts) that are packed one at a time; a computed table counts as one."""
    return max(1, len(recipe.sources))


def slot_bytes(slot: TensorSlot) -> int:
    """Bytes of an initializer; types below eight bits are packed, low bits first."""
    return -(-prod(slot.shape) * ir.DataType[slot.dtype].bitwidth // 8)


def write_weights(
    placement: Placement,
    read: Callable[[str], Stored],
    path: Path,
    *,
    tables: Mapping[str, Array] | None = None,
    threads: int = 1,
    written: Callable[[int], None] = lambda _: None,
) -> None:
    """Pack every recipe of `placement` into a new file.

    Args:
        placement: what `place` returned.
        read: gives a source tensor by canonical name, as it is stored.
        path: the file, which must not exist.
        tables: arrays that are computed, not read, by the layout of their recipe (which has no sources).
        threads: entries packed at the same time; memory grows with it, the bytes do not change.
        written: called with the bytes of each entry that is done, in order, on the calling thread.

    Raises:
        CheckpointError: a source tensor holds NaN or infinity, or stands for values beyond float32.
        OSError: the file cannot be written.
    """
    computed = tables or {}
    with path.open("xb", buffering=0) as file:
        file.truncate(placement.size)
        descriptor = file.fileno()

        def one(recipe: WeightRecipe, entry: int) -> int:
            if recipe.sources:
                sources = tuple(_finite(name, read(name)) for name in recipe.sources[entry])
                arrays: Sequence[Array] = pack(recipe.layout, sources, recipe.format)
            else:
                arrays = (computed[recipe.layout],)
            return _store(descriptor, placement.regions, recipe, entry, arrays)

        jobs = ((recipe, entry) for recipe in placement.recipes for entry in range(_entries(recipe)))
        for size in _ordered(one, jobs, threads):
            written(size)
        os.fsync(descriptor)


def _ordered(
    one: Callable[[WeightRecipe, int], int], jobs: Iterable[tuple[WeightRecipe, int]], threads: int
) -> Iterator[int]:
    """Results of `one` over `jobs` in their order, with at most `threads` at work and none far ahead."""
    with ThreadPoolExecutor(threads) as pool:
        waiting: deque[Future[int]] = deque()
        try:
            for recipe, entry in jobs:
                waiting.append(pool.submit(one, recipe, entry))
                if len(waiting) > threads:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()


def _store(
    descriptor: int, regions: Mapping[str, Region], recipe: WeightRecipe, entry: int, arrays: Sequence[Array]
) -> int:
    """Write one entry's arrays into their regions; returns the bytes written."""
    size = 0
    for slot, array in zip(recipe.outputs, arrays, strict=True):
        region = regions[slot.name]
        length = _checked_length(slot, array, recipe)
        _write(descriptor, np.ascontiguousarray(array), region.offset + entry * length)
        size += length
    return size


def _checked_length(slot: TensorSlot, array: Array, recipe: WeightRecipe) -> int:
    """Bytes of `array`, after checking that it is (an entry of) what `slot` announces."""
    entries = _entries(recipe)
    dtype = ir.DataType[slot.dtype]
    # A packer decides bytes, the graph how they are divided into dimensions.
    stored = np.dtype(np.uint8) if dtype.bitwidth < 8 else dtype.numpy()
    if array.dtype != stored or array.nbytes * entries != slot_bytes(slot):
        msg = (
            f"packer {recipe.layout!r} made {array.dtype} {list(array.shape)} for each of {entries} entries of "
            f"{slot.name}, which is {slot.dtype} {list(slot.shape)}"
        )
        raise TypeError(msg)
    return array.nbytes


def _write(descriptor: int, array: Array, offset: int) -> None:
    data = array.reshape(-1).view(np.uint8).data
    position = 0
    while position < len(data):
        position += os.pwrite(descriptor, data[position : position + _WRITE_BYTES], offset + position)


def _finite(name: str, tensor: Stored) -> Stored:
    """Return `tensor` unless it holds NaN or infinity, or E4M3 that its scales make overflow.

    It is looked at block by block, through the exponent's bits.
    """
    if isinstance(tensor, Float8):
        _finite(f"{name}_scale", tensor.scales)
        if (largest := np.abs(tensor.scales).max(initial=0)) > _LARGEST_SCALE:
            found = f"holds {largest:.3g}, with which values overflow float32"
            raise CheckpointError(f"tensor {name}_scale {found}: the checkpoint is damaged")
        rows = max(1, (1 << 20) // max(1, tensor.shape[1]))
        for start in range(0, len(tensor.codes), rows):
            if (tensor.codes[start : start + rows] & _E4M3_NAN == _E4M3_NAN).any():
                raise CheckpointError(f"tensor {name} holds NaN: the checkpoint is damaged")
    elif isinstance(tensor, Quantized):
        _finite(f"{name}_scale", tensor.scales)
    elif tensor.dtype.name in _EXPONENT:
        exponent = _EXPONENT[tensor.dtype.name]
        bits = tensor.reshape(-1).view(f"u{tensor.dtype.itemsize}")
        block = (1 << 20) // tensor.dtype.itemsize
        for start in range(0, bits.size, block):
            if (bits[start : start + block] & exponent).max(initial=0) == exponent:
                raise CheckpointError(f"tensor {name} holds NaN or infinity: the checkpoint is damaged")
    return tensor


def attach(model: ir.Model, placement: Placement, slots: Iterable[TensorSlot], location: str) -> None:
    """Make the initializers of `model` external data in the file `location` beside it.

    Raises:
        ValueError: the graph does not declare a slot, or declares an initializer that no recipe makes.
    """
    initializers = model.graph.initializers
    for slot in slots:
        if slot.name not in initializers:
            msg = f"recipes make {slot.name}, which is not an initializer of the graph"
            raise ValueError(msg)
        region = placement.regions[slot.name]
        initializers[slot.name].const_value = ir.ExternalTensor(
            location, region.offset, region.length, ir.DataType[slot.dtype], shape=ir.Shape(slot.shape), name=slot.name
        )
    for name, value in initializers.items():
        if name not in placement.regions and (
            value.const_value is None or isinstance(value.const_value, ir.ExternalTensor)
        ):
            msg = f"no recipe makes the initializer {name}"
            raise ValueError(msg)
