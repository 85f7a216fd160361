"""Targets `tensorrt` and `tensorrt-rtx`: TensorRT's own layers, and our plugins."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qwen3_graphs.lower.tensorrt.graph import lower

if TYPE_CHECKING:
    import onnx_ir as ir

    from qwen3_graphs.lowered import Limits, Lowered, Plugins, Precision

__all__ = ["lower", "lower_with_plugins"]


def lower_with_plugins(semantic: ir.Model, precision: Precision, limits: Limits, plugins: Plugins) -> Lowered:
    """Lower for TensorRT with some of our plugins, at least one; see `qwen3_graphs.lower.lower`."""
    from qwen3_graphs.lower.tensorrt import plugin  # its functions are traced by onnxscript, which takes a while

    return plugin.lower(semantic, precision, limits, plugins)
