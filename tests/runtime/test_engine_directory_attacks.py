"""An engine directory that was changed, incomplete or made to lead elsewhere is refused before anything is parsed."""

from __future__ import annotations

import copy
import hashlib
import json
import os
from typing import TYPE_CHECKING

import pytest
from test_manifest import GOOD

from qwen3_runtime import DamagedEngineError, Engine, EngineError, directory
from qwen3_runtime.directory import read_engine_directory

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

CONTENTS = {"model.onnx": b"graph", "weights.bin": b"weights" * 1000, "tokenizer.json": b"{}"}


@pytest.fixture
def engine_dir(tmp_path: Path) -> Path:
    folder = tmp_path / "engine"
    folder.mkdir()
    for name, data in CONTENTS.items():
        (folder / name).write_bytes(data)
    document = copy.deepcopy(GOOD)
    document["files"] = {
        name: {"size": len(data), "sha256": hashlib.sha256(data).hexdigest()} for name, data in CONTENTS.items()
    }
    (folder / "manifest.json").write_text(json.dumps(document))
    return folder


def replace(path: Path, make: Callable[[], object]) -> None:
    path.unlink()
    make()


def test_an_intact_directory_passes(engine_dir: Path) -> None:
    for verify in ("fast", "full"):
        assert read_engine_directory(engine_dir, verify).name == "qwen3-0.6b"  # type: ignore[arg-type]


def test_it_may_be_reached_through_a_link(engine_dir: Path, tmp_path: Path) -> None:
    (tmp_path / "current").symlink_to(engine_dir)
    assert read_engine_directory(tmp_path / "current").name == "qwen3-0.6b"


def attack_with_symlink(folder: Path, name: str) -> None:
    outside = folder.parent / "outside"
    outside.write_bytes((folder / name).read_bytes())  # even the right bytes
    replace(folder / name, lambda: (folder / name).symlink_to(outside))


def attack_with_hard_link(folder: Path, name: str) -> None:
    os.link(folder / name, folder.parent / "second_name")


def attack_with_directory(folder: Path, name: str) -> None:
    replace(folder / name, (folder / name).mkdir)


def attack_with_pipe(folder: Path, name: str) -> None:
    replace(folder / name, lambda: os.mkfifo(folder / name))


def attack_by_removal(folder: Path, name: str) -> None:
    (folder / name).unlink()


@pytest.mark.parametrize("name", [*CONTENTS, "manifest.json"])
@pytest.mark.parametrize(
    ("attack", "message"),
    [
        (attack_with_symlink, "a symbolic link"),
        (attack_with_hard_link, "a hard link"),
        (attack_with_directory, "not a regular file"),
        (attack_with_pipe, "not a regular file"),
        (attack_by_removal, "missing"),
    ],
)
def test_files_that_are_not_its_own_regular_files_are_refused(
    engine_dir: Path, name: str, attack: Callable[[Path, str], None], message: str
) -> None:
    attack(engine_dir, name)
    with pytest.raises(EngineError, match=message) as caught:
        Engine.open(engine_dir)
    assert name in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["manifest.json", "model.onnx"])
def test_a_link_that_takes_the_place_of_a_file_after_it_was_checked_is_not_followed(
    engine_dir: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    checked = directory._regular_file

    def replaced_afterwards(path: Path, *, strict: bool) -> os.stat_result:
        status = checked(path, strict=strict)
        if path.name == name and not path.is_symlink():
            attack_with_symlink(engine_dir, name)
        return status

    monkeypatch.setattr(directory, "_regular_file", replaced_afterwards)
    with pytest.raises(DamagedEngineError, match=rf"{name}: cannot be read"):
        read_engine_directory(engine_dir)
    read_engine_directory(engine_dir, strict=False)


@pytest.mark.parametrize("name", CONTENTS)
@pytest.mark.parametrize("verify", ["fast", "full"])
def test_a_changed_size_is_refused(engine_dir: Path, name: str, verify: str) -> None:
    (engine_dir / name).write_bytes(CONTENTS[name] + b"!")
    with pytest.raises(EngineError, match=rf"{name}: {len(CONTENTS[name]) + 1} bytes, the manifest says"):
        Engine.open(engine_dir, verify=verify)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", CONTENTS)
def test_a_changed_byte_is_refused_and_in_the_weights_by_full_verification(engine_dir: Path, name: str) -> None:
    flipped = bytearray(CONTENTS[name])
    flipped[-1] ^= 1
    (engine_dir / name).write_bytes(flipped)
    with pytest.raises(EngineError, match=rf"{name}: SHA-256 is"):
        read_engine_directory(engine_dir, "full")
    if name == "weights.bin":
        read_engine_directory(engine_dir, "fast")
    else:
        with pytest.raises(EngineError, match=rf"{name}: SHA-256 is"):
            read_engine_directory(engine_dir, "fast")


@pytest.mark.parametrize("name", ["extra.so", ".hidden", "sub/file", "libonnxruntime_providers_cuda.so"])
def test_a_file_that_the_manifest_does_not_list_is_refused(engine_dir: Path, name: str) -> None:
    path = engine_dir / name
    path.parent.mkdir(exist_ok=True)
    path.write_text("x")
    with pytest.raises(EngineError, match=rf"'{name.split('/', maxsplit=1)[0]}' is not listed in manifest.json"):
        Engine.open(engine_dir)


@pytest.mark.parametrize("name", ["two\nlines", "\x1b[31mred", os.fsdecode(b"not-utf8-\xff")])
def test_a_strange_name_is_shown_escaped_on_one_line(engine_dir: Path, name: str) -> None:
    (engine_dir / name).write_text("x")
    with pytest.raises(EngineError, match="is not listed in manifest") as caught:
        Engine.open(engine_dir)
    assert str(caught.value).isprintable()
    str(caught.value).encode("utf-8")


def test_an_unknown_sampling_field_of_any_name_is_one_line(engine_dir: Path) -> None:
    document = json.loads((engine_dir / "manifest.json").read_text())
    document["chat"]["sampling"] = {"thinking": {"tempera\nture": 1}}
    del document["files"]["tokenizer.json"]
    (engine_dir / "tokenizer.json").unlink()
    (engine_dir / "manifest.json").write_text(json.dumps(document))
    with pytest.raises(EngineError, match=r"unknown field 'tempera\\nture'") as caught:
        Engine.open(engine_dir)
    assert str(caught.value).isprintable()


def test_an_endless_manifest_is_refused_by_its_size(engine_dir: Path) -> None:
    os.truncate(engine_dir / "manifest.json", 1 << 34)
    with pytest.raises(EngineError, match="more than the"):
        Engine.open(engine_dir)


@pytest.mark.parametrize("name", ["model.onnx", "weights.bin"])
def test_an_engine_without_graph_or_weights_is_refused(engine_dir: Path, name: str) -> None:
    document = json.loads((engine_dir / "manifest.json").read_text())
    del document["files"][name]
    (engine_dir / "manifest.json").write_text(json.dumps(document))
    (engine_dir / name).unlink()
    with pytest.raises(EngineError, match=f"does not list {name}"):
        Engine.open(engine_dir)


def test_a_place_without_an_engine_is_named(tmp_path: Path) -> None:
    with pytest.raises(EngineError, match="no such engine directory"):
        Engine.open(tmp_path / "nowhere")
    with pytest.raises(EngineError, match=r"manifest\.json: missing"):
        Engine.open(tmp_path)
    with pytest.raises(EngineError, match="expected 'fast' or 'full', found 'slow'"):
        Engine.open(tmp_path, verify="slow")  # type: ignore[arg-type]


def test_a_damaged_graph_is_one_line(engine_dir: Path) -> None:
    """The hashes hold, the tokenizer is left out, and ONNX Runtime cannot read the graph."""
    document = json.loads((engine_dir / "manifest.json").read_text())
    del document["files"]["tokenizer.json"]
    (engine_dir / "tokenizer.json").unlink()
    (engine_dir / "manifest.json").write_text(json.dumps(document))
    with pytest.raises(EngineError, match=r"model.onnx: ONNX Runtime cannot open it") as caught:
        Engine.open(engine_dir)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_sequences": 5}, "max_sequences: expected 1 to 4"),
        ({"max_sequences": 0}, "max_sequences: expected 1 to 4"),
        ({"threads": 0}, "threads: expected 1 to .*, found 0"),
        ({"max_context": 40961}, "max_context: expected 1 to 40960"),
    ],
)
def test_more_than_the_engine_was_built_for_is_refused(engine_dir: Path, options: dict[str, int], message: str) -> None:
    with pytest.raises(EngineError, match=message):
        Engine.open(engine_dir, **options)  # type: ignore[arg-type]


def test_another_target_is_named(engine_dir: Path) -> None:
    document = json.loads((engine_dir / "manifest.json").read_text())
    document["target"] = {"backend": "openvino", "provider": "npu", "plugins": "all"}
    del document["files"]["tokenizer.json"]
    (engine_dir / "tokenizer.json").unlink()
    (engine_dir / "manifest.json").write_text(json.dumps(document))
    with pytest.raises(EngineError, match="target 'openvino' with plugins 'all'; this runtime executes ort, onnx, t"):
        Engine.open(engine_dir)


def test_a_tensorrt_engine_needs_its_plan_whose_bytes_are_hashed_like_weights(engine_dir: Path) -> None:
    document = json.loads((engine_dir / "manifest.json").read_text())
    gpu = {"backend": "tensorrt-rtx", "provider": "cuda", "compute_capabilities": ["8.9"]}
    document["target"] = gpu | {"plugins": "none"}
    (engine_dir / "manifest.json").write_text(json.dumps(document))
    with pytest.raises(EngineError, match=r"files does not list model\.plan"):
        read_engine_directory(engine_dir)
    document["files"]["model.plan"] = {"size": 4, "sha256": hashlib.sha256(b"plan").hexdigest()}
    (engine_dir / "manifest.json").write_text(json.dumps(document))
    (engine_dir / "model.plan").write_bytes(b"nalp")
    assert read_engine_directory(engine_dir, "fast").target.backend == "tensorrt-rtx"
    with pytest.raises(EngineError, match=r"model\.plan: SHA-256"):
        read_engine_directory(engine_dir, "full")
    (engine_dir / "model.plan").write_bytes(b"longer")
    with pytest.raises(EngineError, match=r"model\.plan: 6 bytes, the manifest says 4"):
        read_engine_directory(engine_dir, "fast")
