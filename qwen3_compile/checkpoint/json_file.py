"""JSON files from outside, read within bounds."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, NoReturn

from qwen3_compile.errors import CheckpointError

if TYPE_CHECKING:
    from pathlib import Path


def read_json_object(path: Path, *, max_bytes: int) -> dict[str, Any]:
    """The JSON object in `path`.

    Raises:
        CheckpointError: the file is missing, larger than `max_bytes`, or not one JSON object.
    """
    try:
        size = path.stat().st_size
        if size > max_bytes:
            raise CheckpointError(f"{path}: {size} bytes, but at most {max_bytes} are read; is it the right file?")
        content = path.read_bytes()
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read: {error.strerror}") from error
    return parse_json_object(content, where=str(path))


def parse_json_object(content: bytes, *, where: str) -> dict[str, Any]:
    """The JSON object in `content`; duplicate keys, NaN and anything that is not one object are refused.

    Raises:
        CheckpointError: one line that begins with `where`.
    """
    try:
        value = json.loads(content.decode("utf-8"), object_pairs_hook=_unique_keys, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{where}: not valid JSON: {error}") from error
    if not isinstance(value, dict):
        raise CheckpointError(f"{where}: expected a JSON object, found {type(value).__name__}")
    return value


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    keys = dict(pairs)
    if len(keys) != len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"key {twice!r} appears twice")
    return keys


def _refuse_constant(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not a JSON number")
