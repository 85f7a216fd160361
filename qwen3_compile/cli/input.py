"""What commands read from standard input: text in UTF-8, whatever the locale says."""

from __future__ import annotations

import os
import stat
import sys

import click

from qwen3_runtime.errors import RequestError


def whole_prompt(prompt: str | None, *, alone: bool = False) -> str:
    """The prompt of a command: an argument, standard input, or both, the argument first and an empty line between.

    Beside an argument, only a pipe or a file is read: a service without a terminal has an input that never ends.

    Args:
        prompt: the argument; None or `-` stands for standard input.
        alone: leave standard input alone where there is an argument.

    Raises:
        click.UsageError: there is neither.
        RequestError: standard input is not UTF-8.
    """
    if prompt == "-" or (prompt is None and not sys.stdin.isatty()):
        return read_all()
    if prompt is None:
        raise click.UsageError(
            "a prompt is missing: give it as an argument, or pipe it in", click.get_current_context()
        )
    piped = read_all() if not alone and _is_piped() else ""
    return f"{prompt}\n\n{piped}" if piped.strip() else prompt


def _is_piped() -> bool:
    try:
        mode = os.fstat(sys.stdin.fileno()).st_mode
    except (OSError, ValueError):  # closed, or no file at all
        return False
    return stat.S_ISFIFO(mode) or stat.S_ISREG(mode)


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
        problem = f"standard input: expected UTF-8, found byte 0x{data[error.start]:02x}"
        raise RequestError(problem, field="prompt") from error
