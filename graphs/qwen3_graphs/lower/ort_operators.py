"""What ONNX Runtime's own operators are called, and the accuracy asked of the integer ones."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from qwen3_graphs.lowered import Precision

CONTRIB = "com.microsoft"


def accuracy_level(precision: Precision) -> int:
    """Return 4 for int8 activations, in groups as long as the weights', or 1 for float32 ones."""
    return 1 if precision.precise else 4
