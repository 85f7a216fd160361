"""Results of earlier builds, by the content that they were made from.

An entry is a folder `<stage>/<key>` with the result and its SHA-256, moved into place whole. Builds that run at
the same time never see half an entry; a damaged one is thrown away and made again.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from qwen3_compile.engine.files import copy_file, file_entry
from qwen3_compile.errors import CompileError

_CONTENT, _HASH = "content", "sha256"
_LAYOUT = "v1"  # of the cache's folders; entries of another one are never read
_SECONDS_PER_DAY = 86400.0
UNUSED_DAYS = 30  # after which an entry is taken for out of use


@dataclass(frozen=True)
class Entry:
    """A kept result: its stage and key, its bytes, and when a build last used it, in seconds since 1970."""

    stage: str
    key: str
    bytes: int
    used: float


@dataclass(frozen=True)
class Cache:
    """A cache below `root`; with `root` None nothing is kept and nothing is found."""

    root: Path | None

    def open(self) -> None:
        """Make the folder, so that a wrong path is known before any work is done. A filled one may be read-only.

        Raises:
            CompileError: the folder is not there and cannot be made.
        """
        if self.root is None:
            return
        try:
            self.root.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise CompileError(
                f"{self.root}: cannot write the cache here ({error.strerror}); pass --cache-dir or --no-cache"
            ) from None

    def fetch(self, stage: str, key: str, target: Path) -> str | None:
        """Copy an entry to the new file `target` and return its SHA-256; None when there is no sound entry."""
        entry = self._entry(stage, key)
        if entry is None or not entry.is_dir():
            return None
        try:
            expected = (entry / _HASH).read_text(encoding="ascii")
            found = file_entry(entry / _CONTENT).sha256
        except (OSError, UnicodeDecodeError):
            found, expected = "", "unreadable"
        if found != expected:
            shutil.rmtree(entry, ignore_errors=True)
            return None
        # From here on an error is the target's (a full disk, say) and says nothing against the entry.
        copy_file(entry / _CONTENT, target)
        _touch(entry)
        return found

    def store(self, stage: str, key: str, source: Path) -> None:
        """Keep a copy of the file `source`.

        Raises:
            OSError: the disk is full, or the folder cannot be written.
        """
        entry = self._entry(stage, key)
        if entry is None or entry.exists():
            return
        entry.parent.mkdir(parents=True, exist_ok=True)
        waiting = Path(tempfile.mkdtemp(prefix=".new-", dir=entry.parent))
        try:
            copy_file(source, waiting / _CONTENT)
            (waiting / _HASH).write_text(file_entry(waiting / _CONTENT).sha256, encoding="ascii")
            waiting.rename(entry)
        except OSError:
            # Another build may have stored the same entry meanwhile: a folder never replaces a filled one.
            if not entry.exists():
                raise
        finally:
            shutil.rmtree(waiting, ignore_errors=True)

    def entries(self) -> list[Entry]:
        """Every result, by stage and key."""
        return [Entry(entry.parent.name, entry.name, _bytes(entry), entry.stat().st_mtime) for entry in self._folders()]

    def prune(self, days: float) -> int:
        """Remove entries that no build has used for so many days; returns the bytes freed."""
        oldest = time.time() - days * _SECONDS_PER_DAY
        return sum(_remove(entry) for entry in self._folders() if entry.stat().st_mtime < oldest)

    def clear(self) -> int:
        """Remove every entry; returns the bytes freed."""
        freed = sum(_remove(entry) for entry in self._folders())
        if self.root is not None:
            shutil.rmtree(self.root / _LAYOUT, ignore_errors=True)
        return freed

    def _folders(self) -> list[Path]:
        return [] if self.root is None else sorted(path for path in (self.root / _LAYOUT).glob("*/*") if path.is_dir())

    def _entry(self, stage: str, key: str) -> Path | None:
        return None if self.root is None else self.root / _LAYOUT / stage / key


def _touch(entry: Path) -> None:
    """Note the use of an entry, if the cache can be written at all."""
    try:
        os.utime(entry)
    except OSError:
        return


def _bytes(entry: Path) -> int:
    return sum(path.stat().st_size for path in entry.iterdir())


def _remove(entry: Path) -> int:
    size = _bytes(entry)
    shutil.rmtree(entry, ignore_errors=True)
    return size
