"""Files of an engine: copied without sharing, hashed, counted against the disk."""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
from typing import TYPE_CHECKING

from qwen3_compile.errors import CompileError
from qwen3_runtime.manifest import FileEntry

if TYPE_CHECKING:
    from pathlib import Path

_COPY_BYTES = 256 << 20
_NO_KERNEL_COPY = {errno.EXDEV, errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.EPERM}
_SPARE_BYTES = 64 << 20


def file_entry(path: Path) -> FileEntry:
    """Size and SHA-256 of a file."""
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        return FileEntry(size=os.fstat(file.fileno()).st_size, sha256=digest)


def copy_file(source: Path, target: Path) -> None:
    """Copy a file into a new one, sharing blocks where the file system can; never a link.

    Raises:
        OSError: either cannot be opened, or the disk is full.
    """
    with source.open("rb") as reading, target.open("xb") as writing:
        left = os.fstat(reading.fileno()).st_size
        try:
            while left and (copied := os.copy_file_range(reading.fileno(), writing.fileno(), min(left, _COPY_BYTES))):
                left -= copied
        except OSError as error:
            if error.errno not in _NO_KERNEL_COPY:
                raise
        if left:
            reading.seek(os.lseek(writing.fileno(), 0, os.SEEK_CUR))
            shutil.copyfileobj(reading, writing, 1 << 20)


def check_space(folder: Path, needed: int) -> None:
    """Refuse to begin what the disk of `folder` cannot hold.

    Args:
        folder: an existing folder on that disk.
        needed: bytes about to be written.

    Raises:
        CompileError: fewer bytes are free than needed and a little more.
    """
    free = shutil.disk_usage(folder).free
    if free < needed + _SPARE_BYTES:
        raise CompileError(
            f"{folder}: {_gigabytes(needed + _SPARE_BYTES)} are needed and {_gigabytes(free)} are free; "
            "free some space, or build elsewhere with -o and --cache-dir"
        )


def _gigabytes(count: int) -> str:
    return f"{count / 1e9:.2f} GB"
