"""Accuracy figures as lines: each limit with its figure and a mark, and what no limit holds for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rich.text import Text

from qwen3_compile.accuracy_limits import BY_MODE, FIGURES, format_figure, parse_figure
from qwen3_compile.terminal import aligned

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from qwen3_compile.accuracy_limits import Verdict
    from qwen3_compile.terminal import Screen

_MARKS = {"pass": "green", "FAIL": "bold red"}


def show_limits(screen: Screen, verdicts: Sequence[Verdict]) -> None:
    """One line a limit: figure, measured, comparison, limit, pass or FAIL."""
    title = Text("accuracy limits", "bold")
    screen.print(title if verdicts else title + Text(" none: no limit is set", "not bold"))
    for verdict, line in zip(verdicts, aligned([verdict.cells for verdict in verdicts], right=(1,)), strict=True):
        text = Text(f"  {line}")
        if verdict.mark:
            text.highlight_words([verdict.mark], _MARKS[verdict.mark])
        screen.print(text)


def show_others(screen: Screen, summary: Mapping[str, Any], verdicts: Iterable[Verdict]) -> None:
    """One line for each figure that no limit holds for."""
    limited = {verdict.figure for verdict in verdicts}
    rows = [
        (figure.name, format_figure(value), figure.unit)
        for key, figure in FIGURES.items()
        if key not in limited and (value := parse_figure(summary.get(key))) is not None
    ]
    screen.print(Text("also measured", "bold"), f"over {summary['positions']:,} positions")
    for line in aligned(rows, right=(1,)):
        screen.print(f"  {line}")


def show_by_mode(screen: Screen, output: str, by_mode: Mapping[str, Mapping[str, Any]]) -> None:
    """A table of figures, a column for each way to reach the positions: narrow enough for a small terminal."""
    rows = [("", *(mode.partition(" ")[0] for mode in by_mode))]
    rows += [("positions", *(str(summary["positions"]) for summary in by_mode.values()))]
    for key in BY_MODE[output]:
        values = (parse_figure(summary[key]) for summary in by_mode.values())
        rows.append((FIGURES[key].name, *("-" if value is None else f"{value:.3g}" for value in values)))
    head, *body = aligned(rows, right=range(1, len(by_mode) + 1))
    screen.print(head, style="bold")
    for line in body:
        screen.print(line)
