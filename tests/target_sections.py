"""The section `target` of a spec, by the names that tests call targets."""

SECTIONS = {
    "ort-plugins": {"backend": "ort", "plugins": "all"},
    "ort": {"backend": "ort", "plugins": "none"},
    "onnx": {"backend": "onnx"},
    "tensorrt-rtx": {"backend": "tensorrt-rtx"},
    "tensorrt-rtx attention": {"backend": "tensorrt-rtx", "plugins": ["attention"], "compute_capabilities": ["8.9"]},
}
