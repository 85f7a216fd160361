"""Engines where they lie: the hub's cache, ConfigMaps and stores of hard links, opened when the caller says so."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from built_engine import GREEDY, build_engine, prompts, rewrite

from qwen3_runtime import Engine, EngineError

if TYPE_CHECKING:
    from collections.abc import Callable

TINY = Path(__file__).parents[2] / "examples/tiny/dense"


def in_hub_cache(engine: Path, place: Path) -> Path:
    """`snapshots/<revision>/<name>` is a relative link to `blobs/<hash>`."""
    blobs, snapshot = place / "blobs", place / "snapshots" / "abc"
    blobs.mkdir(parents=True)
    snapshot.mkdir(parents=True)
    for file in engine.iterdir():
        blob = blobs / hashlib.sha256(file.read_bytes()).hexdigest()
        shutil.copyfile(file, blob)
        (snapshot / file.name).symlink_to(os.path.relpath(blob, snapshot))
    return snapshot


def in_config_map(engine: Path, place: Path) -> Path:
    """`<name>` is a link to `..data/<name>`, and `..data` one to a folder with a date, as Kubernetes mounts them."""
    shutil.copytree(engine, place / "..2026_11_30")
    (place / "..data").symlink_to("..2026_11_30")
    for file in engine.iterdir():
        (place / file.name).symlink_to(f"..data/{file.name}")
    return place


def in_store(engine: Path, place: Path) -> Path:
    """Every file has a second name elsewhere."""
    shutil.copytree(engine, place / "store")
    (place / "engine").mkdir()
    for file in (place / "store").iterdir():
        os.link(file, place / "engine" / file.name)
    return place / "engine"


def with_strangers(engine: Path, place: Path) -> Path:
    shutil.copytree(engine, place / "engine")
    (place / "engine" / "lost+found").mkdir()
    (place / "engine" / ".DS_Store").write_bytes(b"\0")
    return place / "engine"


LAYOUTS = (in_hub_cache, in_config_map, in_store, with_strangers)


@pytest.fixture(scope="module", params=["ort-plugins", "ort"])
def engine(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    cache = {"ort-plugins": "fp16", "ort": "fp32"}[request.param]
    return build_engine(tmp_path_factory.mktemp(request.param), target=request.param, cache=cache)[0]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_it_is_refused_by_default_and_the_way_to_open_it_is_named(
    layout: Callable[[Path, Path], Path], engine: Path, tmp_path: Path
) -> None:
    with pytest.raises(EngineError, match="strict=False"):
        Engine.open(layout(engine, tmp_path))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_it_gives_the_tokens_of_the_plain_engine(
    layout: Callable[[Path, Path], Path], engine: Path, tmp_path: Path
) -> None:
    prompt = prompts(1)[0]
    with Engine.open(engine, threads=1) as opened:
        expected = opened.complete(prompt, max_tokens=8, sampling=GREEDY).tokens
    with Engine.open(layout(engine, tmp_path), strict=False, verify="full", threads=1) as opened:
        assert opened.complete(prompt, max_tokens=8, sampling=GREEDY).tokens == expected


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("name", ["model.onnx", "weights.bin"])
def test_every_hash_is_still_checked(
    layout: Callable[[Path, Path], Path], name: str, engine: Path, tmp_path: Path
) -> None:
    damaged = (layout(engine, tmp_path) / name).resolve()
    content = damaged.read_bytes()
    damaged.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(EngineError, match=f"{name}: SHA-256"):
        Engine.open(layout_place(layout, tmp_path), strict=False, verify="full")


def layout_place(layout: Callable[[Path, Path], Path], place: Path) -> Path:
    return {in_hub_cache: place / "snapshots" / "abc", in_config_map: place}.get(layout, place / "engine")


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_size_is_still_checked(layout: Callable[[Path, Path], Path], engine: Path, tmp_path: Path) -> None:
    place = layout(engine, tmp_path)
    with (place / "weights.bin").resolve().open("ab") as file:
        file.write(b"!")
    with pytest.raises(EngineError, match=r"weights\.bin: \d+ bytes, the manifest says"):
        Engine.open(place, strict=False)


@pytest.mark.parametrize("name", ["manifest.json", "model.onnx"])
def test_a_link_to_nothing_a_folder_or_a_pipe_is_refused(name: str, engine: Path, tmp_path: Path) -> None:
    copy = tmp_path / "engine"
    shutil.copytree(engine, copy)
    for make, message in (
        (lambda: None, "missing"),
        ((tmp_path / "target").mkdir, "not a regular file"),
        (lambda: ((tmp_path / "target").rmdir(), os.mkfifo(tmp_path / "target")), "not a regular file"),
    ):
        make()
        (copy / name).unlink()
        (copy / name).symlink_to(tmp_path / "target")
        with pytest.raises(EngineError, match=message):
            Engine.open(copy, strict=False)


def test_an_unlisted_file_is_not_read(engine: Path, tmp_path: Path) -> None:
    """A tokenizer that the manifest does not list is as good as none."""
    copy = with_strangers(engine, tmp_path)
    assert "tokenizer.json" not in json.loads((copy / "manifest.json").read_text())["files"]
    (copy / "tokenizer.json").write_text("damaged")
    with Engine.open(copy, strict=False, threads=1) as opened:
        assert opened.tokenizer is None


def test_an_unlisted_chat_template_or_configuration_is_not_read(engine: Path, tmp_path: Path) -> None:
    """Nobody hashed them, and nobody signed them."""
    copy = with_strangers(engine, tmp_path)
    rewrite(copy, "tokenizer.json", (TINY / "tokenizer.json").read_bytes())
    config = json.loads((TINY / "tokenizer_config.json").read_text()) | {"chat_template": "listed"}
    (copy / "chat_template.jinja").write_text("a stranger's")
    (copy / "tokenizer_config.json").write_text(json.dumps(config))
    with pytest.raises(EngineError, match=r"manifest\.json lists tokenizer\.json but not tokenizer_config\.json"):
        Engine.open(copy, strict=False, threads=1)
    rewrite(copy, "tokenizer_config.json", json.dumps(config).encode())
    with Engine.open(copy, strict=False, threads=1) as opened:
        assert opened.template is not None
        assert opened.template.source == "listed"
    rewrite(copy, "chat_template.jinja", b"listed too")
    with Engine.open(copy, strict=False, threads=1) as opened:
        assert opened.template is not None
        assert opened.template.source == "listed too"
