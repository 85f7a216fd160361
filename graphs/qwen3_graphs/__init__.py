"""The Qwen3 model in eager PyTorch, its semantic ONNX graph, and one lowering per target."""
