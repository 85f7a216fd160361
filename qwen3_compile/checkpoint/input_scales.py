"""What quantized checkpoints store about a matrix's input, under the names that NVIDIA's ModelOpt gives it.

- `X.input_scale`, one number: the input of the E4M3 matrix `X.weight` is rounded to E4M3 times this scale.
- `X.pre_quant_scale` [K] (AWQ): the input is multiplied by it before it meets the matrix `X.weight` [N, K], whose
  columns were divided by it before they were quantized.

Both appear among a checkpoint's tensors. A reader that does not multiply inputs must read the matrix through
`fold_pre_scales`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from qwen3_compile.checkpoint.schemes.float8 import E4M3
from qwen3_compile.checkpoint.schemes.scheme import SCALE_TYPES
from qwen3_compile.errors import CheckpointError
from qwen3_compile.quantize import values

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping

    from numpy.typing import NDArray

    from qwen3_compile.checkpoint.protocol import Checkpoint
    from qwen3_compile.checkpoint.safetensors_file import StoredTensor
    from qwen3_compile.checkpoint.schemes import StoredWeight
    from qwen3_compile.quantize import Stored

INPUT_SCALE, PRE_SCALE = "input_scale", "pre_quant_scale"
_MATRICES = ("_proj.weight", "lm_head.weight")
_EXPERT = re.compile(r"\.experts\.\d+\.")
# Of an eight-bit cache, whose format is the engine's own choice.
_CACHE_SCALE = re.compile(r"model\.layers\.\d+\.self_attn\.(k_proj\.k|v_proj\.v)_scale")


def is_cache_scale(name: str) -> bool:
    """Whether `name` is the scale of a key-value cache, which every reader chooses for itself."""
    return _CACHE_SCALE.fullmatch(name) is not None


def scale_name(matrix: str, kind: str) -> str:
    """Name of a matrix's `INPUT_SCALE` or `PRE_SCALE`: it stands in the place of `weight`."""
    return matrix.removesuffix("weight") + kind


@dataclass(frozen=True)
class StoredScale:
    """A scale in a file; one number in a list is read as a number alone."""

    tensor: StoredTensor
    element_type: str = "float32"

    @property
    def shape(self) -> tuple[int, ...]:
        """[] of an input, [K] of a pre-scale."""
        return () if self.tensor.shape == (1,) else self.tensor.shape

    @property
    def parts(self) -> tuple[StoredTensor, ...]:
        """The one tensor."""
        return (self.tensor,)

    def read(self, name: str) -> NDArray[np.float32]:
        """The scale in float32.

        Raises:
            CheckpointError: it holds a number that is not finite or not above zero.
        """
        found = self.tensor.view().astype(np.float32)
        if not (np.isfinite(found) & (found > 0)).all():
            raise CheckpointError(
                f"{self.tensor.path}: {name} holds a number that is not above zero: the checkpoint is damaged"
            )
        return found.reshape(self.shape)


def take_input_scales(weights: dict[str, StoredWeight]) -> dict[str, StoredScale]:
    """Take the scales of inputs out of weights by canonical name, in which the matrices stay.

    Raises:
        CheckpointError: a scale is of a tensor that cannot have one, or of another shape or type.
    """
    found = {}
    for name in [name for name in weights if name.endswith((f".{INPUT_SCALE}", f".{PRE_SCALE}"))]:
        (scale,), matrix = weights.pop(name).parts, f"{name.rpartition('.')[0]}.weight"
        if matrix not in weights or not matrix.endswith(_MATRICES) or len(weights[matrix].shape) != 2:
            raise CheckpointError(
                f"{scale.path}: {name} scales an input, but {matrix} is no projection, expert or head"
            )
        kind = weights[matrix].parts[0].dtype
        if name.endswith(INPUT_SCALE) and kind != E4M3:
            raise CheckpointError(f"{scale.path}: {name} scales the input of {matrix}, which is {kind}, not {E4M3}")
        found[name] = StoredScale(_check_scale(scale, name, weights[matrix].shape[1]))
    return found


def _check_scale(scale: StoredTensor, name: str, inputs: int) -> StoredTensor:
    accepted = ((), (1,)) if name.endswith(INPUT_SCALE) else ((inputs,),)
    if scale.shape not in accepted:
        expected = " or ".join(str(list(shape)) for shape in accepted)
        raise CheckpointError(f"{scale.path}: {name} is {list(scale.shape)}, expected {expected}")
    if scale.dtype not in SCALE_TYPES:
        raise CheckpointError(f"{scale.path}: {name} is {scale.dtype}, expected BF16, F16 or F32")
    return scale


def pre_scaled(checkpoint: Checkpoint) -> tuple[str, ...]:
    """Matrices whose inputs a graph may multiply: those with a pre-scale, but for experts.

    Experts see the same input and would each want it multiplied differently; theirs are folded into the weights.
    """
    found = (name for name in checkpoint.tensors() if name.endswith(f".{PRE_SCALE}") and not _EXPERT.search(name))
    return tuple(sorted(f"{name.rpartition('.')[0]}.weight" for name in found))


def stored_input_scales(checkpoint: Checkpoint, wanted: Collection[str]) -> dict[str, float]:
    """Those of the wanted scales of E4M3 inputs that a checkpoint holds.

    Args:
        checkpoint: may hold a scale for each expert.
        wanted: names of scales; one without an expert's number (`….mlp.experts.up_proj.input_scale`) stands for all
            experts of the layer, and is the largest of theirs.
    """
    largest: dict[str, float] = {}
    for name in checkpoint.tensors():
        shared = _EXPERT.sub(".experts.", name)
        if shared in wanted:
            largest[shared] = max(largest.get(shared, 0.0), float(values(checkpoint.read(name))))
    return largest


def with_input_scales(read: Callable[[str], Stored], scales: Mapping[str, float]) -> Callable[[str], Stored]:
    """Lay scales over a checkpoint's `read`: each is a float32 tensor [] under its name."""
    return lambda name: np.array(scales[name], np.float32) if name in scales else read(name)


def fold_pre_scales(checkpoint: Checkpoint, keep: Collection[str] = ()) -> Callable[[str], Stored]:
    """Read tensors so that inputs need no pre-scale: it is multiplied into the columns of its matrix, in float32.

    Args:
        checkpoint: the weights.
        keep: matrices whose inputs the reader multiplies itself; they are read as they are stored.
    """
    tensors: Mapping[str, Any] = checkpoint.tensors()

    def read(name: str) -> Stored:
        stored, scale = checkpoint.read(name), scale_name(name, PRE_SCALE)
        if name in keep or scale == name or scale not in tensors:
            return stored
        columns = values(checkpoint.read(scale))
        product: NDArray[Any] = values(stored).astype(np.float32) * columns
        return product

    return read
