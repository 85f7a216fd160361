"""The verdict of `doctor`: what can be built and run, and that it agrees with what it found."""

from __future__ import annotations

import json
from importlib.metadata import PackageNotFoundError

import pytest

from qwen3_compile import machine
from qwen3_compile.cli import doctor, main
from qwen3_compile.cli.doctor import diagnose, verdict
from qwen3_runtime.backends.ort import session
from qwen3_runtime.errors import UnsupportedEngineError

TOPICS = ("onnxruntime", "torch", "onnx", "operators", "CUDA provider", "tensorrt", "tensorrt-rtx", "NVIDIA GPU")


@pytest.mark.parametrize(
    ("there", "builds", "runs"),
    [
        ("", "nothing", "nothing"),
        ("onnxruntime", "nothing", "ort, onnx"),
        ("onnxruntime, operators", "nothing", "ort with plugins, ort, onnx"),
        ("onnxruntime, torch, onnx", "ort, ort on cuda, onnx", "ort, onnx"),
        (
            "onnxruntime, torch, onnx, operators, tensorrt-rtx",
            "ort with plugins, ort, ort on cuda, onnx, tensorrt-rtx",
            "ort with plugins, ort, onnx",
        ),
        ("tensorrt-rtx, NVIDIA GPU", "nothing", "tensorrt-rtx"),
        (
            ", ".join(TOPICS),
            "ort with plugins, ort, ort on cuda, onnx, tensorrt, tensorrt-rtx",
            "ort with plugins, ort, ort on cuda, onnx, tensorrt, tensorrt-rtx",
        ),
    ],
)
def test_the_verdict_follows_from_the_findings(there, builds, runs):
    built, run = verdict({topic: topic in there.split(", ") for topic in TOPICS})
    assert (built.topic, built.found, built.good) == ("can build for", builds, builds != "nothing")
    assert (run.topic, run.found, run.good) == ("can run", runs, runs != "nothing")


def test_the_verdict_ends_the_output_and_the_exit_code_stays(capsys):
    assert main(["doctor"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[-2].startswith("ok  can build for     ort with plugins, ort, ort on cuda, onnx")
    assert lines[-1].startswith("ok  can run           ort with plugins, ort, onnx")
    assert main(["doctor", "--json"]) == 0
    assert [finding["topic"] for finding in json.loads(capsys.readouterr().out)[-2:]] == ["can build for", "can run"]


def test_every_topic_of_the_verdict_is_looked_at():
    assert set(TOPICS) <= {finding.topic for finding in diagnose()}


def test_the_cuda_distribution_of_onnxruntime_is_found_too(monkeypatch):
    def version(name):
        if name == "onnxruntime-gpu":
            return "1.31.1"
        raise PackageNotFoundError(name)

    monkeypatch.setattr(machine, "version", version)
    assert doctor._package("onnxruntime", "to run", "cpu").found == "1.31.1"
    assert not doctor._package("torch", "to build", "cpu").good


@pytest.mark.parametrize("works", [True, False])
def test_a_cuda_provider_that_is_listed_is_tried(monkeypatch, works):
    class Listed:
        def get_available_providers(self):
            return ["CUDAExecutionProvider", "CPUExecutionProvider"]

    def require(_):
        if not works:
            raise UnsupportedEngineError("libcudart is missing")

    monkeypatch.setattr(session, "import_onnxruntime", Listed)
    monkeypatch.setattr(session, "require_provider", require)
    providers, cuda = doctor._providers()
    assert providers.found == "CUDA, CPU"
    assert (cuda.found, cuda.good) == (("available", True) if works else ("installed", False))
    assert works or "libcudart is missing" in cuda.advice
