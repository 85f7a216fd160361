"""Checks of an engine directory that pass before any of its files is parsed or mapped."""

from __future__ import annotations

import hashlib
import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from qwen3_runtime.errors import EngineError
from qwen3_runtime.manifest import MAX_MANIFEST_BYTES, TENSORRT, FileEntry, Manifest, parse_manifest

if TYPE_CHECKING:
    from collections.abc import Iterator

Verify = Literal["fast", "full"]

WEIGHTS = "weights.bin"
PLAN = "model.plan"
_HEAVY = (WEIGHTS, PLAN)  # a plan holds the weights again


def read_engine_directory(path: str | os.PathLike[str], verify: Verify = "fast") -> Manifest:
    """Read the manifest of an engine and hold its directory to it.

    Every listed file must be a regular file of its own (no symbolic link, no hard link) with the listed size
    and SHA-256; nothing else may lie beside them. The directory itself may be reached through a link.

    Args:
        path: the engine directory.
        verify: `fast` trusts the bytes of `weights.bin` and `model.plan` and checks only their size, which keeps
            opening at milliseconds; `full` hashes them too, at the speed of the disk (roughly 0.5 s a gigabyte when
            cached).

    Raises:
        EngineError: naming the first file that does not match.
    """
    if verify not in ("fast", "full"):
        raise EngineError(f"verify must be 'fast' or 'full', got {verify!r}")
    root = Path(path)
    if not root.is_dir():
        raise EngineError(f"{root}: no such engine directory")
    manifest_path = root / "manifest.json"
    status = _regular_file(manifest_path)
    if status.st_size > MAX_MANIFEST_BYTES:
        raise EngineError(
            f"{manifest_path}: {status.st_size} bytes, more than the {MAX_MANIFEST_BYTES} a manifest may have"
        )
    manifest = parse_manifest(b"".join(_chunks(manifest_path)), str(manifest_path))
    for name in ("model.onnx", WEIGHTS, *((PLAN,) if manifest.target.backend in TENSORRT else ())):
        if name not in manifest.files:
            raise EngineError(f"{manifest_path}: files does not list {name}; the engine is incomplete, build it again")
    _refuse_strangers(root, manifest)
    for name, entry in sorted(manifest.files.items()):
        _check_file(root / name, entry, hashed=verify == "full" or name not in _HEAVY)
    return manifest


def _refuse_strangers(root: Path, manifest: Manifest) -> None:
    for entry in sorted(os.listdir(root)):  # noqa: PTH208 - names only, the files are not touched yet
        if entry != "manifest.json" and entry not in manifest.files:
            raise EngineError(f"{root}: {entry!r} is not listed in manifest.json; move it out of the engine directory")


def _check_file(path: Path, entry: FileEntry, *, hashed: bool) -> None:
    status = _regular_file(path)
    if status.st_size != entry.size:
        raise EngineError(f"{path}: {status.st_size} bytes, the manifest says {entry.size}; copy or build it again")
    if hashed:
        digest = hashlib.sha256()
        for chunk in _chunks(path):
            digest.update(chunk)
        if digest.hexdigest() != entry.sha256:
            raise EngineError(
                f"{path}: SHA-256 is {digest.hexdigest()[:12]}…, the manifest says {entry.sha256[:12]}…; "
                "the file was changed or damaged, copy or build it again"
            )


def _regular_file(path: Path) -> os.stat_result:
    try:
        status = path.lstat()
    except OSError as error:
        raise EngineError(f"{path}: missing from the engine directory ({error.strerror})") from None
    if stat.S_ISLNK(status.st_mode):
        raise EngineError(f"{path}: a symbolic link; an engine holds only regular files, copy the target here")
    if not stat.S_ISREG(status.st_mode):
        raise EngineError(f"{path}: not a regular file")
    if status.st_nlink > 1:
        raise EngineError(f"{path}: a hard link ({status.st_nlink} names); an engine's files must be its own, copy it")
    return status


def _chunks(path: Path) -> Iterator[bytes]:
    """The file's bytes, opened without following a link that may have replaced it since the check."""
    try:
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0))
    except OSError as error:
        raise EngineError(f"{path}: cannot be read ({error.strerror})") from None
    with os.fdopen(descriptor, "rb", buffering=0) as file:
        while chunk := file.read(1 << 20):
            yield chunk
