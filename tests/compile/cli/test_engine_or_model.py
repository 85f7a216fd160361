"""`run` and `chat` with a model in place of an engine: built once, kept, and built anew when it changes."""

from __future__ import annotations

import io
import json
import os
import shutil
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from qwen3_compile.cli import main
from qwen3_compile.pipeline import kept as keeping
from qwen3_compile.pipeline.kept import build_kept, locate
from qwen3_compile.pipeline.progress import Silent
from qwen3_compile.resolve import resolve
from qwen3_compile.spec import load_spec
from qwen3_runtime.installation import install_command

ROOT = Path(__file__).parents[3]
DENSE = ROOT / "examples" / "tiny" / "dense"
QUESTION = "What is 37+45?"


@pytest.fixture
def engines(engine, shared, tmp_path, monkeypatch):
    """The folder of kept engines; the stages of the tiny model's build are cached."""
    assert engine.is_dir()
    monkeypatch.setenv("QWEN3_COMPILE_ENGINES", str(tmp_path / "engines"))
    monkeypatch.setenv("QWEN3_COMPILE_CACHE", str(shared / "cache"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.chdir(tmp_path)
    return tmp_path / "engines"


@pytest.fixture
def run(capsys):
    def run(*arguments):
        code = main([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


@pytest.mark.parametrize(("arguments", "piped"), [(["", "--json"], ""), ([" \n"], ""), ([], ""), (["-"], "\n")])
def test_an_empty_prompt_is_refused(run, engine, monkeypatch, arguments, piped):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(piped.encode())))
    assert run("run", engine, *arguments) == (1, "", "error: the prompt is empty\n")


def held(engines):
    return sorted(path.name for path in engines.iterdir() if not path.name.startswith("."))


def test_a_model_is_built_once_and_then_reused(run, engines, monkeypatch):
    code, out, err = run("run", DENSE, QUESTION, "--temperature", "0")
    assert (code, out) == (0, "The sum is 82.\n")
    (name,) = held(engines)
    assert name.startswith("dense-")
    assert err.startswith(f"building dense from {DENSE}: {engines / name}\n")
    assert "validate: " in err
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(QUESTION.encode())))
    code, out, err = run("chat", DENSE, "--temperature", "0")
    assert (code, out) == (0, "The sum is 82.\n")
    assert err.startswith(f"using the engine built before: {engines / name}\n")
    assert json.loads((engines / name / "manifest.json").read_text())["verified"] is True


def test_a_repository_is_built_for_each_commit_and_reused_without_the_hub(run, engines, serve_hub, monkeypatch):
    hub = serve_hub({path.name: path.read_bytes() for path in DENSE.iterdir()})
    assert run("run", "test/tiny", QUESTION, "--temperature", "0")[:2] == (0, "The sum is 82.\n")
    (name,) = held(engines)
    recorded = json.loads((engines / name / "manifest.json").read_text())["source"]
    assert recorded["uri"] == f"hf://test/tiny@{hub.commit}"
    spec = resolve("test/tiny").spec
    hub.commit = "c0ffee" * 6 + "dcba"
    assert locate(spec, engines).path.name not in (name, "")
    hub.commit = "c0ffee" * 6 + "abcd"
    assert locate(spec, engines).path.name == name
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:1")
    code, _, err = run("run", "test/tiny", QUESTION, "--temperature", "0")
    assert code == 0
    assert "using the engine built before" in err


def test_the_key_holds_the_spec_the_files_and_the_tokenizer(tmp_path):
    folder = Path(shutil.copytree(DENSE, tmp_path / "model"))

    def name(*overrides):
        return locate(resolve(str(folder), overrides).spec, tmp_path).path.name

    names = [name(), name("precision.weights=int8"), name("limits.max_batch=3"), name(f"model.tokenizer={DENSE}")]
    os.utime(folder / "model.safetensors", (1, 1))
    names.append(name())
    assert len(set(names)) == 5
    assert name() == names[-1]
    file = load_spec(ROOT / "specs" / "tiny-dense.yaml")
    assert locate(file, tmp_path) == locate(load_spec(os.path.relpath(ROOT / "specs" / "tiny-dense.yaml")), tmp_path)


@pytest.mark.parametrize("file", ["model.onnx", ".DS_Store"])
def test_an_engine_that_does_not_open_is_built_again(run, engines, file):
    assert run("run", DENSE, QUESTION)[0] == 0
    (name,) = held(engines)
    (engines / name / file).write_bytes(b"damaged")
    code, _, err = run("run", DENSE, QUESTION)
    assert code == 0
    assert err.startswith("building again: ")
    assert held(engines) == [name]


def test_two_that_want_the_same_engine_build_it_once(tmp_path, monkeypatch, engine):
    builds = []

    def slow(_, path, **__):
        builds.append(path)
        time.sleep(0.2)
        shutil.copytree(engine, path)

    monkeypatch.setattr(keeping, "build", slow)
    place, told = locate(load_spec(ROOT / "specs" / "tiny-dense.yaml"), tmp_path / "engines"), []

    def want(_):
        return build_kept(place, cache_dir=None, progress=Silent(), tell=told.append)

    with ThreadPoolExecutor(2) as pool:
        assert set(pool.map(want, range(2))) == {place.path}
    assert builds == [place.path]
    assert [message.split()[0] for message in told] == ["building", "using"]


def test_a_folder_for_engines_that_cannot_be_made_is_one_line(run, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("QWEN3_COMPILE_ENGINES", str(tmp_path / "file" / "engines"))
    code, _, err = run("run", DENSE, QUESTION)
    assert code == 1
    assert "set QWEN3_COMPILE_ENGINES" in err
    assert err.count("\n") == 1


COMPILER = ("torch", "pydantic", "ruamel", "huggingface_hub", "onnx_ir", "filelock", "ml_dtypes")


def without_compiler(*arguments, stdin=""):
    """The command line where nothing of the extra `build` is installed."""
    code = (
        f"import sys; sys.modules.update(dict.fromkeys({COMPILER!r}));"
        "from qwen3_compile.cli import main; sys.exit(main())"
    )
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, input=stdin)


def test_an_engine_needs_nothing_of_the_compiler(engine):
    done = without_compiler("run", engine, "--temperature", "0", stdin=QUESTION)
    assert (done.returncode, done.stdout) == (0, "The sum is 82.\n"), done.stderr
    done = without_compiler("chat", engine, "--temperature", "0", stdin=QUESTION)
    assert (done.returncode, done.stdout) == (0, "The sum is 82.\n"), done.stderr


def test_a_model_without_the_compiler_says_what_to_install():
    done = without_compiler("run", "Qwen/Qwen3-0.6B", "hi")
    assert done.returncode == 1
    assert done.stderr.startswith("error: Qwen/Qwen3-0.6B: no such engine; building it from a model needs ")
    assert done.stderr.endswith(f"is not installed: {install_command('build', 'cpu')}\n")


def test_what_is_piped_in_follows_the_prompt(engine, run, monkeypatch, tmp_path):
    def tokens(prompt, stdin):
        arguments = [] if prompt is None else [prompt]
        monkeypatch.setattr("sys.stdin", stdin)
        code, out, _ = run("run", engine, *arguments, "--json", "--max-tokens", "8", "--no-thinking")
        assert code == 0
        return json.loads(out)["usage"]["prompt_tokens"]

    def pipe(text):
        read, write = os.pipe()
        os.write(write, text.encode())
        os.close(write)
        return os.fdopen(read)

    (tmp_path / "file").write_text("34 and 56")
    null = Path(os.devnull).open
    both = tokens("12 and\n\n34 and 56", null())
    assert tokens("12 and", pipe("34 and 56")) == both
    assert tokens("12 and", (tmp_path / "file").open()) == both
    assert tokens(None, pipe("12 and\n\n34 and 56")) == both
    assert tokens("12 and", pipe("")) == tokens("12 and", null()) < both


def test_no_prompt_and_a_terminal_is_wrong_usage(engine, run, monkeypatch):
    monkeypatch.setattr("sys.stdin", type("Terminal", (io.StringIO,), {"isatty": lambda _: True})())
    code, _, err = run("run", engine)
    assert code == 2
    assert err.startswith("error: a prompt is missing")
