"""Which sets of extras CI resolves from the package index, and that it never passes for want of one.

Covers: each provider with all others, for x86-64 and ARM Linux and Python 3.11 to 3.14
Reference: uv's resolver on PyPI's metadata; `scripts/resolve` in every run
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from importlib.machinery import SourceFileLoader
from importlib.util import module_from_spec, spec_from_loader
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
EXTRAS = set(PROJECT["optional-dependencies"])
NOWHERE = "http://127.0.0.1:9/simple"  # the port of `discard`, on which nothing listens


@pytest.fixture(scope="module")
def script() -> Any:
    loader = SourceFileLoader("resolve", str(ROOT / "scripts" / "resolve"))
    module = module_from_spec(spec_from_loader("resolve", loader))
    sys.modules["resolve"] = module
    loader.exec_module(module)
    return module


def test_every_extra_is_resolved_for_every_python_on_both_processors(script: Any) -> None:
    covered = {
        (case.platform.partition("-")[0], case.python, extra) for case in script.cases(EXTRAS) for extra in case.extras
    }
    pythons = [f"3.{minor}" for minor in range(11, 15)]
    assert covered == {(cpu, v, extra) for cpu in ("x86_64", "aarch64") for v in pythons for extra in EXTRAS}


def test_each_provider_is_resolved_with_all_the_rest_and_never_with_the_other(script: Any) -> None:
    chosen = {case.extras for case in script.cases(EXTRAS)}
    assert {tuple(sorted(EXTRAS - {"cuda"})), tuple(sorted(EXTRAS - {"cpu"}))} <= chosen
    assert not [extras for extras in chosen if {"cpu", "cuda"} <= set(extras)]


def test_the_classifiers_name_only_pythons_that_are_resolved(script: Any) -> None:
    named = {c.rpartition(" ")[2] for c in PROJECT["classifiers"] if re.search(r"Python :: 3\.\d+$", c)}
    assert named
    assert named <= {case.python for case in script.cases(EXTRAS)}


@pytest.mark.parametrize(("ci", "code", "word"), [("true", 1, "error"), ("", 0, "warning")])
def test_without_a_network_ci_fails_and_a_contributor_reads_one_line(ci: str, code: int, word: str) -> None:
    environment = {**os.environ, "RESOLVE_INDEX": NOWHERE, "CI": ci}
    command = [sys.executable, str(ROOT / "scripts" / "resolve")]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == code
    assert re.fullmatch(rf"{word}: {NOWHERE} cannot be reached \(.*\).*\n", done.stderr)


def test_a_set_without_a_solution_is_told_with_what_the_resolver_said(
    script: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(script, "unreachable", lambda: "")
    monkeypatch.setattr(script, "resolve", lambda case: "triton 3.9 clashes" if case.python == "3.13" else "")
    assert script.main() == 1
    shown = capsys.readouterr()
    assert "has no solution for Python 3.13 on x86_64-manylinux_2_28:\ntriton 3.9 clashes" in shown.err
    assert "15 of 20 sets" in shown.out


def test_triton_is_pinned_alike_wherever_it_is_named() -> None:
    pin = next(pin for pin in PROJECT["optional-dependencies"]["tensorrt"] if pin.startswith("triton"))
    assert pin in (ROOT / "plugins/qwen3_plugins/tensorrt/compile.py").read_text(encoding="utf-8")
    exact = re.search(r"^triton==(.*)$", (ROOT / "constraints.txt").read_text(encoding="utf-8"), re.MULTILINE)
    assert exact
    assert exact[1].startswith(pin.removeprefix("triton==").removesuffix("*"))
