"""What `build --dry-run` says, held to what builds took."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import pytest

from qwen3_compile.cli import main
from qwen3_compile.cli.quantities import duration, size
from qwen3_compile.contents import cache_bytes_per_token
from qwen3_compile.pipeline.estimate import estimate
from qwen3_compile.pipeline.orchestrate import build
from qwen3_compile.spec import load_spec, parse_spec
from qwen3_runtime.directory import read_engine_directory

ROOT = Path(__file__).parents[3]
FORMATS = [
    ("dense", {"weights": "int8", "group_size": 32}),
    ("dense", {"weights": "int4", "group_size": 32, "lm_head": "int8", "kv_cache": "int8"}),
    ("dense", {"weights": "fp16"}),
    ("moe", {"weights": "int4", "group_size": 32, "lm_head": "fp16", "embedding": "bf16"}),
]


@pytest.mark.parametrize(("kind", "precision"), FORMATS)
def test_sizes_are_those_of_the_engine_that_is_built(make, spec_of, checkpoints, kind, precision):
    found = estimate(parse_spec(spec_of(checkpoints / kind, kind, precision=precision)))
    built, _ = make(kind, precision=precision, options={"validate": False})
    files = built.manifest["files"]
    weights = files["weights.bin"]["size"]
    # Pages that are filled up weigh much in a model as small as this.
    assert found.cache_bytes == pytest.approx(weights, rel=0.25)
    assert found.engine_bytes - found.cache_bytes == sum(
        files[name]["size"] for name in ("tokenizer.json", "tokenizer_config.json", "generation_config.json")
    )
    io = read_engine_directory(built.path).io
    assert (
        found.kv_cache_bytes_per_sequence
        == cache_bytes_per_token(io.layers, io.kv_heads, io.head_dim, io.cache_dtype) * found.max_context
    )


@pytest.mark.parametrize(
    ("spec", "weights", "peak", "seconds"),  # of docs/building.md: weights.bin, memory, two threads
    [("qwen3-0.6b", 381e6, 739e6, 46), ("qwen3-1.7b", 1084e6, 1470e6, 170), ("qwen3-30b-a3b", 17.54e9, 3.14e9, 1382)],
)
def test_rules_agree_with_the_measured_builds(spec, weights, peak, seconds):
    overrides = ["model.source=synthetic://0", *(["precision.lm_head=int4", "precision.embedding=int4"] * (peak < 2e9))]
    found = estimate(load_spec(ROOT / "specs" / f"{spec}.yaml", overrides), threads=2)
    assert found.engine_bytes == pytest.approx(weights, rel=0.1)
    assert found.memory_bytes - 300e6 == pytest.approx(peak, rel=0.1)
    assert seconds / 3 < found.seconds < seconds * 3


@pytest.fixture
def fresh(monkeypatch, tmp_path):
    """A user without caches, in an empty folder."""
    for name in ("HOME", "XDG_CACHE_HOME", "QWEN3_COMPILE_CACHE"):
        monkeypatch.setenv(name, str(tmp_path / "home"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "home" / "hub"))
    (tmp_path / "home").mkdir()
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path


def test_a_dry_run_counts_the_files_that_are_not_cached_and_writes_nothing(fresh, serve_hub, checkpoints, capsys):
    files = {path.name: path.read_bytes() for path in (checkpoints / "dense").iterdir()}
    hub = serve_hub(files | {"original.pth": b"x" * 10_000})
    assert main(["build", "test/tiny", "--dry-run", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    needed = {name: len(content) for name, content in files.items() if name not in ("original.pth", "README.md")}
    assert found["source"] == f"hf://test/tiny@{hub.commit}"
    assert found["download_bytes"] == sum(needed.values())
    assert found["disk_bytes"] == found["download_bytes"] + found["engine_bytes"] + found["cache_bytes"]
    assert not list((fresh / "home").iterdir())
    assert not list((fresh / "here").iterdir())
    assert not hub.downloads("model.safetensors")
    cached = fresh / "home" / "hub" / "models--test--tiny" / "snapshots" / hub.commit / "model.safetensors"
    cached.parent.mkdir(parents=True)
    cached.write_bytes(files["model.safetensors"])
    assert main(["build", "test/tiny", "--dry-run", "--json", "--no-cache"]) == 0
    again = json.loads(capsys.readouterr().out)
    assert again["download_bytes"] == found["download_bytes"] - len(files["model.safetensors"])
    assert again["cache_bytes"] == 0


TEXT = ("tokenizer.json", "tokenizer_config.json", "generation_config.json")


def test_a_tokenizer_of_its_own_on_the_hub_is_counted(fresh, serve_hub, spec_of, checkpoints):
    files = {path.name: path.read_bytes() for path in (checkpoints / "dense").iterdir()}
    hub = serve_hub(files | {"added_tokens.json": b"{}"})

    def estimated(source, tokenizer=None):
        document = json.loads(spec_of(source))
        document["model"] |= {"tokenizer": tokenizer}
        return estimate(parse_spec(json.dumps(document)), hub_cache=fresh / "cache")

    apart, alone = estimated("synthetic://0", "hf://test/tiny"), estimated("synthetic://0")
    text = sum(len(files[name]) for name in TEXT[:2])
    assert (alone.download_bytes, apart.download_bytes) == (0, text + len(b"{}"))
    assert apart.engine_bytes - alone.engine_bytes == text
    assert apart.disk_bytes - alone.disk_bytes == 2 * text + len(b"{}")
    local, other = estimated(checkpoints / "dense"), estimated(checkpoints / "dense", "hf://test/tiny")
    assert other.engine_bytes == local.engine_bytes
    assert other.download_bytes == apart.download_bytes
    # The same commit under two names of a revision travels once.
    whole, again = estimated("hf://test/tiny"), estimated("hf://test/tiny", f"hf://test/tiny@{hub.commit}")
    assert (again.download_bytes, again.engine_bytes) == (whole.download_bytes, whole.engine_bytes)
    assert whole.download_bytes > text


def test_a_tokenizer_in_a_folder_is_counted_and_not_downloaded(spec_of, checkpoints):
    document = json.loads(spec_of("synthetic://0"))
    alone = estimate(parse_spec(json.dumps(document)))
    document["model"] |= {"tokenizer": str(checkpoints / "dense")}
    found = estimate(parse_spec(json.dumps(document)))
    assert found.download_bytes == 0
    sizes = [(checkpoints / "dense" / name).stat().st_size for name in TEXT[:2]]
    assert found.engine_bytes - alone.engine_bytes == sum(sizes)


def test_without_the_hub_of_the_tokenizer_the_download_is_unknown(monkeypatch, spec_of, tmp_path):
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:1")
    document = json.loads(spec_of("synthetic://0"))
    document["model"] |= {"tokenizer": "hf://test/tiny"}
    assert estimate(parse_spec(json.dumps(document)), hub_cache=tmp_path).download_bytes is None


@pytest.mark.usefixtures("fresh")
def test_without_the_hub_the_download_is_unknown_and_the_rest_is_said(monkeypatch, capsys):
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:1")
    assert main(["build", "Qwen/Qwen3-0.6B", "--dry-run", "-q"]) == 0
    captured = capsys.readouterr()
    lines = dict(line.split(None, 1) for line in captured.out.splitlines())
    assert lines["download"] == "unknown: the hub cannot be reached"
    assert set(lines) == {"model", "source", "download", "engine", "disk", "memory", "time", "KV"}
    assert re.match(r"roughly \d+ (s|min) on \d+ threads \(10 s and 11 million", lines["time"])
    assert captured.err == ""


def test_an_unknown_repository_is_refused(fresh, serve_hub, capsys):
    serve_hub({"config.json": b"{}"})
    assert main(["build", "test/other", "--dry-run"]) == 1
    assert "no such repository" in capsys.readouterr().err
    assert not list((fresh / "home").iterdir())


def test_sizes_and_durations_read_well():
    assert [size(n) for n in (0, 999, 1000, 999_499, 1_234_567, 17.54e9, 2e12)] == [
        "0 B", "999 B", "1 kB", "999 kB", "1.23 MB", "17.5 GB", "2 TB",
    ]  # fmt: skip
    assert [duration(s) for s in (0.2, 89, 100, 5399, 7200)] == ["1 s", "89 s", "2 min", "90 min", "2.0 h"]


def test_estimates_count_on_the_threads_that_a_session_would_have(monkeypatch):
    monkeypatch.setattr(sys.modules[estimate.__module__], "physical_cores", lambda: 3)
    assert estimate(load_spec(ROOT / "specs" / "tiny-dense.yaml")).threads == 3


def test_builds_have_the_threads_that_a_session_would_have(monkeypatch, tmp_path):
    class CountedError(Exception):
        pass

    def counted():
        raise CountedError

    monkeypatch.setattr("qwen3_compile.pipeline.context.physical_cores", counted)
    with pytest.raises(CountedError):
        build(load_spec(ROOT / "specs" / "tiny-dense.yaml"), tmp_path / "engine", cache_dir=tmp_path / "cache")


@pytest.mark.parametrize(
    ("dtype", "size"),
    [("float32", 2 * 28 * 8 * 512), ("bfloat16", 2 * 28 * 8 * 256), ("int8", 2 * 28 * 8 * (128 + 4))],
)
def test_the_cache_bytes_of_a_token(dtype, size):
    assert cache_bytes_per_token(28, 8, 128, dtype) == size
