"""RoPE near the end of the context: engines of every cache type, damaged tables, and transformers' own rotations.

Covers: RoPE at four far positions of every validated engine, keys read from its cache; fp32, fp16, int8; tables
    shifted by a row, rounded, cut short
Reference: the eager model's angles in float64, held to `transformers`
"""

from __future__ import annotations

import shutil
import sys
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from transformers import Qwen3Config
from transformers.models.qwen3.modeling_qwen3 import Qwen3RotaryEmbedding, apply_rotary_pos_emb

from qwen3_compile.accuracy_limits import judge
from qwen3_compile.engine.recorded import recorded_spec
from qwen3_compile.validate.rotation import far_positions, measure_rotation, rotate
from qwen3_graphs.architecture import Architecture, YarnScaling
from qwen3_graphs.rope import rope_frequencies
from qwen3_runtime import Engine

sys.path.insert(0, str(Path(__file__).parents[2] / "runtime"))

from built_engine import SIZES, build_engine, rewrite

CONTEXT = 8192
LONG = {**SIZES, "max_position_embeddings": CONTEXT}
CACHES = [("ort-plugins", "fp16"), ("ort-plugins", "int8"), ("ort", "fp32"), ("ort", "fp16"), ("onnx", "fp32")]
ARCHITECTURE = Architecture(8, 8, 8, 1, 1, 1, 128, 131_072, 1e6, tie_word_embeddings=True)


def measured(path):
    with Engine.open(path, threads=1, max_sequences=2) as engine:
        spec = recorded_spec(engine.manifest, path)
        return measure_rotation(engine.backend, spec.graph_architecture(), engine.manifest.io)


def verdict_on(rotation):
    (verdict,) = judge({}, "logits", {}, [], asdict(rotation))
    return verdict


@pytest.fixture(scope="module", params=CACHES, ids="-".join)
def engine(request, tmp_path_factory):
    target, cache = request.param
    folder = tmp_path_factory.mktemp(target)
    return build_engine(folder, target=target, cache=cache, sizes=LONG)[0]


def test_an_engine_turns_far_keys_as_the_eager_model(engine):
    rotation = measured(engine)
    assert rotation.positions == [CONTEXT // 2, 3 * CONTEXT // 4, CONTEXT - 2, CONTEXT - 1]
    assert verdict_on(rotation).passed is True
    assert 0 < rotation.error < rotation.limit / 1.5


def tables(path):
    """Where the graph's cos and sin lie in `weights.bin`, and their rows."""
    graph = onnx.load(path / "model.onnx", load_external_data=False).graph
    for tensor in graph.initializer:
        if tensor.name in ("rope.cos", "rope.sin"):
            places = {entry.key: entry.value for entry in tensor.external_data}
            yield int(places["offset"]), tuple(tensor.dims)


def shifted(rows):
    """From 4,096 on each position has the angles of the one before."""
    return np.concatenate([rows[:4096], rows[4095:-1]])


def rounded_positions(rows):
    """Positions in float16: beyond 2,048 they are even, beyond 4,096 multiples of four."""
    return rows[np.minimum(np.arange(len(rows)).astype(np.float16).astype(int), len(rows) - 1)]


def short(rows):
    """As if the tables had half the rows and the last one served all others."""
    return rows[np.minimum(np.arange(len(rows)), len(rows) // 2 - 1)]


@pytest.mark.parametrize("damage", [shifted, rounded_positions, short])
def test_damaged_tables_are_found(engine, damage, tmp_path):
    copy = shutil.copytree(engine, tmp_path / "engine")
    data = bytearray((copy / "weights.bin").read_bytes())
    for offset, dims in tables(copy):
        rows = np.frombuffer(data, np.float32, int(np.prod(dims)), offset).reshape(dims)
        data[offset : offset + rows.nbytes] = damage(rows).astype(np.float32).tobytes()
    rewrite(copy, "weights.bin", bytes(data))
    rotation = measured(copy)
    assert rotation.error > 2 * rotation.limit
    verdict = verdict_on(rotation)
    assert verdict.passed is False
    assert f" at {rotation.position:,}, the limit is at most" in verdict.failure


@pytest.mark.parametrize("max_context", [1, 2, 3, 5, 40_960, 1_048_576])
def test_far_positions_lie_within_the_context(max_context):
    found = far_positions(max_context)
    assert found == sorted(set(found))
    assert found[-1] == max_context - 1
    assert found[0] >= 0


@pytest.mark.parametrize("yarn", [None, YarnScaling(4.0, 32_768)])
@pytest.mark.parametrize("position", [32_767, 40_959, 131_071])
def test_turning_is_that_of_transformers(yarn, position):
    """Compared in float64: transformers' own float32 angles are off by 1e-3 out there."""
    architecture = replace(ARCHITECTURE, yarn=yarn)
    rope = {"rope_type": "default", "rope_theta": 1e6}
    if yarn is not None:
        rope |= {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32_768}
    module = Qwen3RotaryEmbedding(Qwen3Config(head_dim=128, max_position_embeddings=131_072, rope_parameters=rope))
    frequency, magnitude = rope_frequencies(architecture)
    np.testing.assert_allclose(module.inv_freq.double().numpy(), frequency, rtol=2e-6)
    assert module.attention_scaling == pytest.approx(magnitude)
    angles = position * torch.from_numpy(frequency)
    both = torch.cat([angles, angles])[None, None]
    keys = torch.randn(1, 2, 1, 128, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    _, expected = apply_rotary_pos_emb(keys, keys, both.cos(), both.sin())
    np.testing.assert_allclose(rotate(keys[0, :, 0].numpy(), angles.numpy()), expected[0, :, 0].numpy(), atol=1e-12)
