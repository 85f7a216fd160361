"""Digests of files; a SHA-256 is computed once for as long as a file stays as it is."""

from __future__ import annotations

import hashlib
from functools import lru_cache
from typing import TYPE_CHECKING

from qwen3_compile.checkpoint.protocol import SourceFile
from qwen3_compile.errors import CheckpointError

if TYPE_CHECKING:
    from pathlib import Path


def source_file(path: Path) -> SourceFile:
    """Name, size and SHA-256 of the file at `path`.

    Raises:
        CheckpointError: the file cannot be read.
    """
    try:
        status = path.stat()
        return SourceFile(path.name, status.st_size, _sha256(path, status.st_size, status.st_mtime_ns))
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read: {error.strerror}") from error


def file_digest(path: Path, *, algorithm: str) -> str:
    """Digest in hex: "sha256" of the bytes, or "sha1" of the git blob that they make."""
    with path.open("rb") as file:
        if algorithm == "sha256":
            return hashlib.file_digest(file, "sha256").hexdigest()
        # git prefixes the length; SHA-1 identifies its blobs and secures nothing here.
        blob = hashlib.sha1(b"blob %d\0" % path.stat().st_size, usedforsecurity=False)
        while block := file.read(1 << 20):
            blob.update(block)
        return blob.hexdigest()


@lru_cache(maxsize=4096)
def _sha256(path: Path, _size: int, _mtime_ns: int) -> str:
    return file_digest(path, algorithm="sha256")
