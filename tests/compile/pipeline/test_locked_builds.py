"""The same inputs give the same bytes, and a locked build proves it or says what changed.

Covers: byte-identical directories
Reference: two processes with different hash seeds, two thread counts
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys

import pytest

from qwen3_compile.errors import LockError
from qwen3_runtime.manifest import parse_manifest

UNVALIDATED = {"validate": False}


def test_two_processes_build_the_same_bytes(checkpoints, tmp_path, spec_of, read_tree):
    """Without a cache, in another folder, with another hash seed: the same engine, figures and report included."""
    (tmp_path / "spec.yaml").write_text(spec_of(checkpoints / "moe", "moe", precision={"weights": "int4"}))
    running = []
    for number in (1, 2):
        command = [sys.executable, "-c", "import sys; from qwen3_compile.cli import main; sys.exit(main())"]
        command += ["build", "spec.yaml", "-o", f"out-{number}/engine", "--no-cache", "--threads", "1"]
        environment = os.environ | {"PYTHONHASHSEED": str(number), "OMP_NUM_THREADS": "1"}
        running.append(subprocess.Popen(command, cwd=tmp_path, env=environment, stderr=subprocess.PIPE, text=True))
    for process in running:
        assert "engine: verified" in process.communicate()[1]
        assert process.returncode == 0
    first, second = (read_tree(tmp_path / f"out-{number}" / "engine") for number in (1, 2))
    assert list(first) == list(second)
    assert [name for name in first if first[name] != second[name]] == []


def test_threads_change_no_byte_of_an_engine(make, read_tree):
    first, _ = make("moe", out="first", options={**UNVALIDATED, "threads": 1})
    shutil.rmtree(first.path.parent / "cache" / "v1" / "weights")
    second, record = make("moe", out="second", options={**UNVALIDATED, "threads": 5})
    assert record.cached == {"trace", "lower"}
    assert read_tree(first.path) == read_tree(second.path)


@pytest.fixture
def locked(make):
    """Build an engine, then build it again from its manifest: locked(edit) may change the manifest in between."""
    original, _ = make(out="original", options=UNVALIDATED)

    def locked(edit=lambda _: None, **sections):
        document = json.loads((original.path / "manifest.json").read_text())
        edit(document)
        manifest = parse_manifest(json.dumps(document).encode())
        return make(out="again", options={**UNVALIDATED, "locked": manifest}, **sections)

    locked.original = original.path
    return locked


def test_a_locked_build_gives_the_engine_again(locked, read_tree):
    info, _ = locked()
    assert info.differing == ()
    assert read_tree(info.path) == read_tree(locked.original)


def test_other_tools_are_named(locked):
    def edit(document):
        document["tools"] |= {"torch": "1.0.0", "numpy": "1.0.0"}

    with pytest.raises(LockError, match=r"numpy 1.0.0 \(here .*torch 1.0.0 \(here "):
        locked(edit)


def test_a_tool_that_the_engine_was_built_without_is_named(locked):
    def edit(document):
        del document["tools"]["numpy"]

    with pytest.raises(LockError, match=r"other tools: numpy absent \(here [0-9.]+\); install"):
        locked(edit)


def test_another_spec_is_named_by_its_first_key(locked):
    with pytest.raises(LockError, match=r"limits\.max_batch is 3, the engine was built with 2"):
        locked(limits={"max_context": 256, "max_batch": 3, "max_step_tokens": 64})


@pytest.mark.parametrize("name", ["model.safetensors", "config.json"])
def test_a_changed_weight_file_is_named_with_both_hashes(locked, name):
    def edit(document):
        (entry,) = (file for file in document["source"]["files"] if file["name"] == name)
        entry["sha256"] = "0" * 64

    with pytest.raises(LockError, match=f"{name} has changed: expected SHA-256 0{{64}}, found [0-9a-f]{{64}}"):
        locked(edit)


def test_a_missing_and_a_new_weight_file_are_named(locked):
    def forget(document):
        document["source"]["files"].pop()

    def expect_more(document):
        document["source"]["files"].append({"name": "model-2.safetensors", "size": 1, "sha256": "0" * 64})

    with pytest.raises(LockError, match="is new"):
        locked(forget)
    with pytest.raises(LockError, match=r"model-2\.safetensors is missing"):
        locked(expect_more)


def test_a_changed_tokenizer_is_named(locked):
    def edit(document):
        document["files"]["tokenizer.json"]["sha256"] = "0" * 64

    with pytest.raises(LockError, match=r"tokenizer\.json has changed"):
        locked(edit)


@pytest.mark.parametrize("name", ["model.onnx", "weights.bin"])
def test_an_outcome_that_differs_is_named_and_not_published(locked, tmp_path, name):
    def edit(document):
        document["files"][name]["sha256"] = "0" * 64

    before = sorted(path.name for path in tmp_path.iterdir())
    with pytest.raises(LockError, match=f"{name} has changed"):
        locked(edit)
    assert sorted(path.name for path in tmp_path.iterdir()) == before


def test_figures_measured_anew_may_differ_and_are_told(make):
    original, _ = make(out="original")
    document = json.loads((original.path / "manifest.json").read_text())
    document["files"]["accuracy.json"]["sha256"] = "0" * 64
    manifest = parse_manifest(json.dumps(document).encode())
    info, _ = make(out="again", options={"locked": manifest})
    assert info.differing == ("accuracy.json",)


def test_a_real_change_of_the_weights_is_refused(make, checkpoints, tmp_path):
    from safetensors.torch import load_file, save_file

    source = tmp_path / "source"
    shutil.copytree(checkpoints / "dense", source)
    original, _ = make(out="original", source=source, options=UNVALIDATED)
    tensors = load_file(source / "model.safetensors")
    tensors["model.norm.weight"][0] += 1
    save_file(tensors, source / "model.safetensors", metadata={"format": "pt"})
    manifest = parse_manifest((original.path / "manifest.json").read_bytes())
    with pytest.raises(LockError, match=r"model\.safetensors has changed"):
        make(out="again", source=source, options={**UNVALIDATED, "locked": manifest})
