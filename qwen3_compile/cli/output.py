"""Where commands write: results to stdout, everything for the eye to stderr."""

from __future__ import annotations

import json
import sys
from typing import Any

from rich.console import Console
from rich.markup import escape


def progress_console() -> Console:
    """Return a console on stderr, for progress and remarks; stdout stays free for results."""
    return Console(stderr=True, highlight=False)


def result_console() -> Console:
    """Return a console on stdout, for tables; plain text where stdout is not a terminal."""
    return Console(highlight=False)


def print_json(document: Any) -> None:  # noqa: ANN401 - whatever json can write
    """Write one JSON document to stdout, the result of a command with `--json`.

    Raises:
        ValueError: the document holds NaN or infinity, which JSON has not.
    """
    sys.stdout.write(json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def remark(message: str) -> None:
    """Write one plain line to stderr; square brackets in it are text, not rich markup."""
    progress_console().print(escape(message), soft_wrap=True)
