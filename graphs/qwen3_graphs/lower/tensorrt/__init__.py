"""Targets `tensorrt` and `tensorrt-rtx`: TensorRT's own layers, and our plugins."""
