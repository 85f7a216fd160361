"""Layouts of ONNX Runtime's own operators."""
