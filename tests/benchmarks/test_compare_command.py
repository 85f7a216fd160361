"""compare.py tells whoever runs it what is missing and what to do, before it starts hours of work."""

import sys

import compare
import pytest
from peers.checkpoint import TOKENIZER_FILES, add_tokenizer
from peers.contenders import CONTENDERS


def run(monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", ["compare.py", *map(str, arguments)])
    with pytest.raises(SystemExit) as stopped:
        compare.main()
    return str(stopped.value)


def test_measuring_before_anything_is_set_up_says_what_to_run(monkeypatch, tmp_path):
    folder = tmp_path / "absent"
    assert (
        run(monkeypatch, "run", folder) == f"error: {folder}: nothing is set up; run `compare.py setup {folder}` first"
    )
    assert not folder.exists()


def test_a_model_without_its_environment_is_left_out_by_name(monkeypatch, tmp_path, capsys):
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "llama-q4_0.gguf").touch()
    run(monkeypatch, "run", tmp_path, "--only", "llama-q4_0")
    assert "left out: llama-q4_0" in capsys.readouterr().err


def test_reporting_before_measuring_says_what_to_run(monkeypatch, tmp_path):
    path = tmp_path / "results.json"
    assert run(monkeypatch, "report", tmp_path) == f"error: {path} is not there; run `compare.py run {tmp_path}` first"


def test_a_pattern_that_names_nobody_is_an_error_beside_one_that_does():
    with pytest.raises(SystemExit, match="no contender is named 'lama': ours-int4-g32, "):
        compare.chosen(["ours-*", "lama"])
    assert {one.name for one in compare.chosen(["ours-*"])} == {one.name for one in CONTENDERS if one.ours}


def test_a_tokenizer_that_is_not_whole_stops_setup_before_it_makes_anything(monkeypatch, tmp_path):
    (tmp_path / TOKENIZER_FILES[0]).write_text("{}", encoding="utf-8")
    folder = tmp_path / "folder"
    found = run(monkeypatch, "setup", folder, "--tokenizer", tmp_path)
    assert found == f"error: --tokenizer {tmp_path}: expected {TOKENIZER_FILES[1]} in it"
    assert not folder.exists()


def test_a_checkpoint_gets_a_tokenizer_that_is_named_later(tmp_path):
    source, checkpoint = tmp_path / "source", tmp_path / "checkpoint"
    source.mkdir()
    checkpoint.mkdir()
    for name in TOKENIZER_FILES:
        (source / name).write_text(name, encoding="utf-8")
    add_tokenizer(source, checkpoint)
    assert {path.name: path.read_text(encoding="utf-8") for path in checkpoint.iterdir()} == {
        name: name for name in TOKENIZER_FILES
    }
