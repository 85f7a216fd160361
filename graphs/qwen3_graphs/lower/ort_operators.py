"""What ONNX Runtime's own operators are called, and the accuracy asked of the integer ones."""

from __future__ import annotations

CONTRIB = "com.microsoft"
ACCURACY_LEVEL = 4  # int8 activations, in groups as long as the weights'
