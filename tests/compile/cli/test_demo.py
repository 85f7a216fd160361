"""`scripts/demo` after the installation: the question, thinking beside the answer, a budget, and commands that work."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from qwen3_plugins.ort import library_path

ROOT = Path(__file__).parents[3]

PROGRAM = """#!/bin/sh
[ "$1" != build ] || {{ echo "$*" >>commands; mkdir -p build; exec cp -r {engine} build/tiny-dense; }}
exec {python} -c 'import sys; from qwen3_compile.cli import main; sys.exit(main())' "$@"
"""
INTERPRETER = '#!/bin/sh\n[ -z "$PLUGINS" ] || { echo "$PLUGINS"; exit; }\nexec %s "$@"\n'


@pytest.fixture
def project(engine: Path, tmp_path: Path) -> Path:
    """The demo in a project that is installed, with a build that copies an engine."""
    for name in ("scripts", ".venv/bin"):
        (tmp_path / name).mkdir(parents=True)
    shutil.copy(ROOT / "scripts/demo", tmp_path / "scripts")
    (tmp_path / "specs").symlink_to(ROOT / "specs")
    for path, text in (
        ("scripts/venv", "#!/bin/sh\n"),
        (".venv/bin/qwen3-compile", PROGRAM.format(engine=engine, python=sys.executable)),
        (".venv/bin/python", INTERPRETER % sys.executable),
    ):
        (tmp_path / path).write_text(text)
        (tmp_path / path).chmod(0o755)
    return tmp_path


def demo(project: Path, *arguments: str, plugins: str = "") -> str:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "PLUGINS": plugins}
    command = [str(project / "scripts/demo"), *arguments]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_it_shows_question_thinking_and_answer_then_the_budget_at_work(project: Path) -> None:
    assert library_path() is not None
    whole, cut = re.findall(
        r'^\$ qwen3-compile run build/tiny-dense "What is 37\+45\?" (.*)\n((?:  .*\n)+)(\[.*\])$',
        demo(project, "What is 37+45?"),
        re.MULTILINE,
    )
    assert whole[1] == "  thinking | 37+45=82\n  answer   | The sum is 82.\n"
    assert "--budget" not in whole[0]
    assert "--budget 5" in cut[0]
    assert "thinking (budget reached)" in cut[2]
    assert "  answer   | The sum is " in cut[1]


def test_it_asks_the_question_of_its_own_without_one(project: Path) -> None:
    assert "  answer   | The sum is 186.\n" in demo(project)


def test_without_our_operators_it_says_so_and_builds_for_those_of_onnx_runtime(project: Path) -> None:
    said = demo(project, plugins="none")
    assert "no C++ compiler" in said
    assert (project / "commands").read_text().count("target.plugins=none ") == 1
    assert "build specs/qwen3-0.6b.yaml --set target.plugins=none " in said


def test_the_commands_that_it_ends_with_work(project: Path) -> None:
    lines = demo(project).rpartition("What next:")[2].splitlines()
    commands = [shlex.split(line, comments=True) for line in lines if line.strip().startswith("qwen3-compile")]
    assert len(commands) == 4
    for words in commands:
        arguments = words[1:]
        if arguments[0] == "build":  # a released model: as far as its spec
            arguments = ["specs", "check", *arguments[1:]]
        done = subprocess.run(
            [project / ".venv/bin/qwen3-compile", *arguments],
            cwd=project,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
