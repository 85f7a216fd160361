"""Results are kept by content: what changed is done again, and nothing else."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys

import pytest
from safetensors.torch import load_file, save_file

from qwen3_compile.errors import AccuracyError, CompileError
from qwen3_compile.pipeline.cache import Cache
from qwen3_compile.places import cache_dir, engines_dir

INT8 = {"weights": "int8", "group_size": 32}


def test_a_second_build_takes_everything_from_the_cache(make, read_tree):
    first, before = make(out="first")
    second, after = make(out="second")
    assert before.cached == {"trace", "lower"}
    assert after.cached == {"trace", "lower", "pack", "validate"}
    assert read_tree(first.path) == read_tree(second.path)


def test_a_build_whose_results_are_known_imports_no_torch_and_no_onnx(make, tmp_path, cache_dir):
    first, _ = make(out="first")
    (tmp_path / "spec.json").write_text(json.dumps(first.manifest["spec"]))
    heavy = ("torch", "onnx", "onnx_ir", "onnxruntime", "onnxscript", "matplotlib")
    script = (
        "import sys\nfrom qwen3_compile.cli import main\n"
        f"code = main(['build', 'spec.json', '-o', 'second', '--cache-dir', {str(cache_dir)!r}])\n"
        f"print(code, sorted(set(sys.modules) & set({heavy})))"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "0 []", done.stderr


def test_a_changed_default_or_accuracy_limit_redoes_nothing(make):
    make(out="first", accuracy={"max_kl": 1.0})
    _, record = make(out="second", accuracy={"max_kl": 0.9}, chat={"thinking_budget": 2, "max_tokens": 64})
    assert record.cached == {"trace", "lower", "pack", "validate"}
    with pytest.raises(AccuracyError, match="mean KL"):
        make(out="third", accuracy={"max_kl": 1e-12})


@pytest.mark.parametrize(
    ("change", "kept"),
    [
        ({"precision": {"weights": "fp32"}}, {"trace"}),
        ({"limits": {"max_context": 256, "max_batch": 3, "max_step_tokens": 64}}, {"trace", "pack"}),
        ({"source": "synthetic://2"}, {"trace", "lower"}),
        ({"source": "synthetic://1", "name": "another"}, {"trace", "lower", "pack"}),
    ],
)
def test_a_change_redoes_what_depends_on_it(make, change, kept):
    options = {"validate": False}
    make(out="first", source="synthetic://1", options=options)
    _, record = make(out="second", **{"source": "synthetic://1", "options": options, **change})
    assert record.cached == kept


def test_other_questions_are_measured_anew(make):
    make(out="first", accuracy={"prompts": ["One?"]})
    _, record = make(out="second", accuracy={"prompts": ["Two?"]})
    assert record.cached == {"trace", "lower", "pack"}


def test_figures_are_kept_by_the_weights_that_they_were_measured_against(make, checkpoints, tmp_path):
    """Another checkpoint may round to the same engine: its figures are others all the same."""
    wide = shutil.copytree(checkpoints / "dense", tmp_path / "wide")
    state = {name: tensor.float() for name, tensor in load_file(wide / "model.safetensors").items()}
    save_file(state, wide / "model.safetensors", metadata={"format": "pt"})
    first, _ = make(out="first", source=wide, precision={"weights": "bf16"})
    nudged = {name: tensor * (1 + 2.0**-20) if "proj" in name else tensor for name, tensor in state.items()}
    save_file(nudged, wide / "model.safetensors", metadata={"format": "pt"})
    second, record = make(out="second", source=wide, precision={"weights": "bf16"})
    for name in ("model.onnx", "weights.bin"):
        assert first.manifest["files"][name] == second.manifest["files"][name]
    assert "validate" not in record.cached


@pytest.mark.parametrize("damage", [b"", b"\0" * 1000, None])
def test_a_damaged_entry_is_made_again(make, cache_dir, read_tree, damage):
    first, _ = make(out="first", options={"validate": False})
    (entry,) = (cache_dir / "v1" / "weights").iterdir()
    if damage is None:
        (entry / "content").unlink()
    else:
        (entry / "content").write_bytes(damage)
    second, record = make(out="second", options={"validate": False})
    assert record.cached == {"trace", "lower"}
    assert read_tree(first.path) == read_tree(second.path)
    _, record = make(out="third", options={"validate": False})
    assert record.cached == {"trace", "lower", "pack"}


def test_weights_from_the_cache_are_a_copy(make, cache_dir):
    make(out="first", options={"validate": False})
    second, record = make(out="second", options={"validate": False})
    assert "pack" in record.cached
    (content,) = (cache_dir / "v1" / "weights").glob("*/content")
    assert (second.path / "weights.bin").stat().st_nlink == 1
    assert (second.path / "weights.bin").stat().st_ino != content.stat().st_ino


def test_a_cache_that_cannot_be_made_is_one_clear_line(make, tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(CompileError, match="--no-cache"):
        make(options={"cache_dir": tmp_path / "file" / "cache"})


def test_a_cache_that_fills_up_does_not_fail_the_build(make, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Cache, "store", full)
    info, _ = make(options={"validate": False})
    assert (info.path / "manifest.json").exists()


@pytest.mark.parametrize(
    ("environment", "cache", "engines"),
    [
        ({}, ".cache/qwen3-compile", ".cache/qwen3-compile/engines"),
        ({"XDG_CACHE_HOME": "/xdg"}, "/xdg/qwen3-compile", "/xdg/qwen3-compile/engines"),
        ({"XDG_CACHE_HOME": "relative"}, ".cache/qwen3-compile", ".cache/qwen3-compile/engines"),
        ({"QWEN3_COMPILE_CACHE": "/c"}, "/c", ".cache/qwen3-compile/engines"),
        ({"QWEN3_COMPILE_ENGINES": "/e", "XDG_CACHE_HOME": "/xdg"}, "/xdg/qwen3-compile", "/e"),
        ({"QWEN3_COMPILE_CACHE": "~/c", "QWEN3_COMPILE_ENGINES": ""}, "c", ".cache/qwen3-compile/engines"),
    ],
)
def test_places_are_those_of_the_environment(monkeypatch, tmp_path, environment, cache, engines):
    for name in ("XDG_CACHE_HOME", "QWEN3_COMPILE_CACHE", "QWEN3_COMPILE_ENGINES"):
        monkeypatch.delenv(name, raising=False)
    for name, value in ({"HOME": str(tmp_path)} | environment).items():
        monkeypatch.setenv(name, value)
    assert (cache_dir(), engines_dir()) == (tmp_path / cache, tmp_path / engines)
