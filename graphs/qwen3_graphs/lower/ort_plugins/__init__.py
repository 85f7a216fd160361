"""Target ort with plugins: our own operators for ONNX Runtime."""
