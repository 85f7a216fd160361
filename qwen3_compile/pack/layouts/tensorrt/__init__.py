"""Layouts of TensorRT's layers and of our plugins for it."""
