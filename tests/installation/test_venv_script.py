"""`scripts/venv`: what it asks of pip, with a stand-in for the interpreter in .venv and for PyTorch's index."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]
SILENT = "http://127.0.0.1:9/whl/cpu"  # the port of `discard`, on which nothing listens

# Writes down what pip is asked to install, and is Python for everything else.
INTERPRETER = """#!/bin/sh
case "$*" in
"-m pip --version") ;;
"-m pip install"*) echo "$*" >>pip.log; case "$*" in *"$REFUSED"*) exit 1;; esac ;;
*) exec {python} "$@" ;;
esac
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    for name in ("pyproject.toml", "constraints.txt", "hatch_build.py"):
        shutil.copy(ROOT / name, tmp_path)
    (tmp_path / "scripts").mkdir()
    shutil.copy(ROOT / "scripts" / "venv", tmp_path / "scripts")
    (tmp_path / "plugins/qwen3_plugins/ort/src").mkdir(parents=True)
    (tmp_path / "plugins/qwen3_plugins/ort/CMakeLists.txt").touch()
    interpreter = tmp_path / ".venv/bin/python"
    interpreter.parent.mkdir(parents=True)
    interpreter.write_text(INTERPRETER.format(python=sys.executable))
    interpreter.chmod(0o755)
    return tmp_path


@pytest.fixture
def index(tmp_path: Path) -> Iterator[str]:
    """An index that has PyTorch, as far as asking for its page tells."""
    (tmp_path / "www/whl/cpu/torch").mkdir(parents=True)
    handler = partial(SimpleHTTPRequestHandler, directory=str(tmp_path / "www"))
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/whl/cpu"
    server.shutdown()
    server.server_close()


def install(project: Path, extras: str, index: str, **environment: str) -> tuple[list[str], str]:
    """The calls of pip so far, and what the script said."""
    values = {**os.environ, "PYTHON": sys.executable, "TORCH_INDEX": index, "REFUSED": "nothing", **environment}
    command = [project / "scripts/venv", extras]
    done = subprocess.run(command, env=values, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    log = project / "pip.log"
    return log.read_text().splitlines() if log.exists() else [], done.stderr


def test_pytorch_comes_from_its_index_for_cpus_where_that_answers(project: Path, index: str) -> None:
    calls, said = install(project, "cpu,build", index)
    options = "-m pip install --quiet --disable-pip-version-check -c constraints.txt"
    assert calls == [f"{options} --no-deps --index-url {index} torch", f"{options} -e .[cpu,build]"]
    assert [line[:3] for line in said.splitlines()[1:]] == ["2/3", "3/3"]
    assert index in said


@pytest.mark.parametrize("place", [SILENT, ""])
def test_pips_own_settings_apply_where_it_does_not_answer_or_is_not_wanted(project: Path, place: str) -> None:
    calls, said = install(project, "cpu,build", place)
    assert len(calls) == 1
    assert calls[0].endswith("-e .[cpu,build]")
    assert ("does not answer" in said) == bool(place)


def test_an_index_without_the_page_counts_as_one_that_does_not_answer(project: Path, index: str) -> None:
    calls, _ = install(project, "cpu,build", f"{index}/nothing-here")
    assert len(calls) == 1


def test_an_index_without_a_fitting_wheel_does_not_end_the_installation(project: Path, index: str) -> None:
    calls, said = install(project, "cpu,build", index, REFUSED="--index-url")
    assert len(calls) == 2
    assert "it comes with the rest" in said


def test_what_needs_no_pytorch_does_not_ask_for_it(project: Path, index: str) -> None:
    calls, _ = install(project, "cpu,cli", index)
    assert len(calls) == 1


def test_a_second_call_costs_nothing_and_an_edited_pin_or_a_compiler_reinstalls(project: Path) -> None:
    first, said = install(project, "cpu,cli", "", CXX="no-such-compiler")
    assert "no C++ compiler found" in said
    again, silent = install(project, "cpu,cli", "", CXX="no-such-compiler")
    assert (again, silent) == (first, "")
    assert len(install(project, "cpu,cli", "", CXX="sh")[0]) == 2
    with (project / "constraints.txt").open("a") as pins:
        pins.write("# edited\n")
    assert len(install(project, "cpu,cli", "", CXX="sh")[0]) == 3


def test_an_old_python_is_refused_with_what_to_do(project: Path, tmp_path: Path) -> None:
    old = tmp_path / "python-old"
    old.write_text("#!/bin/sh\nexit 1\n")
    old.chmod(0o755)
    command = [project / "scripts/venv", "cpu"]
    environment = {**os.environ, "PYTHON": str(old)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr == f"error: install Python 3.11 or newer, found {old}; set PYTHON to its path\n"
