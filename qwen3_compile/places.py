"""Where things are kept for a user, unless a command is told otherwise: the build cache, and engines of `run`."""

from __future__ import annotations

import os
from pathlib import Path

CACHE, ENGINES = "QWEN3_COMPILE_CACHE", "QWEN3_COMPILE_ENGINES"


def cache_dir() -> Path:
    """Results of build stages: `$QWEN3_COMPILE_CACHE`, by default `$XDG_CACHE_HOME/qwen3-compile`."""
    return _named(CACHE) or _user_cache() / "qwen3-compile"


def engines_dir() -> Path:
    """Engines that `run` and `chat` build: `$QWEN3_COMPILE_ENGINES`, by default `engines` in the user's own cache.

    `$QWEN3_COMPILE_CACHE` does not move it: stages can be made again, engines are what is used.
    """
    return _named(ENGINES) or _user_cache() / "qwen3-compile" / "engines"


def _named(variable: str) -> Path | None:
    value = os.environ.get(variable)
    return Path(value).expanduser() if value else None


def _user_cache() -> Path:
    """`$XDG_CACHE_HOME` where it is an absolute path, as its specification asks, else `~/.cache`."""
    base = os.environ.get("XDG_CACHE_HOME")
    return Path(base) if base and Path(base).is_absolute() else Path.home() / ".cache"
