"""Target ort with plugins: our own operators for ONNX Runtime."""

from qwen3_graphs.lower.ort_plugins.graph import lower

__all__ = ["lower"]
