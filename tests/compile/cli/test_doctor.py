"""The verdict of `doctor`: what can be built and run, and that it agrees with what it found."""

from __future__ import annotations

import json

import pytest

from qwen3_compile.cli import main
from qwen3_compile.cli.doctor import diagnose, verdict

TOPICS = ("onnxruntime", "torch", "onnx", "ort-cpu operators", "tensorrt", "tensorrt-rtx", "NVIDIA GPU")


@pytest.mark.parametrize(
    ("there", "builds", "runs"),
    [
        ("", "nothing", "nothing"),
        ("onnxruntime", "nothing", "ort, onnx"),
        ("onnxruntime, ort-cpu operators", "nothing", "ort-cpu, ort, onnx"),
        ("onnxruntime, torch, onnx", "ort, onnx", "ort, onnx"),
        (
            "onnxruntime, torch, onnx, ort-cpu operators, tensorrt-rtx",
            "ort-cpu, ort, onnx, tensorrt-rtx",
            "ort-cpu, ort, onnx",
        ),
        ("tensorrt-rtx, NVIDIA GPU", "nothing", "tensorrt-rtx"),
        (", ".join(TOPICS), "ort-cpu, ort, onnx, tensorrt-rtx, tensorrt", "ort-cpu, ort, onnx, tensorrt-rtx, tensorrt"),
    ],
)
def test_the_verdict_follows_from_the_findings(there, builds, runs):
    built, run = verdict({topic: topic in there.split(", ") for topic in TOPICS})
    assert (built.topic, built.found, built.good) == ("can build for", builds, builds != "nothing")
    assert (run.topic, run.found, run.good) == ("can run", runs, runs != "nothing")


def test_the_verdict_ends_the_output_and_the_exit_code_stays(capsys):
    assert main(["doctor"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[-2].startswith("ok  can build for     ort-cpu, ort, onnx")
    assert lines[-1].startswith("ok  can run           ort-cpu, ort, onnx")
    assert main(["doctor", "--json"]) == 0
    assert [finding["topic"] for finding in json.loads(capsys.readouterr().out)[-2:]] == ["can build for", "can run"]


def test_every_topic_of_the_verdict_is_looked_at():
    assert set(TOPICS) <= {finding.topic for finding in diagnose()}
