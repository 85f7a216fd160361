"""The scaling of RoPE that an engine has: the checkpoint's own, another one, or none, always as the spec says.

Reference: `transformers`' greedy tokens
"""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
import torch

from qwen3_compile.errors import CompileError, LockError, SpecError
from qwen3_runtime.directory import read_engine_directory

OWN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 64, "beta_fast": 24.0, "truncate": False}
SPEC = {"type": "yarn", "factor": 4.0, "original_max_position_embeddings": 64, "beta_fast": 24.0, "truncate": False}
OTHER = {"type": "yarn", "factor": 2.0, "original_max_position_embeddings": 128}


@pytest.fixture(scope="module")
def cache_dir(traced, tmp_path_factory):
    """One cache for all tests here: each scaling is traced once."""
    return shutil.copytree(traced, tmp_path_factory.mktemp("scaled") / "cache")


@pytest.fixture
def build_with(make, checkpoints, tmp_path):
    """Build the dense model with a scaling in its config.json and one in the spec; the latter may be left out."""

    def build(config, out, **sections):
        folder = tmp_path / "scaled"
        if not folder.exists():
            shutil.copytree(checkpoints / "dense", folder)
        path = folder / "config.json"
        values = json.loads(path.read_text())
        values["rope_parameters"] = {"rope_theta": 10000.0, "rope_type": "default"} | config
        path.write_text(json.dumps(values))
        options = {"validate": False} | sections.pop("options", {})
        return make("dense", source=folder, out=out, options=options, **sections)

    return build


def files(info):
    return [(info.path / name).read_bytes() for name in ("model.onnx", "weights.bin")]


def test_null_takes_the_checkpoints_own_and_writes_it_down(build_with):
    own, record = build_with(OWN, "own")
    assert "rope_scaling of config.json is used (yarn, factor 4)" in record.outcomes["checkpoint"]
    assert own.manifest["spec"]["rope_scaling"] == SPEC
    explicit, record = build_with({}, "explicit", rope_scaling=SPEC)
    assert "rope_scaling" not in record.outcomes["checkpoint"]
    assert files(own) == files(explicit)
    linear, _ = build_with({"rope_type": "linear", "factor": 2.0}, "linear")
    assert linear.manifest["spec"]["rope_scaling"] == {"type": "linear", "factor": 2.0}


def test_the_spec_may_say_otherwise(build_with):
    plain, _ = build_with({}, "plain")
    default, record = build_with(OWN, "default", rope_scaling={"type": "default"})
    assert "rope_scaling of the spec (default) replaces config.json's (yarn)" in record.outcomes["checkpoint"]
    assert files(default) == files(plain)
    replaced, record = build_with(OWN, "replaced", rope_scaling=OTHER)
    assert "rope_scaling of the spec (yarn) replaces config.json's (yarn)" in record.outcomes["checkpoint"]
    added, _ = build_with({}, "added", rope_scaling=OTHER)
    assert files(replaced) == files(added) != files(plain)
    _, record = build_with(OWN, "same", rope_scaling=SPEC)
    assert "rope_scaling" not in record.outcomes["checkpoint"]


@pytest.mark.parametrize("config", [OWN, {"rope_type": "linear", "factor": 2.0}])
def test_an_engine_computes_what_transformers_does(build_with, tmp_path, config):
    from transformers import AutoModelForCausalLM

    from qwen3_runtime import Engine

    info, _ = build_with(
        config, "engine", precision={"weights": "fp32"}, accuracy={"max_kl": 1e-5}, options={"validate": True}
    )
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "scaled", dtype=torch.float32)
    prompt = np.random.default_rng(0).integers(0, 256, 100).tolist()
    expected = model.generate(torch.tensor([prompt]), max_new_tokens=8, do_sample=False, eos_token_id=None)[0, 100:]
    with Engine.open(info.path) as engine:
        found = engine.complete(prompt, max_tokens=8, temperature=0.0)
    assert found.tokens
    assert list(found.tokens) == expected.tolist()[: len(found.tokens)]


def test_a_locked_build_repeats_the_scaling_that_was_taken(build_with):
    own, _ = build_with(OWN, "own")
    locked = read_engine_directory(own.path)
    again, _ = build_with(OWN, "again", options={"locked": locked})
    assert again.manifest == own.manifest
    with pytest.raises(LockError, match="rope_scaling"):
        build_with(OWN, "other", rope_scaling={"type": "default"}, options={"locked": locked})
    with pytest.raises(CompileError):
        build_with({}, "plain", options={"locked": locked})


def test_limits_beyond_the_checkpoints_own_scaling_are_refused(build_with, tmp_path):
    short = OWN | {"factor": 1.5}
    with pytest.raises(SpecError, match=r"limits\.max_context: expected at most factor \* .* \(96\), found 256"):
        build_with(short, "short")
    assert not (tmp_path / "short").exists()
