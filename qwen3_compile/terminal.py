"""What people see: text as it is, but for control characters, which a terminal would obey.

A pipe gets the very characters. A terminal gets the same text with each control character made visible: `^[` for
escape, as `cat -v` writes it, `<U+202E>` for those above ASCII. Nothing is deleted, no `:name:` becomes a picture, and
square brackets are text.
"""

from __future__ import annotations

import io
import os
import sys
from itertools import zip_longest
from typing import TYPE_CHECKING, Any

from rich.cells import cell_len
from rich.console import Console
from rich.style import Style
from rich.text import Text

if TYPE_CHECKING:
    from collections.abc import Container, Sequence
    from typing import TextIO

    from rich.console import JustifyMethod, OverflowMethod

THINKING = "dim italic"

_ASCII_CONTROL_CODES = {*range(0x20), 0x7F} - {ord("\n"), ord("\t")}
# Controls of eight bits, embeddings, overrides and isolates of writing direction (text that reads as other text), and
# surrogates, which have no bytes in UTF-8.
_CONTROL_CODES = (*range(0x80, 0xA0), *range(0x202A, 0x202F), *range(0x2066, 0x206A), *range(0xD800, 0xE000))
_VISIBLE = {code: f"^{chr(code ^ 0x40)}" for code in _ASCII_CONTROL_CODES} | {
    code: f"<U+{code:04X}>" for code in _CONTROL_CODES
}
_JSON_ESCAPES = {code: f"\\u{code:04x}" for code in (0x7F, *_CONTROL_CODES)}


def harmless(text: str) -> str:
    """The text with every control character but newline and tab made visible."""
    return text.translate(_VISIBLE)


def harmless_json(document: str) -> str:
    """The same JSON document, its characters that JSON may leave bare and a terminal would obey escaped."""
    return document.translate(_JSON_ESCAPES)


def use_utf8() -> None:
    """Have both streams write UTF-8 and plain newlines, whatever the locale says."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(encoding="utf-8", errors="backslashreplace", newline="\n")


def write(text: str) -> None:
    """Write a piece of a result to stdout: exactly, or harmless where that is a terminal."""
    _write(sys.stdout, harmless(text) if sys.stdout.isatty() else text)


def write_aside(text: str, style: str = "") -> None:
    """Write a piece of text to stderr: exactly, or harmless and styled where that is a terminal."""
    if not sys.stderr.isatty():
        _write(sys.stderr, text)
        return
    system = Screen(stderr=True).color_system
    known = {"standard", "256", "truecolor", "windows"}
    styled = Style.parse(style).render(harmless(text)) if system in known else harmless(text)
    _write(sys.stderr, styled)


class Screen(Console):
    """A console whose strings are text: harmless, without markup, without `:names:` of pictures, not cut.

    Args:
        stderr: write to stderr instead of stdout.
        soft_wrap: leave the breaking of long lines to the terminal.
        width: columns; by default those of the terminal, or 80.
    """

    def __init__(self, *, stderr: bool = False, soft_wrap: bool = True, width: int | None = None) -> None:
        super().__init__(
            stderr=stderr,
            highlight=False,
            markup=False,
            emoji=False,
            soft_wrap=soft_wrap,
            width=width,
            color_system=None if os.environ.get("NO_COLOR") else "auto",  # rich alone would still dim
        )

    def render_str(
        self,
        text: str,
        *,
        style: str | Style = "",
        justify: JustifyMethod | None = None,
        overflow: OverflowMethod | None = None,
        **_: Any,  # noqa: ANN401 - markup and the like, which these strings do not have
    ) -> Text:
        """The text that rich shows for a string, wherever it stands: in a line, in a cell of a table, in a title."""
        return Text(harmless(text), style=style, justify=justify, overflow=overflow)


def aligned(rows: Sequence[Sequence[str]], right: Container[int] = ()) -> list[str]:
    """The lines of a table, as wide as its cells: none is cut, however narrow the terminal.

    Args:
        rows: cells of each row.
        right: numbers of the columns that end at one place, from 0; the others begin at one.
    """
    cells = [[harmless(cell) for cell in row] for row in rows]
    widths = [max(map(cell_len, column)) for column in zip_longest(*cells, fillvalue="")]
    lines = []
    for row in cells:
        spaces = [" " * (width - cell_len(cell)) for cell, width in zip(row, widths, strict=False)]
        placed = [
            space + cell if number in right else cell + space
            for number, (cell, space) in enumerate(zip(row, spaces, strict=True))
        ]
        lines.append("  ".join(placed).rstrip())
    return lines


def _write(stream: TextIO, text: str) -> None:
    stream.write(text)
    stream.flush()
