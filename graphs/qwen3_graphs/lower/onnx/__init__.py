"""Target `onnx`: standard operators."""

from qwen3_graphs.lower.onnx.graph import lower

__all__ = ["lower"]
