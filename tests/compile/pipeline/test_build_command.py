"""`qwen3-compile build` as a user types it."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys

import pytest

from qwen3_compile.cli import main

HANGING = """
import sys, time
from qwen3_compile.pipeline.stages.pack import PackStage
def hang(stage):
    (stage.build.folder / "weights.bin").write_bytes(b"half")
    print("packing", flush=True)
    time.sleep(600)
PackStage.produce = hang
from qwen3_compile.cli import main
sys.exit(main())
"""


@pytest.fixture
def spec_file(checkpoints, tmp_path, spec_of, monkeypatch):
    (tmp_path / "specs").mkdir()
    path = tmp_path / "specs" / "tiny.yaml"
    path.write_text(spec_of(os.path.relpath(checkpoints / "dense", path.parent)))
    monkeypatch.chdir(tmp_path)
    return path


@pytest.fixture
def run(cache_dir, capsys):
    """Run the command line: (exit code, stdout, stderr)."""

    def run(*arguments, cache=True):
        options = ["--cache-dir", str(cache_dir)] if cache else []
        code = main(["build", *map(str, arguments), *options])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


def test_an_engine_goes_to_build_slash_name_by_default(run, spec_file, tmp_path):
    code, out, err = run(spec_file, "--no-validate")
    assert code == 0
    assert out == ""
    assert (tmp_path / "build" / "tiny-dense" / "manifest.json").is_file()
    assert "NOT VERIFIED" in err
    assert "build it without --no-validate" in err


def test_json_is_one_document(run, spec_file):
    code, out, _ = run(spec_file, "-o", "engine", "--json", "--set", "precision={weights: fp32}")
    document = json.loads(out)
    assert code == 0
    assert document["verified"] is True
    assert document["engine"] == "engine"
    assert document["accuracy"]["top1_agreement"] == 1.0


def test_a_missed_limit_keeps_its_figures_and_says_what_to_try(run, spec_file, tmp_path):
    coarse = ["--set", "precision={weights: int4, lm_head: int8}"]
    engine, failed = tmp_path / "build" / "tiny-dense", tmp_path / "build" / "tiny-dense.failed"
    assert run(spec_file, *coarse, "--set", "accuracy={min_cosine: -1.0}", "-o", tmp_path / "measured")[0] == 0
    reached = json.loads((tmp_path / "measured" / "accuracy.json").read_text(encoding="utf-8"))["summary"]["mean_kl"]
    code, out, err = run(spec_file, *coarse, "--set", f"accuracy={{max_kl: {reached / 2!r}, min_cosine: -1.0}}")
    assert (code, out) == (1, "")
    assert not engine.exists()
    assert {path.name for path in failed.iterdir()} == {"accuracy.json", "report.html"}
    broken, where, advice = err.splitlines()[-3:]
    assert broken.startswith("error: the engine misses its accuracy limits: mean KL is ")
    assert "missed by" in broken
    assert where == f"error: plots and worst positions: {failed / 'report.html'}"
    assert advice.startswith("error: try --set precision.activation_quantization=none, or ")
    mean = json.loads((failed / "accuracy.json").read_text(encoding="utf-8"))["summary"]["mean_kl"]
    assert f"mean KL is {mean:.4g}" in broken
    assert run(spec_file, *coarse, "--set", "accuracy={min_cosine: -1.0}")[0] == 0
    assert engine.is_dir()
    assert not failed.exists()


def test_a_build_of_random_weights_warns_of_limits_that_say_nothing(run, spec_file):
    limits = "accuracy={min_top1_agreement: 0.0, max_kl: 9}"
    code, _, err = run(spec_file, "--set", "model.source=synthetic://1", "--set", limits, "--no-validate")
    assert code == 0
    assert err.startswith("warning: accuracy.min_top1_agreement: random weights")


def test_a_chat_model_without_a_tokenizer_is_refused_before_any_work(run, spec_file, checkpoints, tmp_path):
    mute = shutil.copytree(checkpoints / "dense", tmp_path / "mute", ignore=shutil.ignore_patterns("tokenizer*"))
    code, _, err = run(spec_file, "--set", f"model.source={mute}")
    assert code == 1
    assert "no tokenizer.json, which a model for chat needs" in err
    assert "trace" not in err
    assert not (tmp_path / "build").exists()


def test_an_engine_in_the_way_needs_force(run, spec_file):
    assert run(spec_file, "--no-validate")[0] == 0
    code, _, err = run(spec_file, "--no-validate")
    assert code == 1
    assert "--force" in err
    assert run(spec_file, "--no-validate", "--force")[0] == 0


@pytest.mark.parametrize("with_spec", [False, True])
def test_a_locked_build_says_that_the_bytes_are_the_same(run, spec_file, monkeypatch, with_spec):
    assert run(spec_file, "--no-validate", "-o", "../engine" if not with_spec else "engine")[0] == 0
    if not with_spec:  # relative sources then count from here
        monkeypatch.chdir(spec_file.parent)
    engine = "../../engine" if not with_spec else "engine"
    code, _, err = run(*([spec_file] if with_spec else []), "--locked", engine, "-o", "again", "--no-validate")
    assert code == 0
    assert "byte-identical" in err


def test_a_changed_input_of_a_locked_build_is_one_line(run, spec_file):
    assert run(spec_file, "--no-validate", "-o", "engine")[0] == 0
    code, _, err = run(spec_file, "--locked", "engine", "-o", "again", "--set", "limits.max_batch=1")
    assert code == 1
    assert "limits.max_batch is 1, the engine was built with 2" in err.replace("\n", " ")


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ([], "MODEL is missing"),
        (["no-such-spec"], "neither a file nor a shipped spec"),
        (["--locked", "missing"], "does not exist"),
        (["tiny", "--threads", "0"], "--threads"),
    ],
)
def test_misuse_is_told_in_a_line(run, arguments, complaint):
    code, _, err = run(*arguments)
    assert code != 0
    assert complaint in err
    assert "Traceback" not in err


@pytest.mark.parametrize(("sent", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_stopped_build_leaves_nothing(spec_file, tmp_path, sent, code):
    command = [sys.executable, "-c", HANGING, "build", str(spec_file), "-o", "out/engine", "--no-cache"]
    process = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "packing\n"
    assert list((tmp_path / "out").iterdir())
    process.send_signal(sent)
    _, err = process.communicate(timeout=300)
    assert process.returncode == code
    assert "Traceback" not in err
    assert list((tmp_path / "out").iterdir()) == []
