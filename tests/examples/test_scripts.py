"""The examples run with the arguments that their texts show, on engines of the tiny model."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from filelock import FileLock
from tokenizers import Tokenizer, processors

from qwen3_compile import CompileError, Progress, compile_engine, load_spec
from qwen3_compile.pipeline import fingerprint
from qwen3_compile.pipeline.progress import Silent

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"
NOTEBOOK = EXAMPLES / "quickstart.ipynb"


@pytest.fixture(scope="session")
def shared(tmp_path_factory, worker_id):
    """A folder that all workers share."""
    base = tmp_path_factory.getbasetemp()
    return base if worker_id == "master" else base.parent


@pytest.fixture(autouse=True)
def _cache(shared, monkeypatch):
    """Stages that other tests of this run have built already."""
    monkeypatch.setenv("QWEN3_COMPILE_CACHE", str(shared / "cache"))


@pytest.fixture
def run(monkeypatch, tmp_path):
    """Run an example in an empty folder: its standard output and error."""
    monkeypatch.chdir(tmp_path)

    def run(name, *arguments, stdin=""):
        command = [sys.executable, EXAMPLES / name, *map(str, arguments)]
        done = subprocess.run(command, capture_output=True, text=True, check=False, input=stdin)
        assert done.returncode == 0, done.stderr
        return done.stdout, done.stderr

    return run


@pytest.fixture
def engine(shared, run):
    """The engine that the example for compiling makes."""
    path = shared / "example-engine"
    with FileLock(shared / "example-engine.lock"):
        if not path.exists():
            out, _ = run("compile_from_python.py", ROOT / "specs" / "tiny-dense.yaml", path)
            stages, *lines = out.splitlines()
            assert stages == "5 stages: checkpoint, trace, lower, pack, validate"
            assert [line.split()[0] for line in lines[:5]] == ["checkpoint", "trace", "lower", "pack", "validate"]
            assert lines[5].startswith("mean KL 0.0")
            assert lines[6] == str(path)
    return path


def test_stream_prints_the_answer_and_its_thinking_apart(engine, run):
    out, err = run("stream.py", engine, "What is 37+45?")
    assert "82" in out
    assert "37+45=82" in err
    assert "stop]" in err


def test_a_terminal_shows_the_streamed_answer_on_a_line_of_its_own(engine):
    command = [sys.executable, EXAMPLES / "stream.py", engine, "What is 37+45?"]
    both = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=True).stdout
    lines = both.splitlines()
    assert any(line.startswith("37+45=82") and "The sum" not in line for line in lines), both


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("stream.py", ["nowhere", "Hello"]),
        ("chat.py", ["nowhere"]),
        ("batch.py", ["nowhere"]),
        ("embed.py", ["nowhere", "a query", "a text"]),
        ("embed.py", [None, "a query", "a text"]),
        ("compile_from_python.py", ["nowhere", "out"]),
    ],
)
def test_what_an_example_cannot_use_is_one_line(engine, tmp_path, name, arguments):
    command = [sys.executable, EXAMPLES / name, *(engine if word is None else word for word in arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, input="", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1


def test_every_example_in_the_documentation_has_a_command_line():
    text = (ROOT / "docs" / "python.md").read_text(encoding="utf-8")
    for path in EXAMPLES.glob("*.py"):
        assert f"`python `[`examples/{path.name}`](../examples/{path.name})` " in text.replace(
            "| python `", "`python `"
        )


def test_chat_answers_every_line(engine, run):
    out, _ = run("chat.py", engine, "--temperature", "0", stdin="What is 37+45?\nWhat is 12+34?\n")
    assert out == "The sum is 82.\nThe sum is 46.\n"


def test_batch_answers_in_the_order_of_the_questions(engine, run):
    questions = [f"What is {n}+{n + 11}?" for n in (20, 31, 42, 25, 36)]
    rows = [json.loads(line) for line in run("batch.py", engine, stdin="\n".join(questions))[0].splitlines()]
    assert [row["question"] for row in rows] == questions
    assert [row["answer"] for row in rows] == [f"The sum is {2 * n + 11}." for n in (20, 31, 42, 25, 36)]


def test_embed_ranks_texts_by_similarity(run, tmp_path):
    folder = Path(shutil.copytree(EXAMPLES / "tiny" / "dense", tmp_path / "tiny-embedding"))
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    end = ("<|endoftext|>", tokenizer.token_to_id("<|endoftext|>"))
    tokenizer.post_processor = processors.TemplateProcessing(single=f"$A {end[0]}", special_tokens=[end])
    tokenizer.save(str(folder / "tokenizer.json"))
    built = compile_engine(folder, tmp_path / "engine", validate=False)
    assert built.manifest["io"]["task"] == "embedding"
    rows = [
        line.split(maxsplit=1) for line in run("embed.py", built.path, "37+45", "12", "Hello", "37+45")[0].splitlines()
    ]
    similarities = [float(row[0]) for row in rows]
    assert similarities == sorted(similarities, reverse=True)
    assert {row[1] for row in rows} == {"12", "Hello", "37+45"}
    assert all(-1 <= similarity <= 1 for similarity in similarities)


def test_the_notebook_is_one_without_outputs_and_its_cells_run(tmp_path, monkeypatch, capsys):
    document = json.loads(NOTEBOOK.read_text(encoding="utf-8"))
    assert (document["nbformat"], document["metadata"]["kernelspec"]["language"]) == (4, "python")
    cells = document["cells"]
    assert len({cell["id"] for cell in cells}) == len(cells)
    code = [cell for cell in cells if cell["cell_type"] == "code"]
    assert all(cell["outputs"] == [] and cell["execution_count"] is None for cell in code)
    (tmp_path / "examples" / "tiny").mkdir(parents=True)
    (tmp_path / "specs").mkdir()
    shutil.copytree(EXAMPLES / "tiny" / "dense", tmp_path / "examples" / "tiny" / "dense")
    shutil.copy(ROOT / "specs" / "tiny-dense.yaml", tmp_path / "specs")
    monkeypatch.chdir(tmp_path / "examples")
    names = {}
    for cell in code:
        exec(compile("".join(cell["source"]), cell["id"], "exec"), names)  # noqa: S102 - our own notebook
    assert names["done"].answer == "The sum is 82."
    assert [done.answer for done in names["answers"]] == [f"The sum is {2 * n + 1}." for n in range(20, 24)]
    assert "The sum is 102." in capsys.readouterr().out


def test_every_example_is_run_here():
    scripts = {path.name for path in EXAMPLES.iterdir() if path.is_file()}
    assert scripts == {
        "batch.py", "chat.py", "compile_from_python.py", "embed.py", "quickstart.ipynb", "stream.py",
    }  # fmt: skip


def test_compile_engine_takes_what_the_command_takes(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    quick = {"validate": False, "threads": 1}
    by_key = compile_engine("tiny-dense", overrides={"name": "mine", "limits.max_batch": 3}, **quick)
    assert by_key.path == Path("build/mine")
    spec = load_spec(ROOT / "specs" / "tiny-dense.yaml", ["name=mine", "limits.max_batch=3"])
    by_spec = compile_engine(spec, tmp_path / "other", progress=Silent(), **quick)
    assert by_spec.manifest == by_key.manifest
    with pytest.raises(CompileError, match="already here"):
        compile_engine(spec, tmp_path / "other", **quick)
    with pytest.raises(TypeError, match="load_spec"):
        compile_engine(spec, tmp_path / "third", overrides=["name=x"])


def test_the_api_is_imported_when_it_is_used_and_typed_as_it_is():
    code = (
        "import sys, qwen3_compile; before = set(sys.modules);"
        "assert not before & {'torch', 'onnx', 'pydantic', 'numpy', 'click'}, before;"
        "names = set(dir(qwen3_compile)); [getattr(qwen3_compile, name) for name in names]; print(*sorted(names))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    typed = (ROOT / "qwen3_compile" / "__init__.pyi").read_text(encoding="utf-8")
    declared = {line.split(" as ")[1] for line in typed.splitlines() if " as " in line} | {"__version__"}
    assert set(done.stdout.split()) == declared
    assert Progress.__name__ == "Progress"
    # The keys of the build cache follow the imports of packages: this one must not lead to all of the compiler.
    package = ROOT / "qwen3_compile" / "__init__.py"
    assert not [name for name in fingerprint._imports("qwen3_compile", package) if name.startswith("qwen3_")]
