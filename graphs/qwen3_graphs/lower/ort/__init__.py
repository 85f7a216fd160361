"""Target `ort`: operators that ship inside ONNX Runtime, those of its CPU or of its CUDA provider."""
