"""From the inputs that matrices see to one scale for each matrix.

A value x of a matrix's input is stored as round(x / scale), saturated. What is measured is the largest magnitude seen,
amax; percentiles were tried and are worse wherever the texts differ from what the model is later asked
(`docs/tensorrt.md` has the figures).

- int8: amax / 127, rounded up to eight significant bits.
- fp8 (E4M3): 2 * amax / 448, rounded up to a power of two. A floating-point code keeps its relative precision under a
  larger scale, so that room for two to four times the largest value seen costs nothing until values underflow.

Either is exact in bfloat16, in float16 (from 2^-14 up) and in float32, whichever of them the engine's graph wants, and
rounding makes it insensitive to the last digits of the arithmetic that measured it.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal, TypeAlias

from qwen3_compile.calibrate.observe import watched_states
from qwen3_compile.checkpoint.input_scales import INPUT_SCALE, scale_name
from qwen3_compile.checkpoint.weights import torch_weights
from qwen3_compile.errors import CheckpointError

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

    from qwen3_compile.checkpoint import Checkpoint
    from qwen3_graphs.architecture import Architecture

InputKind: TypeAlias = Literal["fp8", "int8"]

_BFLOAT16_BITS = 8  # significant bits of bfloat16


def input_scale_name(matrix: str) -> str:
    """Name of the scale of a matrix's input: `.weight` becomes `.input_scale`.

    The experts of a layer share one for each kind of matrix, named as they are in graphs: without a number.
    """
    return scale_name(matrix, INPUT_SCALE)


def measure_activation_scales(
    checkpoint: Checkpoint, architecture: Architecture, sequences: Sequence[NDArray[np.int64]], kind: InputKind
) -> dict[str, float]:
    """Run eager PyTorch in float32 over texts, a layer at a time, and scale the input of every matrix.

    Args:
        checkpoint: the weights.
        architecture: dimensions of the model, YaRN included where the engine has it.
        sequences: token ids int64 [n], n >= 1, of each text.
        kind: what inputs are rounded to.

    Returns:
        Scales above zero by `input_scale_name`: projections, experts (all of a layer together) and the head.

    Raises:
        CheckpointError: an input is not finite.
    """
    largest: dict[str, float] = {}

    def watch(matrix: str, x: Tensor) -> Tensor:
        largest[matrix] = max(largest.get(matrix, 0.0), float(x.abs().max()))
        if not math.isfinite(largest[matrix]):
            raise CheckpointError(f"the input of {matrix} is not finite: the checkpoint is damaged")
        return x

    watched_states(architecture, torch_weights(checkpoint, architecture), sequences, watch)
    return {input_scale_name(matrix): scale_of(amax, kind) for matrix, amax in sorted(largest.items())}


def scale_of(amax: float, kind: InputKind) -> float:
    """The scale of inputs whose largest magnitude is `amax`; 1 where all are zero."""
    if amax == 0.0:
        return 1.0
    if kind == "int8":
        return _rounded_up(amax / 127, _BFLOAT16_BITS)
    return _rounded_up(2 * amax / 448, 1)


def _rounded_up(value: float, bits: int) -> float:
    """The least number of so many significant bits that is not below a positive value."""
    mantissa, exponent = math.frexp(value)
    return math.ldexp(math.ceil(math.ldexp(mantissa, bits)), exponent - bits)
