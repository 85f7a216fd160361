"""Where commands write: results to stdout, everything for the eye to stderr."""

from __future__ import annotations

import json
from typing import Any

from qwen3_compile.terminal import Screen, harmless_json, write


def print_json(document: Any) -> None:  # noqa: ANN401 - whatever json can write
    """Write one JSON document to stdout, the result of a command with `--json`.

    Raises:
        ValueError: the document holds NaN or infinity, which JSON has not.
    """
    text = json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False)
    write(f"{harmless_json(text)}\n")


def remark(message: str, style: str = "") -> None:
    """Write one line to stderr."""
    Screen(stderr=True).print(message, style=style)
