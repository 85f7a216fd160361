"""The ONNX Runtime plugin: a C++ library of custom operators (domain `qwen3`) and where to find it."""

from __future__ import annotations

from pathlib import Path

__all__ = ["LIBRARY_NAME", "library_path", "why_missing"]

LIBRARY_NAME = "libqwen3_ort.so"

_FOLDER = Path(__file__).parent / "lib"


def library_path() -> Path | None:
    """The built library, or None where it has not been built (`why_missing` tells what to do)."""
    path = _FOLDER / LIBRARY_NAME
    return path if path.is_file() else None


def why_missing() -> str:
    """One line for people: why `library_path` is None and what to do about it."""
    note = _FOLDER / "not-built.txt"
    reason = note.read_text(encoding="utf-8").strip() if note.is_file() else "it has not been built"
    return (
        f"the operator library {LIBRARY_NAME} is missing ({reason}): run `python -m qwen3_plugins.ort.compile`,"
        " or build engines with --set target.plugins=none"
    )
