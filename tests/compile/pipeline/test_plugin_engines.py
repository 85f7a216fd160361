"""A whole engine with our TensorRT plugins: planned without a GPU, validated by the functions of its nodes.

Covers: the tiny MoE with both plugins, from spec to report
Reference: eager PyTorch; the graph on the CPU
"""

from pathlib import Path

import pytest

from qwen3_compile.errors import CompileError
from qwen3_compile.pipeline import build
from qwen3_compile.spec import load_spec
from qwen3_compile.tensorrt import PlanRequest, build_plan, profiles_of
from qwen3_plugins.tensorrt import plugin_v3
from qwen3_runtime import Engine
from qwen3_runtime.directory import read_engine_directory

ROOT = Path(__file__).parents[3]
PLUGINS = ["target.backend=tensorrt-rtx", "target.plugins=[attention]", "target.compute_capabilities=['8.9']"]
# Little to compare on keeps the test short.
SHORT = ["accuracy.prompts=['What is this?']", "accuracy.text=One text of a line."]
HALF = [f"precision.{key}=fp16" for key in ("weights", "lm_head", "embedding")]


@pytest.fixture(scope="module")
def spec():
    chosen = [*PLUGINS, *SHORT, *HALF, "precision.group_size=null", "target.plugins=all"]
    return load_spec(ROOT / "specs" / "tiny-moe.yaml", chosen)


@pytest.fixture(scope="module")
def built(spec, tmp_path_factory):
    return build(spec, tmp_path_factory.mktemp("plugins") / "engine", cache_dir=None)


def test_the_plan_is_made_of_plugins_and_the_graph_has_the_packed_interface(built):
    assert built.plan.layers["PLUGIN_V3"] == 2 * 4  # attention and experts of four layers
    assert "ATTENTION_INPUT" not in built.plan.layers
    # At random tokens rounding to fp16 turns a router's close call now and then: one position in 508 has a KL of 0.2.
    assert built.accuracy.summary.mean_kl < 5e-3
    assert "The plan itself was not executed." in built.accuracy.executed
    assert built.plan.warnings == ()


def test_the_engine_says_how_it_was_made_and_answers_on_the_cpu(built):
    target = read_engine_directory(built.path, "full").target
    assert (target.plugins, target.compute_capabilities) == ("all", ("8.9",))
    with Engine.open(built.path, on_cpu=True) as engine:
        assert engine.manifest.verified


def test_a_plugin_without_its_kernels_is_no_plan_although_tensorrt_builds_one(built, spec, tmp_path, monkeypatch):
    def fail(*_):
        raise ValueError("no kernels for this one")

    monkeypatch.setattr(plugin_v3.binary, "serialize_binaries", fail)
    asked = PlanRequest("tensorrt-rtx", ("8.9",), profiles_of(spec), plugins=True)
    with pytest.raises(CompileError, match="tensorrt-rtx cannot build: no kernels for this one"):
        build_plan(built.path / "model.onnx", tmp_path / "model.plan", asked)
    assert not (tmp_path / "model.plan").exists()


def test_profiles_name_the_sizes_of_packed_steps(spec):
    prefill, decode = profiles_of(spec)
    limits, width = spec.limits, -(-spec.limits.max_context // 32)
    assert prefill.sizes["T"] == (1, limits.max_step_tokens, limits.max_step_tokens)
    assert decode.sizes["T"] == (1, limits.max_batch, limits.max_batch)
    for profile in (prefill, decode):
        assert profile.sizes["B+1"] == tuple(size + 1 for size in profile.sizes["B"])
        assert profile.sizes["M"] == (1, width, width)
        assert profile.sizes["blocks"][2] == limits.max_batch * width
