"""Engines in standard operators: what ONNX Runtime does with their quantized matrices is what the spec says."""

from __future__ import annotations

import json

import numpy as np
import onnxruntime
import pytest

from qwen3_runtime import Engine
from qwen3_runtime.step import Step

TOKENS = 24
PRECISIONS = (
    {"weights": "int4"},
    {"weights": "int8"},
    {"weights": "int8", "group_size": "channel"},
)


def step(ids: np.ndarray) -> Step:
    count = len(ids)
    return Step(
        input_ids=ids,
        query_start=np.array([0, count], np.int32),
        context_len=np.zeros(1, np.int32),
        block_table=np.zeros((1, 1), np.int32),
        logits_rows=np.arange(count, dtype=np.int32),
    )


def as_written(path, ids):
    """The graph by ONNX Runtime without any optimization: it multiplies with the dequantized matrices in float32."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(path / "model.onnx", options, providers=["CPUExecutionProvider"])
    feeds = {
        "input_ids": ids,
        "query_len": np.array([len(ids)], np.int32),
        "context_len": np.zeros(1, np.int32),
        "logits_rows": np.arange(len(ids), dtype=np.int64),
    }
    for value in session.get_inputs():
        if value.name.startswith("kv."):
            shape = (1, value.shape[1], 2 * TOKENS, value.shape[3])
            feeds[value.name] = np.zeros(shape, np.float16 if "16" in value.type else np.float32)
    return session.run(["logits"], feeds)[0]


@pytest.mark.parametrize("kind", ["dense", "moe"])
@pytest.mark.parametrize("precision", PRECISIONS)
def test_the_graph_means_what_it_says_unless_the_spec_asks_for_rounded_inputs(make, kind, precision):
    ids = np.random.default_rng(1).integers(0, 100, TOKENS)
    logits, engines = {}, {}
    for rounding in ("none", "int8"):
        wanted = precision | {"activation_quantization": rounding}
        info, _ = make(kind, out=rounding, target={"backend": "onnx"}, precision=wanted, options={"validate": False})
        engines[rounding] = info.path
        with Engine.open(info.path, threads=1) as engine:
            logits[rounding] = engine.backend.run(step(ids)).values
    assert json.loads((engines["int8"] / "manifest.json").read_text())["target"]["activation_quantization"] == "int8"
    for name in ("model.onnx", "weights.bin"):
        assert (engines["none"] / name).read_bytes() == (engines["int8"] / name).read_bytes()
    expected = as_written(engines["none"], ids)
    scale = np.abs(expected).max()
    assert np.abs(logits["none"] - expected).max() < 1e-4 * scale
    assert np.abs(logits["int8"] - expected).max() > 1e-3 * scale


def test_figures_of_the_one_are_not_taken_for_the_other(make):
    figures = {}
    for rounding in ("none", "int8", "none"):
        precision = {"weights": "int4", "activation_quantization": rounding}
        accuracy = {"prompts": ["What is this?"], "text": "One text of a line.", "max_kl": 1.0}
        info, record = make(
            out="engine", target={"backend": "onnx"}, precision=precision, accuracy=accuracy, options={"force": True}
        )
        found = info.accuracy.summary.mean_kl
        assert ("validate" in record.cached) == (rounding in figures)
        assert figures.setdefault(rounding, found) == found
    assert figures["none"] != figures["int8"]
