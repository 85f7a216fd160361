"""The commands `run`, `chat`, `inspect`, `bench` and `doctor` need the runtime and the extra `cli`, not PyTorch."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[3]

# Distributions by the module that they bring, where the names differ.
MODULES = {"onnxruntime-gpu": "onnxruntime", "ruamel.yaml": "ruamel", "huggingface-hub": "huggingface_hub"}

# What an interpreter with the base, `cli` and `cpu` has of all that the compiler uses: everything else is out of reach.
PROGRAM = """
import importlib.abc, sys

class OutOfReach(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {missing!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, OutOfReach())
from qwen3_compile.cli import main
sys.exit(main())
"""


def modules(requirements: list[str]) -> set[str]:
    names = {Requirement(text).name for text in requirements}
    return {MODULES.get(name, name.replace("-", "_")) for name in names if name != "qwen3-compile"}


def missing() -> list[str]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    held = modules(project["dependencies"]) | modules(extras["cli"]) | modules(extras["cpu"]) | {"ml_dtypes"}
    return sorted(modules([text for texts in extras.values() for text in texts]) - held)  # onnx brings ml_dtypes


def without_torch(*arguments: object, typed: str = "") -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", PROGRAM.format(missing=missing()), *map(str, arguments)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    return subprocess.run(
        command, env=environment, input=typed, capture_output=True, text=True, check=False, timeout=60
    )


def test_what_the_compiler_needs_is_out_of_reach() -> None:
    assert {"torch", "pydantic", "onnx_ir", "ruamel", "cryptography", "triton"} <= set(missing())
    assert not {"onnx", "numpy", "click"} & set(missing())


def test_run(engine: Path) -> None:
    done = without_torch("run", engine, "What is 37+45?", "--temperature", "0")
    assert (done.returncode, done.stdout) == (0, "The sum is 82.\n"), done.stderr


def test_chat(engine: Path) -> None:
    done = without_torch("chat", engine, "--temperature", "0", typed="What is 37+45?\n/exit\n")
    assert done.returncode == 0, done.stderr
    assert "The sum is 82." in done.stdout


@pytest.mark.parametrize("command", ["inspect", "bench", "doctor"])
def test_what_is_measured_and_shown(engine: Path, command: str) -> None:
    arguments = {"doctor": [], "bench": [engine, "--repeats", "1"], "inspect": [engine]}[command]
    done = without_torch(command, *arguments, "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)


def test_what_needs_more_says_how_to_get_it() -> None:
    done = without_torch("specs", "list")
    assert done.returncode == 1
    assert done.stderr.startswith("error: this command needs ")
    assert "[build,cpu]" in done.stderr
