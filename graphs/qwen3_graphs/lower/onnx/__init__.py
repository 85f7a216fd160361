"""Target `onnx`: standard operators."""
