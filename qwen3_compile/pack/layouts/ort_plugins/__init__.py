"""Layouts of our own operators for ONNX Runtime."""
