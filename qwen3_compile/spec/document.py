"""One small, untrusted YAML document as plain values, with the line of every key.

Read at the event level, so that nothing is constructed but mappings, lists and the scalars of YAML 1.2's core
schema: no tags, no aliases (and so no billion laughs), no duplicate keys, bounded size and depth.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.events import (
    AliasEvent,
    DocumentStartEvent,
    Event,
    MappingEndEvent,
    MappingStartEvent,
    ScalarEvent,
    SequenceEndEvent,
    SequenceStartEvent,
    StreamEndEvent,
    StreamStartEvent,
)

from qwen3_compile.errors import SpecError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from qwen3_compile.problem import KeyPath

MAX_BYTES = 256 * 1024
MAX_DEPTH = 32

Plain: TypeAlias = "str | int | float | bool | list[Plain] | dict[str, Plain] | None"


@dataclass(frozen=True)
class Document:
    """The value of a YAML document.

    Attributes:
        value: mappings as dict, sequences as list, scalars as str, int, float, bool or None.
        lines: line (from 1) on which each key or list item stands, by its path from the root.
    """

    value: Plain
    lines: dict[KeyPath, int]


def read_text(path: Path) -> str:
    """Read a UTF-8 file of at most `MAX_BYTES`.

    Raises:
        SpecError: the file is missing, unreadable, too large or not UTF-8.
    """
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except FileNotFoundError:
        raise SpecError(f"{path}: no such file") from None
    except OSError as error:
        raise SpecError(f"{path}: cannot be read ({error.strerror})") from None
    if len(data) > MAX_BYTES:
        raise SpecError(f"{path}: expected at most {MAX_BYTES} bytes of YAML, found more")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise SpecError(f"{path}:{line}: expected UTF-8, found byte 0x{data[error.start]:02x}") from None


def parse_document(text: str, where: str) -> Document:
    """Parse one YAML document.

    Args:
        text: the document.
        where: what to call it in errors; a line number is appended.

    Raises:
        SpecError: not YAML, or YAML beyond what this module accepts.
    """
    if len(text.encode("utf-8", "surrogatepass")) > MAX_BYTES:
        raise SpecError(f"{where}: expected at most {MAX_BYTES} bytes of YAML, found more")
    lines: dict[KeyPath, int] = {}
    try:
        reader = _Reader(YAML(typ="safe", pure=True).parse(text), where, lines)
        return Document(reader.document(), lines)
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = f":{mark.line + 1}" if mark else ""
        raise SpecError(f"{where}{line}: not valid YAML: {error.problem or error.context}") from None
    except YAMLError as error:
        raise SpecError(f"{where}: not valid YAML: {' '.join(str(error).split())}") from None


class _Reader:
    """Builds plain values from a stream of events."""

    def __init__(self, events: Iterator[Event], where: str, lines: dict[KeyPath, int]) -> None:
        self._events = events
        self._where = where
        self._lines = lines

    def document(self) -> Plain:
        self._next()  # the start of the stream
        event = self._next()
        if isinstance(event, StreamEndEvent):
            return None
        value = self._value(self._next(), ())
        self._next()  # the end of the document
        event = self._next()
        if not isinstance(event, StreamEndEvent):
            raise self._error(event, "expected one YAML document, found a second")
        return value

    def _next(self) -> Event:
        event = next(self._events)
        if isinstance(event, StreamStartEvent | StreamEndEvent | DocumentStartEvent):
            return event
        if isinstance(event, AliasEvent) or getattr(event, "anchor", None) is not None:
            raise self._error(event, "anchors and aliases are not accepted: write the value out")
        if (tag := getattr(event, "ctag", None)) is not None:
            raise self._error(event, f"tags are not accepted, found {tag}")
        return event

    def _value(self, event: Event, path: KeyPath) -> Plain:
        self._lines.setdefault(path, event.start_mark.line + 1)
        if isinstance(event, ScalarEvent):
            return _core_scalar(event.value) if event.implicit[0] else event.value
        if len(path) >= MAX_DEPTH:
            raise self._error(event, f"nested deeper than {MAX_DEPTH} levels")
        return self._mapping(path) if isinstance(event, MappingStartEvent) else self._sequence(event, path)

    def _mapping(self, path: KeyPath) -> dict[str, Plain]:
        result: dict[str, Plain] = {}
        while not isinstance(event := self._next(), MappingEndEvent):
            if not isinstance(event, ScalarEvent):
                raise self._error(event, "expected a plain key, found a mapping or a list used as a key")
            key = event.value
            if key in result:
                first = self._lines[(*path, key)]
                raise self._error(event, f"duplicate key {_dotted((*path, key))!r}, first on line {first}")
            self._lines[(*path, key)] = event.start_mark.line + 1
            result[key] = self._value(self._next(), (*path, key))
        return result

    def _sequence(self, start: Event, path: KeyPath) -> list[Plain]:
        assert isinstance(start, SequenceStartEvent)  # noqa: S101 - the only event left
        result: list[Plain] = []
        while not isinstance(event := self._next(), SequenceEndEvent):
            result.append(self._value(event, (*path, len(result))))
        return result

    def _error(self, event: Event, message: str) -> SpecError:
        return SpecError(f"{self._where}:{event.start_mark.line + 1}: {message}")


def _dotted(path: KeyPath) -> str:
    return ".".join(map(str, path))


_INTEGER = re.compile(r"[-+]?[0-9]{1,40}")
_RADIX = re.compile(r"0o[0-7]{1,40}|0x[0-9a-fA-F]{1,40}")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_INFINITY = re.compile(r"[-+]?\.(inf|Inf|INF)")
_NAMED = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL")),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
    **dict.fromkeys((".nan", ".NaN", ".NAN"), float("nan")),
}


def _core_scalar(text: str) -> str | int | float | bool | None:
    """Resolve a plain scalar by YAML 1.2's core schema (section 10.3.2): `1e-6` is a number, `yes` a string."""
    if text in _NAMED:
        return _NAMED[text]
    if _INTEGER.fullmatch(text):
        return int(text)
    if _RADIX.fullmatch(text):
        return int(text, 0)
    if _FLOAT.fullmatch(text):
        return float(text)
    if _INFINITY.fullmatch(text):
        return float(text.replace(".", ""))
    return text
