"""Names of the files in an engine directory that every engine of its kind has; tokenizer files have their own names."""

from __future__ import annotations

MANIFEST = "manifest.json"
MODEL = "model.onnx"
WEIGHTS = "weights.bin"
PLAN = "model.plan"
"""What TensorRT executes."""

ACCURACY = "accuracy.json"
REPORT = "report.html"
MEASURED = (ACCURACY, REPORT)
"""Measured on the machine that builds; all but these and a plan follows from the inputs."""
