"""`ls`, `diff` and `cache`: what is there, what differs, what can go."""

from __future__ import annotations

import json
import os
import shutil
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest

from qwen3_compile.cli import inspect, main
from qwen3_compile.cli.quantities import age

ROOT = Path(__file__).parents[3]
DENSE = ROOT / "examples" / "tiny" / "dense"


@pytest.fixture
def run(capsys):
    def run(*arguments):
        code = main([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


@pytest.fixture
def folders(engine, tmp_path, monkeypatch):
    """An engine in ./build, an older one kept for `run`, a damaged one, one in the making, and no engine."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("QWEN3_COMPILE_ENGINES", str(tmp_path / "kept"))
    shutil.copytree(engine, tmp_path / "build" / "mine")
    shutil.copytree(engine, tmp_path / "kept" / "tiny-dense-0123456789ab")
    os.utime(tmp_path / "kept" / "tiny-dense-0123456789ab" / "manifest.json", (1e9, 1e9))
    for name, content in (("damaged", "{}"), (".mine.partial-1-0", "{}")):
        (tmp_path / "build" / name).mkdir()
        (tmp_path / "build" / name / "manifest.json").write_text(content)
    (tmp_path / "build" / "notes").mkdir()
    return tmp_path


def test_ls_shows_engines_newest_first_and_warns_of_damaged_ones(run, folders, engine):
    code, out, err = run("ls")
    head, *rows = [line.split("  ") for line in out.splitlines()]
    cells = [[cell.strip() for cell in row if cell.strip()] for row in rows]
    assert code == 0
    assert [cell.strip() for cell in head if cell.strip()] == [
        "name", "target", "weights", "size", "verified", "built", "path",
    ]  # fmt: skip
    size = f"{sum(path.stat().st_size for path in engine.iterdir() if path.name != 'manifest.json') / 1e6:.3g} MB"
    assert cells[0][:5] == ["tiny-dense", "ort with plugins", "int4", size, "yes"]
    assert [row[-1] for row in cells] == ["build/mine", str(folders / "kept" / "tiny-dense-0123456789ab")]
    assert cells[1][-2].endswith("days ago")
    assert err.startswith("warning: build/damaged/manifest.json: ")


def test_ls_json_has_everything(run, folders):
    found = {Path(entry["path"]).name: entry for entry in json.loads(run("ls", "--json")[1])}
    assert set(found) == {"mine", "damaged", "tiny-dense-0123456789ab"}
    assert found["damaged"]["problem"]
    kept = found["tiny-dense-0123456789ab"]
    assert datetime.fromisoformat(kept["built"]) == datetime.fromtimestamp(1e9, UTC)
    assert (kept["verified"], kept["task"], kept["problem"]) == (True, "chat", None)
    only = json.loads(run("ls", folders / "kept", folders / "build" / "mine", "--json")[1])
    assert len(only) == 2
    assert run("ls", folders / "nothing")[0] == 2


def test_ls_of_nothing_is_a_head_alone(run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("QWEN3_COMPILE_ENGINES", str(tmp_path / "none"))
    assert run("ls") == (0, "name  target  weights  size  verified  built  path\n", "")


def test_ages_are_in_their_largest_unit():
    assert [age(s) for s in (-1, 59, 60, 7199, 7200, 86400, 1e7)] == [
        "just now", "just now", "1 minute ago", "1 hour ago", "2 hours ago", "1 day ago", "115 days ago",
    ]  # fmt: skip


@pytest.fixture(scope="module")
def other(shared, engine, tmp_path_factory):
    """The same model in 8 bits, not validated."""
    assert engine.is_dir()
    path = tmp_path_factory.mktemp("other") / "engine"
    changes = ["--set", "precision.weights=int8", "--set", "limits.max_batch=3", "--no-validate"]
    spec = ROOT / "specs" / "tiny-dense.yaml"
    assert main(["build", str(spec), "-o", str(path), "--cache-dir", str(shared / "cache"), *changes]) == 0
    return path


def test_diff_pairs_what_inspect_says_of_each(run, engine, other):
    code, out, _ = run("diff", engine, other, "--json")
    found = json.loads(out)
    assert code == 0
    assert found["spec"] == {"precision.weights": ["int4", "int8"], "limits.max_batch": [8, 3]}
    sides = [inspect.describe(path) for path in (engine, other)]
    for key in ("bytes_by_part", "operators"):
        for number, side in enumerate(sides):
            assert side[key].items() <= {name: pair[number] for name, pair in found[key].items()}.items()
    assert found["verified"] == [True, False]
    assert found["accuracy"]["mean_kl"] == [sides[0]["accuracy"]["mean_kl"], None]
    for number, path in enumerate((engine, other)):
        assert found["bytes_by_part"]["weights.bin"][number] == (path / "weights.bin").stat().st_size


def test_diff_for_people(run, engine, other):
    lines = [line.split() for line in run("diff", engine, other)[1].splitlines()]
    assert ["precision.weights", "int4", "int8"] in lines
    assert ["verified", "true", "false"] in lines
    assert any(line[:2] == ["mean", "KL"] and line[-1] == "-" for line in lines)
    same = run("diff", engine, engine)[1]
    assert "spec: the same" in same
    assert "operators: the same" in same
    code, _, err = run("diff", engine, DENSE)
    assert (code, err.count("\n")) == (1, 1)


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """A cache of two stages; one entry is old. Beside it, an engine that no command of the cache may touch."""
    monkeypatch.setenv("QWEN3_COMPILE_CACHE", str(tmp_path))
    for stage, key, count, used in (("trace", "a", 1000, 0), ("weights", "b", 3000, 0), ("weights", "c", 5000, 90)):
        entry = tmp_path / "v1" / stage / key
        entry.mkdir(parents=True)
        (entry / "content").write_bytes(b"x" * count)
        (entry / "sha256").write_text("0" * 64)
        moment = time.time() - used * 86400
        os.utime(entry, (moment, moment))
    (tmp_path / "engines" / "mine").mkdir(parents=True)
    return tmp_path


def test_cache_ls_counts_each_stage(run, cache):
    lines = [line.split() for line in run("cache", "ls")[1].splitlines()]
    assert lines[0] == ["stage", "entries", "size", "last", "used"]
    assert [line[:4] for line in lines[1:]] == [
        ["trace", "1", "1.06", "kB"], ["weights", "2", "8.13", "kB"], ["all", "3", "9.19", "kB"],
    ]  # fmt: skip
    entries = json.loads(run("cache", "ls", "--json")[1])
    assert {(e["stage"], e["key"], e["bytes"]) for e in entries} == {
        ("trace", "a", 1064), ("weights", "b", 3064), ("weights", "c", 5064),
    }  # fmt: skip
    assert run("cache", "dir")[1] == f"{cache}\n"


def test_cache_prune_and_clear_free_what_they_say_and_leave_engines(run, cache):
    assert run("cache", "prune")[:2] == (0, "5.06 kB freed\n")
    assert json.loads(run("cache", "prune", "--days", "0.5", "--json")[1]) == {"bytes_freed": 0}
    assert json.loads(run("cache", "clear", "--json")[1]) == {"bytes_freed": 4128}
    assert not (cache / "v1").exists()
    assert (cache / "engines" / "mine").is_dir()
    assert run("cache", "clear")[:2] == (0, "0 B freed\n")
    assert run("cache", "ls")[1] == "stage  entries  size  last used\n"


def test_prune_cache_of_build_names_the_command(run, cache, tmp_path):
    options = ["-o", tmp_path / "engine", "--set", "model.source=synthetic://0", "--no-validate", "--prune-cache"]
    code, _, err = run("build", ROOT / "specs" / "tiny-dense.yaml", *options)
    assert code == 0
    assert "cache: 5.06 kB freed; `qwen3-compile cache prune` does it without a build" in err
    assert not (cache / "v1" / "weights" / "c").exists()
