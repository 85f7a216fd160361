"""The commands that take an engine, on one that the build command made."""

import hashlib
import io
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from qwen3_compile.cli import inspect, main

ROOT = Path(__file__).parents[3]
QUESTION = "What is 37+45?"


def run(capsys, *arguments):
    code = main([str(argument) for argument in arguments])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def digests(folder):
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()}


def test_run_prints_the_answer_alone_to_stdout(engine, capsys):
    code, out, err = run(capsys, "run", engine, QUESTION, "--temperature", "0")
    assert code == 0
    assert out == "The sum is 82.\n"
    assert "37+45=82" in err
    assert "answer tokens" in err


def test_run_can_hide_the_thinking(engine, capsys):
    code, out, err = run(capsys, "run", engine, QUESTION, "--temperature", "0", "--hide-thinking")
    assert code == 0
    assert out == "The sum is 82.\n"
    assert "37+45=82" not in err


def test_run_json_accounts_for_every_token(engine, capsys):
    code, out, _ = run(capsys, "run", engine, "What is 37+45+16?", "--budget", "4", "--json")
    document = json.loads(out)
    assert code == 0
    assert document["budget_hit"] is True
    assert document["usage"]["reasoning_tokens"] == 4
    assert document["usage"]["forced_tokens"] > 0
    assert document["usage"]["completion_tokens"] == len(document["tokens"])


@pytest.mark.parametrize("switch", [["--no-thinking"], ["--budget", "0"]])
def test_run_without_thinking_has_no_reasoning(engine, capsys, switch):
    _, out, _ = run(capsys, "run", engine, QUESTION, "--json", *switch)
    document = json.loads(out)
    assert document["reasoning"] == ""
    assert document["usage"]["reasoning_tokens"] == 0
    assert document["answer"]


def test_run_repeats_itself_with_a_seed(engine, capsys):
    outputs = {run(capsys, "run", engine, QUESTION, "--seed", "7", "--temperature", "1.5")[1] for _ in range(2)}
    assert len(outputs) == 1


def test_run_takes_messages_as_json(engine, capsys):
    messages = [{"role": "user", "content": QUESTION}]
    code, out, _ = run(capsys, "run", engine, json.dumps(messages), "--messages", "--temperature", "0")
    assert (code, out) == (0, "The sum is 82.\n")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["not json", "--messages"], "--messages expects a JSON list"),
        (['{"role": "user"}', "--messages"], "--messages expects a JSON list of messages, found dict"),
        (['[{"role": "user"}]', "--messages"], "content"),
        ([QUESTION, "--budget", "100000"], "budget"),
        (["[1]", "--messages"], "messages[0]"),
        (["[]", "--messages"], "messages"),
    ],
)
def test_a_bad_request_is_one_line(engine, capsys, arguments, message):
    code, out, err = run(capsys, "run", engine, *arguments)
    assert code == 1
    assert out == ""
    assert err.startswith("error: ")
    assert message in err
    assert err.count("\n") == 1


def test_validate_measures_again_and_leaves_the_engine_alone(engine, capsys, tmp_path):
    before = digests(engine)
    code, out, _ = run(capsys, "validate", engine, "--report", tmp_path / "again", "--json")
    published = json.loads((engine / "accuracy.json").read_text(encoding="utf-8"))["summary"]
    assert code == 0
    summary = json.loads(out)
    assert summary["violations"] == []
    assert summary["mean_kl"] == pytest.approx(published["mean_kl"], rel=1e-3)
    assert digests(engine) == before
    assert {path.name for path in (tmp_path / "again").iterdir()} == {"accuracy.json", "report.html"}


def test_validate_refuses_another_checkpoint(engine, capsys, tmp_path):
    shutil.copytree(ROOT / "examples" / "tiny" / "dense", tmp_path / "other")
    weights = tmp_path / "other" / "model.safetensors"
    damaged = bytearray(weights.read_bytes())
    damaged[-1] ^= 1
    weights.write_bytes(damaged)
    code, _, err = run(capsys, "validate", engine, "--source", tmp_path / "other")
    assert code == 1
    assert "model.safetensors" in err
    assert "the engine was built from" in err


def test_inspect_accounts_for_the_weights(engine, capsys):
    code, out, _ = run(capsys, "inspect", engine, "--json")
    found = json.loads(out)
    assert code == 0
    assert found["verified"] is True
    stored, total = found["bytes_by_part"], found["files"]["weights.bin"]
    # What is not a tensor's is padding to its page.
    assert sum(stored.values()) <= total <= sum(stored.values()) + 4096 * 100
    assert "embedding and head" in stored
    layers, heads, dim = (found["operators"]["qwen3::Attention"], 2, 64)
    assert found["kv_cache_bytes_per_token"] == 2 * layers * heads * dim * 2


def test_inspect_and_doctor_print_for_people(engine, capsys):
    code, out, _ = run(capsys, "inspect", engine)
    assert code == 0
    assert "KV cache" in out
    assert "qwen3::Linear" in out
    code, out, _ = run(capsys, "doctor")
    assert code == 0
    assert "onnxruntime" in out


def test_inspect_and_validate_show_each_limit_beside_its_own_figure(engine, capsys):
    """A limit on a mean must not stand beside the largest value."""
    accuracy = json.loads((engine / "accuracy.json").read_text(encoding="utf-8"))
    summary = accuracy["summary"]
    code, document, _ = run(capsys, "inspect", engine, "--json")
    found = json.loads(document)
    assert code == 0
    assert "max_kl" not in found["accuracy"]
    assert [(v["key"], v["figure"], v["comparison"], v["passed"]) for v in found["accuracy_limits"]] == [
        ("max_kl", "mean_kl", "<=", True),
        ("min_top1_agreement", "top1_agreement", ">=", True),
        ("max_perplexity_ratio", "perplexity_ratio", "<=", True),
        ("rotation", "rotation", "<=", True),
    ]
    figures = {**summary, "rotation": accuracy["rotation"]["error"]}
    assert all(verdict["measured"] == figures[verdict["figure"]] for verdict in found["accuracy_limits"])
    for command in ("inspect", "validate"):
        out = run(capsys, command, engine)[1]
        line = re.search(r"^  mean KL +([0-9.]+)  <=  0.1 +pass$", out, re.MULTILINE)
        assert float(line[1]) == pytest.approx(summary["mean_kl"], rel=1e-3)
        assert re.search(rf"^  worst KL +{summary['worst_kl']:.4g}  nats$", out, re.MULTILINE)


def test_inspect_reads_engines_whose_summary_has_the_old_name(engine, capsys, tmp_path):
    shutil.copytree(engine, tmp_path / "old")
    path = tmp_path / "old" / "accuracy.json"
    document = json.loads(path.read_text(encoding="utf-8"))
    worst = document["summary"]["max_kl"] = document["summary"].pop("worst_kl")
    path.write_text(json.dumps(document), encoding="utf-8")
    manifest = json.loads((tmp_path / "old" / "manifest.json").read_text(encoding="utf-8"))
    data = path.read_bytes()
    manifest["files"]["accuracy.json"] = {"size": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    (tmp_path / "old" / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
    code, out, _ = run(capsys, "inspect", tmp_path / "old")
    assert code == 0
    assert re.search(rf"^  worst KL +{worst:.4g}  nats$", out, re.MULTILINE)


def test_an_engine_of_links_is_validated_where_it_lies(engine, capsys, tmp_path):
    for file in engine.iterdir():
        (tmp_path / file.name).symlink_to(file)
    code, _, err = run(capsys, "validate", tmp_path)
    assert code == 1
    assert "strict=False (--no-strict)" in err
    assert run(capsys, "validate", tmp_path, "--no-strict")[0] == 0


def test_a_full_disk_behind_standard_output_is_one_line(engine):
    code = "import sys; from qwen3_compile.cli import main; sys.exit(main())"
    with Path("/dev/full").open("w") as full:
        command = [sys.executable, "-c", code, "inspect", str(engine), "--json"]
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert (done.returncode, done.stderr) == (1, "error: No space left on device\n")


def test_figures_of_validate_are_whole_in_a_terminal_of_sixty_columns(engine, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "60")
    code, out, _ = run(capsys, "validate", engine)
    assert code == 0
    assert "…" not in out
    assert max(map(len, out.splitlines())) <= 60
    head, *rows = out.partition("accuracy limits")[0].splitlines()
    assert head.split() == ["prefill", "chunked", "decode", "ragged", "all"]
    assert len(rows) == 7
    for row in rows:
        assert len([float(cell) for cell in re.split(" {2,}", row)[1:]]) == 5


def test_the_report_says_what_was_built_and_what_engine_and_pytorch_said(engine):
    page = (engine / "report.html").read_text(encoding="utf-8")
    manifest = json.loads((engine / "manifest.json").read_text(encoding="utf-8"))
    for words in (
        "../examples/tiny/dense", "backend ort", "weights int4", f"torch {manifest['tools']['torch']}",
        "measured on", "What is 37+45?", "The sum is 82.", "position", "The engine and PyTorch both say:",
    ):  # fmt: skip
        assert words in page
    report = json.loads((engine / "accuracy.json").read_text(encoding="utf-8"))
    assert len(report["worst_positions"]) == 5
    first = report["worst_positions"][0]
    assert (first["case"], first["value"]) == (report["worst"]["case"], report["summary"]["worst_kl"])
    assert len(first["reference"]) == len(first["engine"]) == 3


def test_inspect_takes_brackets_in_names_for_text(engine, capsys, monkeypatch):
    found = inspect.describe(engine) | {"source": "/models/[/x][bold]dense"}
    monkeypatch.setattr(inspect, "describe", lambda *_, **__: found)
    code, out, err = run(capsys, "inspect", engine)
    assert (code, err) == (0, "")
    assert "/models/[/x][bold]dense" in out


def test_doctor_json_gives_advice_for_what_is_missing(capsys):
    code, out, _ = run(capsys, "doctor", "--json")
    assert code == 0
    findings = json.loads(out)
    assert {"Python", "processor", "memory", "torch"} <= {finding["topic"] for finding in findings}
    assert all(finding["advice"] for finding in findings if not finding["good"])


def test_bench_json_holds_the_rates(engine, capsys):
    arguments = ("bench", engine, "--prompt", "32", "--decode", "8", "--repeats", "5", "--json")
    code, out, _ = run(capsys, *arguments)
    found = json.loads(out)
    assert code == 0
    assert found["prefill_rate"] > found["decode_rate"] > 0
    assert found["bytes_per_token"] > 1e5
    read = found["bytes_per_token"] * found["decode_rate"]
    assert found["bandwidth_share"] == pytest.approx(read / found["read_bandwidth"])


def test_bench_beyond_the_context_is_refused_with_numbers(engine, capsys):
    code, _, err = run(capsys, "bench", engine, "--prompt", "100000")
    assert code == 1
    assert "100064 tokens" in err


@pytest.mark.parametrize("command", [["run", "{}", "hello"], ["inspect", "{}"], ["bench", "{}"], ["validate", "{}"]])
def test_a_folder_that_is_not_an_engine_is_one_line(capsys, tmp_path, command):
    code, _, err = run(capsys, *(str(tmp_path) if word == "{}" else word for word in command))
    assert code == 1
    assert err.startswith("error: ")
    assert err.count("\n") == 1


def test_a_prompt_from_standard_input(engine, capsys, monkeypatch):
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(QUESTION.encode()), encoding="ascii"))
    code, out, _ = run(capsys, "run", engine, "-", "--temperature", "0")
    assert (code, out) == (0, "The sum is 82.\n")


@pytest.mark.parametrize("errors", ["strict", "surrogateescape"])
@pytest.mark.parametrize("command", [["run", "{}", "-"], ["chat", "{}"]])
def test_standard_input_that_is_not_utf_8_is_one_line(engine, capsys, monkeypatch, command, errors):
    stdin = io.TextIOWrapper(io.BytesIO(b"caf\xe9\n"), encoding="utf-8", errors=errors)
    monkeypatch.setattr("sys.stdin", stdin)
    code, _, err = run(capsys, *(engine if word == "{}" else word for word in command))
    assert code == 1
    assert err == "error: standard input: expected UTF-8, found byte 0xe9\n"


def test_messages_nested_without_end_are_one_line(engine, capsys):
    code, _, err = run(capsys, "run", engine, "[" * 100_000, "--messages")
    assert code == 1
    assert err.startswith("error: --messages expects a JSON list of messages, found invalid JSON")
    assert err.count("\n") == 1


@pytest.mark.parametrize("command", [["run", "{}", "hi"], ["chat", "{}"], ["bench", "{}"], ["validate", "{}"]])
def test_threads_without_bound_are_refused(engine, capsys, command):
    code, _, err = run(capsys, *(engine if word == "{}" else word for word in command), "--threads", "100000")
    assert code == 2
    assert "1<=x<=1024" in err


@pytest.mark.parametrize("command", [["run", "{}", "hello"], ["chat", "{}"]])
def test_an_engine_without_a_tokenizer_says_what_to_do(capsys, tmp_path, command):
    spec = ROOT / "specs" / "tiny-dense.yaml"
    options = ["--set", "model.source=synthetic://1", "--no-validate", "--no-cache"]
    assert run(capsys, "build", spec, "-o", tmp_path / "mute", *options)[0] == 0
    code, out, err = run(capsys, *(tmp_path / "mute" if word == "{}" else word for word in command))
    assert (code, out) == (1, "")
    assert "model.tokenizer" in err.splitlines()[-1]


@pytest.mark.parametrize("arguments", [[], ["specs"]])
def test_a_bare_group_shows_its_help_and_no_error(capsys, arguments):
    code, _, err = run(capsys, *arguments)
    assert code == 2
    assert err.startswith("Usage: ")
    assert "error: " not in err
