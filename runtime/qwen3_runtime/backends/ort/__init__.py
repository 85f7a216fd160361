"""ONNX Runtime: engines of the targets `ort` and `onnx`, and the graphs that TensorRT plans were built from."""
