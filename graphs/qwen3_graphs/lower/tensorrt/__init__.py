"""Targets `tensorrt` and `tensorrt-rtx`: TensorRT's own layers, and our plugins."""

from qwen3_graphs.lower.tensorrt.graph import lower

__all__ = ["lower"]
