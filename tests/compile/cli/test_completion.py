"""What a shell offers, asked as shells ask."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

import pytest
from click.shell_completion import ShellComplete

from qwen3_compile.cli.root import root
from qwen3_compile.spec import HubSource, load_spec, parse_source, shipped_specs
from qwen3_compile.spec.shipped import shipped_repositories


@pytest.fixture
def offered(engine, tmp_path, monkeypatch):
    """What is offered for a command line whose last word is begun, in a folder with ./build/mine and a kept engine."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("QWEN3_COMPILE_ENGINES", str(tmp_path / "kept"))
    shutil.copytree(engine, tmp_path / "build" / "mine")
    shutil.copytree(engine, tmp_path / "kept" / "tiny-1")

    def offered(line):
        *words, incomplete = line.split(" ")
        items = ShellComplete(root, {}, "qwen3-compile", "_QWEN3_COMPILE_COMPLETE").get_completions(words, incomplete)
        return [item.value for item in items if item.type == "plain"], {item.type for item in items}

    return offered


def test_build_offers_specs_repositories_and_files(offered):
    assert offered("build qwen3-0.6b") == (["qwen3-0.6b", "qwen3-0.6b-base", "qwen3-0.6b-fp8"], {"plain", "file"})
    assert offered("build Qwen/Qwen3-8")[0] == ["Qwen/Qwen3-8B", "Qwen/Qwen3-8B-Base", "Qwen/Qwen3-8B-FP8"]
    for command in ("specs show", "specs check", "specs init", "run", "chat"):
        assert "tiny-moe" in offered(f"{command} tiny")[0]


@pytest.mark.parametrize("command", ["run", "chat", "inspect", "bench", "validate", "sign", "diff build/mine"])
def test_commands_that_take_engines_offer_them(offered, command, tmp_path):
    assert offered(f"{command} build/m")[0] == ["build/mine"]
    assert offered(f"{command} {tmp_path}/")[0] == [str(tmp_path / "kept" / "tiny-1")]


def test_set_offers_keys_and_then_their_words(offered):
    assert offered("build x --set precision.w")[0] == ["precision.weights="]
    assert offered("build x --set target.")[0][:2] == ["target.backend=", "target.provider="]
    assert offered("build x --set precision.weights=i")[0] == ["precision.weights=int8", "precision.weights=int4"]
    assert offered("specs show x --set precision.group_size=")[0] == [
        f"precision.group_size={size}" for size in (32, 64, 128, "channel")
    ]
    assert offered("build x --set nonsense=")[0] == []


def test_repositories_are_those_of_the_specs():
    sources = {name: parse_source(load_spec(path).model.source) for name, path in shipped_specs().items()}
    assert shipped_repositories() == {n: s.repo for n, s in sources.items() if isinstance(s, HubSource)}


def test_bash_gets_lines_and_no_word_of_what_is_missing():
    code = (
        "import sys; sys.modules.update(dict.fromkeys(('torch', 'pydantic')));"
        "from qwen3_compile.cli import main; sys.exit(main())"
    )
    for words in ("qwen3-compile build tiny", "qwen3-compile build x --set prec"):
        at = {"COMP_WORDS": words, "COMP_CWORD": str(words.count(" ")), "_QWEN3_COMPILE_COMPLETE": "bash_complete"}
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=False, env={**os.environ, **at}
        )
        assert done.stderr == ""
