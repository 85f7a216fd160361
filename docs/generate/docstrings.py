"""Google-style docstrings as Markdown."""

from __future__ import annotations

import inspect
import re

_SECTIONS = ("Args", "Attributes", "Raises", "Returns", "Yields")
_ENTRY = re.compile(r"(\*{0,2}\w+): (.*)")


def render(docstring: str | None) -> list[str]:
    """The blocks of a docstring: paragraphs as they are, the entries of a section as a list under its name.

    Args:
        docstring: as an object has it; None gives no blocks.
    """
    blocks: list[str] = []
    lines = inspect.cleandoc(docstring or "").splitlines()
    while lines:
        line = lines.pop(0)
        if not line:
            continue
        if line.rstrip(":") in _SECTIONS and line.endswith(":"):
            body = []
            while lines and (not lines[0] or lines[0].startswith(" ")):
                body.append(lines.pop(0))
            blocks += _section(line.rstrip(":"), inspect.cleandoc("\n".join(body)).splitlines())
        else:
            paragraph = [line]
            while lines and lines[0]:
                paragraph.append(lines.pop(0))
            blocks.append("\n".join(paragraph))
    return blocks


def _section(name: str, lines: list[str]) -> list[str]:
    entries: list[str] = []
    for line in filter(None, lines):
        if line.startswith(" ") and entries:
            entries[-1] += " " + line.strip()
        elif found := _ENTRY.fullmatch(line):
            entries.append(f"- `{found[1]}`: {found[2]}")
        else:
            entries.append(line)
    title = {"Args": "Arguments"}.get(name, name)
    listed = entries and all(entry.startswith("- ") for entry in entries)
    return [f"*{title}*", "\n".join(entries)] if listed else [f"*{title}*: " + " ".join(entries)]
