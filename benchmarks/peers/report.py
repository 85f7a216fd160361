"""The results as Markdown: what every contender reached, and which goals are met."""

from __future__ import annotations

from typing import TYPE_CHECKING

from peers.contenders import AVX2, CONTENDERS
from peers.goals import GOALS, Goal
from peers.results import MACHINE

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from peers.results import Results

NOTHING = "-"
COLUMNS = (("prefill", "prefill 512"), ("decode_short", "decode at 16"), ("decode_long", "decode at 2,048"))


def write_report(results: Results, path: Path, plots: Sequence[Path]) -> str:
    """Write the report; returns its text."""
    images = [f"![tokens a second of each engine, {plot.stem.partition('-')[2]}]({plot.name})" for plot in plots]
    failures = [f"- {failure}" for failure in results.failures]
    parts = [
        heading(results),
        engine_table(results),
        opening_table(results),
        goal_table(results),
        "\n\n".join(images),
        "\n".join(["Failed:", "", *failures]) if failures else "",
    ]
    text = "\n\n".join(part for part in parts if part) + "\n"
    path.write_text(text, encoding="utf-8")
    return text


def heading(results: Results) -> str:
    """On what, by how many threads, in how many rounds, of which versions."""
    machine = results.machine
    versions = ", ".join(f"{name} {version}" for name, version in results.versions.items() if name != "ours")
    warning = "A quick run, to try the path: these figures mean nothing.\n\n" if results.quick else ""
    return warning + (
        f"{machine['processor']}, {machine['cores']} cores ({machine['instructions']}), {results.threads} threads; "
        f"medians of {len(results.rounds)} round(s), in brackets the least and the greatest. {versions}.\n"
        f"Read bandwidth {_spread(results, MACHINE, 'read_bandwidth', 1e9)} GB/s, "
        f"int8 throughput {_spread(results, MACHINE, 'int8_throughput', 1e9)} GOP/s."
    )


def engine_table(results: Results) -> str:
    """Tokens a second, memory and size of every contender that was measured."""
    titles = [title for _, title in COLUMNS]
    rows = []
    for one in CONTENDERS:
        if not results.values(one.name, "prefill"):
            continue
        rates = [_spread(results, one.name, figure) for figure, _ in COLUMNS]
        memory = f"{_spread(results, one.name, 'peak_rss', 1e9)} GB"
        rows.append([f"`{one.name}`", *rates, memory, f"{results.model_bytes[one.name] / 1e6:.0f} MB"])
    return _table(["contender (tokens/s)", *titles, "peak memory", "model on disk"], rows)


def opening_table(results: Results) -> str:
    """Seconds to open each model and to its first token, the page cache warm."""
    figures = ("import_seconds", "load_seconds", "first_token_seconds")
    rows = []
    for one in CONTENDERS:
        if results.values(one.name, "load_seconds"):
            cells = [results.median(one.name, figure) for figure in figures]
            rows.append([f"`{one.name}`", *(NOTHING if cell is None else f"{cell * 1e3:.0f} ms" for cell in cells)])
    return _table(["contender", "imports", "open", "first token of a 16-token prompt"], rows)


def goal_table(results: Results) -> str:
    """Every goal, for our engine as it is and held to AVX2."""
    rows = []
    for goal in GOALS:
        sign = "<=" if goal.at_most else ">="
        must = f"{sign} {in_unit(goal.bound, goal.unit)} ({goal.against})"
        cells = [_verdict(results, goal, name) for name in (goal.ours, goal.ours + AVX2)]
        rows.append([goal.row, must, *cells[0], *cells[1]])
    return _table(["", "must reach", "measured", "reached", "all held to AVX2", "reached"], rows)


def in_unit(value: float, unit: str) -> str:
    """A multiple as `1.6 x`, a share as `75 %`, seconds as `0.40 s`."""
    if unit == "%":
        return f"{100 * value:.1f} %".replace(".0 %", " %")
    return f"{value:.2f} {unit}"


def _verdict(results: Results, goal: Goal, name: str) -> tuple[str, str]:
    value = goal.measured(results, name)
    return (NOTHING, NOTHING) if value is None else (in_unit(value, goal.unit), "yes" if goal.reached(value) else "no")


def _spread(results: Results, name: str, figure: str, unit: float = 1.0) -> str:
    """`median (least-greatest)`; the brackets only where there is more than one round."""
    values = [value / unit for value in results.values(name, figure)]
    median = results.median(name, figure)
    if median is None:
        return NOTHING
    return f"{median / unit:.1f}" + (f" ({min(values):.1f}-{max(values):.1f})" if len(values) > 1 else "")


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)
