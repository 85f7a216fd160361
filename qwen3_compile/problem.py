"""One thing wrong with a spec, at one of its keys."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

KeyPath: TypeAlias = tuple[str | int, ...]


@dataclass(frozen=True)
class Problem:
    """One thing wrong, at a key."""

    path: KeyPath
    message: str

    def __str__(self) -> str:
        key = dotted(self.path)
        return f"{key}: {self.message}" if key else self.message


def dotted(path: KeyPath) -> str:
    """Write a path as people do: `limits.max_context`."""
    return ".".join(map(str, path))
