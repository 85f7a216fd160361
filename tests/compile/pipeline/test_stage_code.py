"""All of our code that computes a stage's result counts in what the result is kept by.

Reference: what Python runs while a stage works
"""

from __future__ import annotations

import json
import sys
import threading
from pathlib import Path

import pytest

from qwen3_compile.pipeline import build, fingerprint, orchestrate
from qwen3_compile.pipeline.stage import run_stage
from qwen3_compile.pipeline.stages.checkpoint import CheckpointStage
from qwen3_compile.pipeline.stages.trace import TraceStage
from qwen3_compile.spec import parse_spec

ROOT = Path(__file__).parents[3]
FOLDERS = [ROOT / name for name in ("graphs", "plugins", "runtime", ".")]
# These tell, refuse for lack of space, or say what is among the inputs: no byte of a result comes from them.
WITHOUT_EFFECT = {
    "qwen3_compile.engine.files",
    "qwen3_compile.engine.manifest",
    "qwen3_compile.pipeline.progress",
    "qwen3_compile.spec.schema",
}


def module_of(file):
    """The dotted name of one of our source files, or None."""
    for folder in FOLDERS:
        if Path(file).is_relative_to(folder):
            parts = Path(file).relative_to(folder).with_suffix("").parts
            if parts[0].startswith("qwen3_"):
                return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
    return None


@pytest.fixture
def observed(monkeypatch, traced_once):
    """Modules that ran in each stage's work, and those that its key reads, by the stage's class."""
    monkeypatch.setattr(TraceStage, "produce", traced_once)
    ran, counted = {}, {}
    read, asked = fingerprint._module, set()
    monkeypatch.setattr(fingerprint, "_module", lambda name: asked.add(name) or read(name))

    def observe(stage):
        files, work = set(), stage.produce

        def note(frame, event, _argument):
            if event == "call":
                files.add(frame.f_code.co_filename)

        def produce():
            counted[type(stage).__name__] = set(asked)
            threading.setprofile(note)
            sys.setprofile(note)
            try:
                work()
            finally:
                sys.setprofile(None)
                threading.setprofile(None)
                ran[type(stage).__name__] = set(map(module_of, files)) - {None}

        if not isinstance(stage, CheckpointStage):  # which is never kept
            stage.produce = produce
        asked.clear()
        fingerprint.code_fingerprint.cache_clear()
        run_stage(stage)

    monkeypatch.setattr(orchestrate, "run_stage", observe)
    yield ran, counted
    fingerprint.code_fingerprint.cache_clear()


def test_all_of_our_code_that_a_stage_runs_is_part_of_its_key(observed, spec_of, tmp_path):
    ran, counted = observed
    document = json.loads(spec_of("synthetic://1", accuracy={"text": "x", "prompts": ["x"]}))
    document["model"]["architecture"]["num_hidden_layers"] = 1
    build(parse_spec(json.dumps(document)), tmp_path / "engine", threads=1)
    assert set(ran) == {"TraceStage", "LowerStage", "PackStage", "ValidateStage", "ReportStage"}
    assert {"qwen3_graphs.trace", "qwen3_graphs.model"} <= ran["TraceStage"]
    assert {"qwen3_compile.pack.stream", "qwen3_compile.quantize.integers"} <= ran["PackStage"]
    for name in ran:
        assert ran[name] - counted[name] - WITHOUT_EFFECT == set(), name
