"""SHA-256 of files, computed once for as long as a file stays as it is."""

from __future__ import annotations

import hashlib
from functools import lru_cache
from pathlib import Path

from qwen3_compile.checkpoint.contract import SourceFile
from qwen3_compile.errors import CheckpointError


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


@lru_cache(maxsize=4096)
def _sha256(path: Path, _size: int, _mtime_ns: int) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
