"""Engines for ONNX Runtime on CUDA, built where there is no GPU: they are packed whole, and never called verified.

Covers: refused by name where CUDA is missing or the session fell back to the CPU
Reference: a stand-in for the Python module, with real sessions on the CPU
"""

from __future__ import annotations

import json

import onnx
import pytest

from qwen3_compile.errors import UnsupportedError
from qwen3_runtime import Engine, EngineError

TARGET = {"backend": "ort", "provider": "cuda"}
FORMATS = [
    ("dense", {"weights": "int4"}),
    ("dense", {"weights": "fp8", "lm_head": "bf16", "activations": "bf16"}),
    ("moe", {"weights": "fp16"}),
]


@pytest.mark.parametrize(("kind", "precision"), FORMATS)
def test_an_engine_is_built_but_not_called_verified(make, kind, precision):
    info, _ = make(kind, precision=precision, target=TARGET, options={"validate": False})
    assert info.manifest["verified"] is False
    assert info.manifest["target"]["provider"] == "cuda"
    assert (
        info.manifest["io"]["cache_dtype"]
        == {"fp16": "float16", "bf16": "bfloat16"}[precision.get("activations", "fp16")]
    )
    assert json.loads((info.path / "manifest.json").read_text())["verified"] is False
    model = onnx.load(info.path / "model.onnx")  # reads every tensor of weights.bin
    assert {"GroupQueryAttention"} <= {node.op_type for node in model.graph.node}
    with pytest.raises(EngineError, match="the engine needs CUDAExecutionProvider"):
        Engine.open(info.path)


def test_validation_is_refused_before_any_work(make):
    with pytest.raises(UnsupportedError, match=r"validation runs the engine: .*CUDAExecutionProvider.*--no-validate"):
        make("dense", precision={"weights": "int4"}, target=TARGET)
