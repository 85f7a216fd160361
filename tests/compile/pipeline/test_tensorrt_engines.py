"""Whole engines for TensorRT for RTX: planned by the real builder, validated by the graph that it was given.

Covers: dense and MoE in fp16, bf16, int4, int8, fp8 (by row, by matrix), with and without quantized activations;
    for 8.0, 8.6, 8.9 and 12.0 in one plan, some for 7.5, 8.0, 8.9 and 12.1 alone; cached, locked, refused in one
    line. The plan is built, not executed
Reference: eager PyTorch; the graph on the CPU
"""

from __future__ import annotations

import json
import shutil

import pytest

from qwen3_compile.cli import main
from qwen3_compile.engine.recorded import recorded_spec
from qwen3_compile.errors import AccuracyError, LockError, UnsupportedError
from qwen3_compile.pipeline.stages.plan import plan_notes
from qwen3_compile.tensorrt import PlanRequest, build_plan, profiles_of
from qwen3_compile.validate.published import revalidate
from qwen3_runtime import Engine
from qwen3_runtime.directory import read_engine_directory
from qwen3_runtime.errors import EngineError

RTX = {"backend": "tensorrt-rtx"}
# Little to compare on keeps these tests short.
TEXTS = {"prompts": ["What is this?"], "text": "One text of a line."}
# What a format may cost on these random models: mean KL in nats.
FORMATS = [
    ("dense", {"weights": "fp16"}, 1e-4),
    ("dense", {"weights": "bf16", "activations": "bf16"}, 1e-2),
    ("dense", {"weights": "int4", "group_size": 32}, 1.0),
    ("dense", {"weights": "int8"}, 1e-2),
    ("dense", {"weights": "fp8", "fp8_scales": "tensor"}, 5e-2),
    ("dense", {"weights": "int8", "activation_quantization": "int8"}, 1e-1),
    ("moe", {"weights": "fp8", "activation_quantization": "fp8", "lm_head": "fp16"}, 1e-1),
    ("moe", {"weights": "fp8", "lm_head": "fp16"}, 5e-2),
    ("moe", {"weights": "int4", "group_size": 32, "activations": "bf16"}, 1.0),
]


@pytest.fixture(scope="module")
def cache_dir(traced, tmp_path_factory):
    """One cache for all tests here: an engine that several look at is planned and measured once."""
    return shutil.copytree(traced, tmp_path_factory.mktemp("planned") / "cache")


@pytest.mark.parametrize(("kind", "precision", "limit"), FORMATS)
def test_an_engine_in_each_format_is_planned_for_every_architecture_that_has_it(make, kind, precision, limit):
    info, _ = make(kind, precision=precision, target=RTX, accuracy=TEXTS | {"max_kl": limit})
    assert 0 < info.accuracy.summary.mean_kl <= limit
    assert "The plan itself was not executed." in info.accuracy.executed
    manifest = read_engine_directory(info.path, "full")
    expected = ("8.9", "12.0") if precision["weights"] == "fp8" else ("8.0", "8.6", "8.9", "12.0")
    assert manifest.target.compute_capabilities == expected
    assert manifest.files["model.plan"].size == info.plan.size
    assert manifest.tools["tensorrt-rtx"]
    assert info.plan.layers["KV_CACHE_UPDATE"] == 4  # keys and values of two layers
    assert info.plan.layers["ATTENTION_INPUT"] == 2
    assert info.plan.warnings == ()


@pytest.mark.parametrize(
    ("precision", "capabilities"),
    [
        ({"weights": "fp16"}, ("7.5", "12.1")),
        ({"weights": "bf16", "activations": "bf16"}, ("8.0",)),
        ({"weights": "int4", "group_size": 32}, ("8.0",)),
        ({"weights": "fp8"}, ("8.9",)),
    ],
)
def test_a_plan_for_a_single_architecture(make, precision, capabilities, tmp_path):
    info, _ = make(precision=precision, target=RTX, options={"validate": False})
    spec = read_spec(info.path)
    for capability in capabilities:
        request = PlanRequest("tensorrt-rtx", (capability,), profiles_of(spec))
        assert build_plan(info.path / "model.onnx", tmp_path / f"{capability}.plan", request).size > 0


def read_spec(engine):
    return recorded_spec(read_engine_directory(engine), engine)


def test_the_same_inputs_give_the_same_engine_but_for_the_order_of_tables_in_the_plan(make, read_tree):
    settings = {"precision": {"weights": "fp16"}, "target": RTX, "accuracy": TEXTS}
    first, _ = make(**settings)
    second, record = make(out="second", options={"cache_dir": None}, **settings)
    assert record.cached == set()
    assert (first.plan.size, first.plan.layers) == (second.plan.size, second.plan.layers)
    trees = [read_tree(info.path) for info in (first, second)]
    for tree, info in zip(trees, (first, second), strict=True):
        document = json.loads(tree.pop("manifest.json"))
        del tree["model.plan"], document["files"]["model.plan"]
        tree["what else the manifest says"] = document
        assert info.manifest["files"]["model.plan"]["size"] == info.plan.size
    assert trees[0] == trees[1]


def test_another_architecture_costs_another_plan_and_nothing_else(make):
    settings = {"precision": {"weights": "fp16"}, "accuracy": TEXTS}
    first, _ = make(target=RTX | {"compute_capabilities": ["8.9"]}, **settings)
    _, again = make(out="again", target=RTX | {"compute_capabilities": ["8.9"]}, **settings)
    assert again.cached == {"trace", "lower", "pack", "plan", "validate"}
    other, record = make(out="other", target=RTX | {"compute_capabilities": ["12.0"]}, **settings)
    assert record.cached == {"trace", "lower", "pack", "validate"}
    assert other.manifest["files"]["model.plan"] != first.manifest["files"]["model.plan"]
    assert other.manifest["files"]["weights.bin"] == first.manifest["files"]["weights.bin"]


def test_profiles_reach_the_plan(make):
    settings = {"precision": {"weights": "fp16"}, "options": {"validate": False}}
    first, _ = make(target=RTX, **settings)
    second, record = make(out="second", target=RTX | {"profiles": {"decode_batch": 1}}, **settings)
    assert "plan" not in record.cached
    assert first.manifest["files"]["model.plan"] != second.manifest["files"]["model.plan"]


def test_an_engine_that_misses_a_limit_is_not_published(make, tmp_path):
    with pytest.raises(AccuracyError):
        make(precision={"weights": "int4", "group_size": 32}, target=RTX, accuracy=TEXTS | {"max_kl": 1e-9})
    assert {path.name for path in tmp_path.iterdir()} == {"engine.failed"}


def test_a_machine_without_the_full_tensorrt_is_told_before_any_work(make, tmp_path):
    with pytest.raises(UnsupportedError, match="pip install 'tensorrt==11"):
        make(precision={"weights": "fp16"}, target={"backend": "tensorrt"})
    assert list(tmp_path.iterdir()) == []


def test_a_locked_build_holds_tensorrt_to_its_version_and_everything_but_the_plan_to_its_bytes(make):
    settings = {"precision": {"weights": "fp16"}, "target": RTX, "accuracy": TEXTS}
    first, _ = make(**settings)
    manifest = read_engine_directory(first.path)
    second, _ = make(out="second", options={"locked": manifest, "cache_dir": None}, **settings)
    assert set(second.differing) <= {"model.plan"}
    manifest.tools["tensorrt-rtx"] = "1.6.0"
    with pytest.raises(LockError, match=r"tensorrt-rtx 1\.6\.0"):
        make(out="third", options={"locked": manifest}, **settings)


def test_the_report_says_what_was_executed_and_what_was_built(make):
    info, _ = make(precision={"weights": "fp16"}, target=RTX, accuracy=TEXTS)
    page = (info.path / "report.html").read_text(encoding="utf-8")
    assert "executed by ONNX Runtime on the CPU. The plan itself was not executed." in page
    for note in plan_notes(read_spec(info.path), info.plan, ["8.0", "8.6", "8.9", "12.0"]):
        assert f"<p>{note}</p>" in page
    assert json.loads((info.path / "accuracy.json").read_text())["executed"] == info.accuracy.executed


@pytest.mark.usefixtures("without_gpu")
def test_validating_again_measures_the_same_and_the_plan_only_on_a_gpu(make):
    info, _ = make(precision={"weights": "fp16"}, target=RTX, accuracy=TEXTS)
    report, _ = revalidate(info.path)
    assert report.summary.mean_kl == pytest.approx(info.accuracy.summary.mean_kl, rel=1e-3)
    assert report.executed == info.accuracy.executed
    with pytest.raises(EngineError, match="no NVIDIA GPU"):
        revalidate(info.path, plan=True)


def test_a_damaged_plan_is_found_although_the_graph_is_what_is_executed(make):
    info, _ = make(precision={"weights": "fp16"}, target=RTX, options={"validate": False})
    plan = bytearray((info.path / "model.plan").read_bytes())
    plan[len(plan) // 2] ^= 1
    (info.path / "model.plan").write_bytes(plan)
    with pytest.raises(EngineError, match=r"model\.plan: SHA-256 is"):
        revalidate(info.path)


@pytest.fixture
def without_gpu(monkeypatch):
    """A machine whose driver sees no device, whatever machine this is."""
    from cuda.bindings import runtime

    monkeypatch.setattr(runtime, "cudaGetDeviceCount", lambda: (runtime.cudaError_t.cudaErrorNoDevice, 0))


@pytest.mark.usefixtures("without_gpu")
def test_commands_that_run_an_engine_want_a_gpu_in_one_line(make, capsys):
    info, _ = make(precision={"weights": "fp16"}, target=RTX, options={"validate": False})
    for arguments in (["run", info.path, "hello"], ["chat", info.path], ["bench", info.path]):
        assert main([str(argument) for argument in arguments]) == 1
        captured = capsys.readouterr()
        assert captured.err.startswith("error: no NVIDIA GPU")
        assert captured.err.count("\n") == 1
    with pytest.raises(EngineError, match="no NVIDIA GPU"):
        Engine.open(info.path)


def test_inspect_shows_architectures_plan_and_what_was_measured(make, capsys):
    info, _ = make(precision={"weights": "fp16"}, target=RTX, accuracy=TEXTS)
    assert main(["inspect", str(info.path), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["target"] == {
        "backend": "tensorrt-rtx",
        "provider": "cuda",
        "compute_capabilities": ["8.0", "8.6", "8.9", "12.0"],
        "plugins": "none",
    }
    assert found["files"]["model.plan"] == info.plan.size
    assert found["accuracy_of"] == info.accuracy.executed
    assert found["operators"]["trt::TRT_Attention"] == 2
    assert main(["inspect", str(info.path)]) == 0
    assert "The plan itself was not executed." in capsys.readouterr().out
