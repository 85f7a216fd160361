"""Where commands write: results to stdout, everything for the eye to stderr."""

from __future__ import annotations

import json
from typing import Any

import click

from qwen3_compile.terminal import Screen, harmless_json, write

VERBOSITY = "qwen3_compile.verbosity"  # in the `meta` of click's context, which nested commands share


def print_json(document: Any) -> None:  # noqa: ANN401 - whatever json can write
    """Write one JSON document to stdout, the result of a command with `--json`.

    Raises:
        ValueError: the document holds NaN or infinity, which JSON has not.
    """
    text = json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False)
    write(f"{harmless_json(text)}\n")


def verbosity() -> int:
    """How much the running command tells on stderr: 0, less with each `-q`, more with each `-v`."""
    context = click.get_current_context(silent=True)
    return 0 if context is None else int(context.meta.get(VERBOSITY, 0))


def remark(message: str, style: str = "") -> None:
    """Write one line to stderr, where the command is not to be quiet."""
    if verbosity() >= 0:
        Screen(stderr=True).print(message, style=style)


def warn(message: str) -> None:
    """Write a warning to stderr, also of a quiet command."""
    Screen(stderr=True).print(f"warning: {message}")
