"""The bytes of a graph as a file."""

from __future__ import annotations

import onnx_ir as ir


def serialize(model: ir.Model) -> bytes:
    """Bytes of `model` as a file, the same for the same graph."""
    data: bytes = ir.to_proto(model).SerializeToString(deterministic=True)
    return data
