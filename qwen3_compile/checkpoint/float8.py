"""Checkpoints whose matrices are stored in E4M3, with a scale for each block of 128 x 128, each row, or each matrix.

Three dialects: `quant_method: fp8` (the released Qwen3-*-FP8; scales are called `weight_scale_inv`, and are factors all
the same), and `compressed-tensors` with eight-bit floats and `modelopt` (`weight_scale`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from qwen3_compile.errors import CheckpointError
from qwen3_compile.quantize.float8 import BLOCK, Float8

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from qwen3_compile.checkpoint.safetensors_file import StoredTensor

E4M3 = "F8_E4M3"
_SUFFIXES = ("_scale_inv", "_scale")
SCALE_TYPES = ("BF16", "F16", "F32")
_MODELOPT = ("FP8", "FP8_PER_CHANNEL_PER_TOKEN", "W4A16_AWQ")


def check_quantization(values: Mapping[str, Any], *, where: str) -> None:
    """Refuse every `quantization_config` but those whose weights this module reads.

    How inputs are quantised is the engine's choice; one scale of a matrix's input can be stored (`input_scales`).

    Raises:
        CheckpointError: another method, another type, blocks of another size, or inputs scaled statically in groups.
    """
    method = values.get("quant_method", "unknown")
    if method == "fp8":
        problems = _fp8_problems(values)
    elif method == "compressed-tensors":
        problems = _compressed_tensors_problems(values)
    elif method == "modelopt":
        problems = _modelopt_problems(values)
    else:
        raise CheckpointError(
            f"{where}: the weights are quantised ({method!r}), which is not supported yet;"
            " use the bfloat16 release and let the spec's precision quantise it"
        )
    for problem in problems:
        raise CheckpointError(f"{where}: quantization_config: {problem}; use the bfloat16 release")


def _fp8_problems(values: Mapping[str, Any]) -> Iterator[str]:
    expected = (
        ("fmt", ("e4m3",)),
        ("activation_scheme", ("dynamic", "static")),
        ("weight_block_size", ([BLOCK, BLOCK], None)),
    )
    for key, accepted in expected:
        if key in values and values[key] not in accepted:
            yield f"{key} is {values[key]!r}, expected {' or '.join(map(repr, accepted))}"


def _compressed_tensors_problems(values: Mapping[str, Any]) -> Iterator[str]:
    groups = values.get("config_groups")
    if not isinstance(groups, dict) or not groups:
        yield f"config_groups is {groups!r}, expected the schemes of the weights"
        return
    for name, group in groups.items():
        weights = group.get("weights") if isinstance(group, dict) else None
        if not isinstance(weights, dict):
            yield f"{name}: weights is {weights!r}, expected their scheme"
            continue
        for key, accepted in (
            ("type", ("float",)),
            ("num_bits", (8,)),
            ("symmetric", (True,)),
            ("strategy", ("tensor", "channel", "block")),
            ("block_structure", ([BLOCK, BLOCK], None)),
        ):
            if weights.get(key, accepted[0]) not in accepted:
                yield f"{name}: {key} of weights is {weights[key]!r}, expected {' or '.join(map(repr, accepted))}"
        inputs = group.get("input_activations")
        if isinstance(inputs, dict) and inputs.get("dynamic") not in (True, "local"):
            for key, wanted in (("type", "float"), ("num_bits", 8), ("symmetric", True), ("strategy", "tensor")):
                if inputs.get(key, wanted) != wanted:
                    yield f"{name}: {key} of static input_activations is {inputs[key]!r}, expected {wanted!r}"


def _modelopt_problems(values: Mapping[str, Any]) -> Iterator[str]:
    if (algorithm := values.get("quant_algo")) not in _MODELOPT:
        yield f"quant_algo is {algorithm!r}, expected {' or '.join(map(repr, _MODELOPT))}"


@dataclass(frozen=True)
class StoredFloat8:
    """Where the codes and the scales of a matrix lie."""

    codes: StoredTensor
    scales: StoredTensor

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


def take_scales(tensors: dict[str, StoredTensor]) -> dict[str, StoredFloat8]:
    """Take the scales of matrices in E4M3 out of `tensors`, in which the matrices themselves stay.

    Returns:
        Codes and scales by the matrix's name.

    Raises:
        CheckpointError: a matrix has no scales, or scales of another shape or type.
    """
    found = {}
    for name in [name for name, tensor in tensors.items() if tensor.dtype == E4M3]:
        codes = tensors[name]
        names = [name + suffix for suffix in _SUFFIXES if name + suffix in tensors]
        if len(names) != 1:
            raise CheckpointError(
                f"{codes.path}: {name} is {E4M3}, which needs one of {' and '.join(name + s for s in _SUFFIXES)};"
                f" found {len(names)} of them"
            )
        found[name] = StoredFloat8(codes, _checked(tensors.pop(names[0]), codes, names[0]))
    return found


def _checked(scales: StoredTensor, codes: StoredTensor, name: str) -> StoredTensor:
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
