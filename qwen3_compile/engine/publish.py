"""Makes an engine directory appear whole, or not at all.

Everything is written to a hidden sibling, flushed to the disk, and renamed into place. A build that fails or is
interrupted removes its sibling; that of a process which was killed is removed by the next build.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from qwen3_compile.errors import CompileError
from qwen3_runtime.engine_files import MANIFEST
from qwen3_runtime.signatures import SIGNATURES

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextlib.contextmanager
def publication(target: Path, *, force: bool = False) -> Iterator[Path]:
    """Give a folder to fill; when the block ends without an exception it becomes `target`.

    Args:
        target: the engine directory.
        force: replace an engine that is already there.

    Raises:
        CompileError: `target` exists and is not an engine, or is one and `force` is false.
    """
    target = prepare_target(target, force=force)
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = _new_sibling(target, "partial")
    lock = os.open(partial, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield partial
        for path in sorted(partial.iterdir()):
            _flush(path)
        _flush(partial)
        _move_into_place(partial, target, force=force)
        _flush(target.parent)
    finally:
        os.close(lock)
        shutil.rmtree(partial, ignore_errors=True)


def prepare_target(target: Path, *, force: bool) -> Path:
    """Clean up after killed builds of `target`, and refuse what cannot be made or replaced; returns its absolute path.

    Raises:
        CompileError: `target` exists and is not an engine, holds other files too, or `force` is missing; or nothing
            can be written where it would lie.
    """
    target = Path(os.path.abspath(target))  # noqa: PTH100 - `resolve` would follow a link at the target itself
    if target.parent.is_dir():
        _remove_stale(target)
    _check_target(target, force=force)
    _check_place(target)
    return target


def _check_place(target: Path) -> None:
    """Find out before any work whether folders can be made there."""
    place = next(folder for folder in target.parents if folder.exists())
    try:
        with tempfile.TemporaryDirectory(prefix=f".{target.name}.", dir=place):
            pass
    except OSError as error:
        raise CompileError(
            f"{place}: cannot create an engine here ({error.strerror}); choose another place with -o"
        ) from None


def _check_target(target: Path, *, force: bool) -> None:
    if not target.exists() and not target.is_symlink():
        return
    if target.is_symlink() or not target.is_dir():
        raise CompileError(f"{target}: exists and is not a directory; choose another place with -o")
    held = {path.name for path in target.iterdir()}
    if not held:
        return
    strangers = held - _engine_files(target)
    if strangers:
        raise CompileError(
            f"{target}: exists and is not an engine (holds {min(strangers)!r}); choose another place with -o"
        )
    if not force:
        raise CompileError(f"{target}: an engine is already here; pass --force to replace it, or another place with -o")


def _engine_files(folder: Path) -> set[str]:
    """Names that the folder's manifest accounts for; none if it has no readable manifest."""
    try:
        document = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        return {MANIFEST, SIGNATURES, *document["files"]} if "schema_version" in document else set()
    except (OSError, ValueError, KeyError, TypeError):
        return set()


def _new_sibling(target: Path, role: str) -> Path:
    for attempt in range(1000):
        folder = target.parent / f".{target.name}.{role}-{os.getpid()}-{attempt}"
        with contextlib.suppress(FileExistsError):
            folder.mkdir()
            return folder
    raise CompileError(f"{target.parent}: too many unfinished builds of {target.name}; remove its .{target.name}.*")


def _move_into_place(partial: Path, target: Path, *, force: bool) -> None:
    _check_target(target, force=force)
    if target.is_dir() and any(target.iterdir()):
        old = _new_sibling(target, "old")
        target.rename(old)
        try:
            partial.rename(target)
        except BaseException:
            old.rename(target)
            raise
        shutil.rmtree(old, ignore_errors=True)
    else:
        partial.rename(target)


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _remove_stale(target: Path) -> None:
    """Remove what killed builds of `target` left; an engine that one was about to replace is put back."""
    pattern = re.compile(re.escape(f".{target.name}.") + r"(partial|old)-(\d+)-\d+")
    for path in sorted(target.parent.iterdir()):
        match = pattern.fullmatch(path.name)
        # A killed build's number may be ours again: in a container it is the same at every start.
        if match is None or _is_locked(path) or (int(match[2]) != os.getpid() and _is_alive(int(match[2]))):
            continue
        if match[1] == "old" and not target.exists() and any(path.iterdir()):
            path.rename(target)
        else:
            shutil.rmtree(path, ignore_errors=True)


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True


def _is_locked(folder: Path) -> bool:
    """Whether a build, perhaps in another container with its own process numbers, is still writing here."""
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(descriptor)
    return False
