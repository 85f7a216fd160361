"""`-q` and `-v` before and after a command, and the commands `version` and `help`."""

from __future__ import annotations

import json
from pathlib import Path

import click
import pytest

import qwen3_compile
from qwen3_compile.cli import main
from qwen3_compile.cli.root import COMMANDS, root

ROOT = Path(__file__).parents[3]
DENSE = ROOT / "examples" / "tiny" / "dense"


@pytest.fixture
def build(engine, shared, tmp_path, capsys):
    """Build the tiny model, whose stages are cached: what is said on stderr."""
    assert engine.is_dir()

    def build(before=(), after=()):
        arguments = ["build", str(DENSE), "-o", str(tmp_path / "engine"), "--force"]
        assert main([*before, *arguments, "--cache-dir", str(shared / "cache"), *after]) == 0
        return capsys.readouterr().err

    return build


def test_quiet_says_nothing_and_verbose_every_step(build):
    usual = build()
    assert build(after=["-q"]) == build(before=["-q"]) == build(before=["--quiet"]) == ""
    assert "pack: 1.2 MB, from the cache" in usual
    assert build(after=["-vq"]).count("\n") == usual.count("\n")
    verbose = build(before=["-v"], after=["--no-cache"])
    assert "36 of 36 tensors" in verbose
    assert verbose.count("\n") > usual.count("\n")


def test_quiet_keeps_warnings(build):
    assert build(after=["-q", "--no-validate"]).startswith("warning: this engine was not compared with PyTorch")


def test_a_quiet_answer_is_the_answer_alone(engine, capsys):
    assert main(["run", "-q", str(engine), "What is 37+45?", "--temperature", "0"]) == 0
    assert capsys.readouterr() == ("The sum is 82.\n", "")


def test_a_quiet_validation_is_its_verdict_alone(engine, capsys):
    assert main(["validate", "-q", str(engine)]) == 0
    assert capsys.readouterr() == ("every accuracy limit holds\n", "")


def commands(group, path=()):
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        yield (*path, name), command
        if isinstance(command, click.Group):
            yield from commands(command, (*path, name))


def test_every_command_takes_both_and_help_shows_what_its_option_shows(capsys):
    found = dict(commands(root))
    assert len(found) > len(COMMANDS)
    for path, command in found.items():
        assert {"quiet", "verbose"} <= {parameter.name for parameter in command.params}
        assert main([*path, "--help"]) == 0
        expected = capsys.readouterr().out
        assert main(["help", *path]) == 0
        assert capsys.readouterr().out == expected
    assert main(["help"]) == 0
    assert "Commands:" in capsys.readouterr().out


@pytest.mark.parametrize("path", [["nope"], ["build", "nope"], ["specs", "nope"]])
def test_help_of_nothing_is_one_line(path, capsys):
    assert main(["help", *path]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_version_is_one_line_and_its_json_what_a_report_needs(capsys):
    assert main(["version"]) == 0
    assert capsys.readouterr().out == f"qwen3-compile {qwen3_compile.__version__}\n"
    assert main(["version", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert {"onnxruntime", "torch"} <= found["tools"].keys()
