"""A checkpoint's weights as PyTorch tensors, under the names that the eager modules ask for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from qwen3_compile.checkpoint.input_scales import fold_pre_scales
from qwen3_compile.quantize import values

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray
    from torch import Tensor

    from qwen3_compile.checkpoint.protocol import Checkpoint
    from qwen3_graphs.architecture import Architecture


def torch_weights(checkpoint: Checkpoint, architecture: Architecture) -> Callable[[str], Tensor]:
    """What `qwen3_graphs.reference` calls to load a weight; nothing that it returns is kept.

    Pre-scales of inputs are multiplied into the weights. The experts of a layer, which checkpoints name one by one,
    are asked for under one name and come stacked.
    """
    read = fold_pre_scales(checkpoint)

    def load(name: str) -> Tensor:
        if ".mlp.experts." not in name:
            return as_tensor(values(read(name)))
        before, after = name.split(".mlp.experts.")
        experts = (f"{before}.mlp.experts.{index}.{after}" for index in range(architecture.num_experts))
        return torch.stack([as_tensor(values(read(expert))) for expert in experts])

    return load


def as_tensor(array: NDArray[Any]) -> Tensor:
    """A tensor of the array's own type and shape; bfloat16 passes as its bits, which numpy's ml_dtypes shares."""
    if array.dtype.name == "bfloat16":
        return torch.from_numpy(np.array(array.view(np.uint16))).view(torch.bfloat16)
    return torch.from_numpy(np.array(array))
