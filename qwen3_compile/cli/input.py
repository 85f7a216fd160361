"""What commands read from standard input: text in UTF-8, whatever the locale says."""

from __future__ import annotations

import sys

from qwen3_runtime.errors import RequestError


def read_all() -> str:
    """Read standard input to its end. Raises `RequestError` where it is not UTF-8."""
    return _text(sys.stdin.buffer.read())


def read_line() -> str | None:
    """Read a line without its end, or None after the last. Raises `RequestError` where it is not UTF-8."""
    line = sys.stdin.buffer.readline()
    return _text(line).rstrip("\r\n") if line else None


def _text(data: bytes) -> str:
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise RequestError(f"standard input: expected UTF-8, found byte 0x{data[error.start]:02x}") from error
