"""`report.html`: the accuracy report as one self-contained page, plots included."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

from qwen3_compile.accuracy_limits import BY_MODE, FIGURES, format_figure, parse_figure
from qwen3_compile.terminal import harmless
from qwen3_compile.validate.plots import draw
from qwen3_compile.validate.style import STYLE

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

    from qwen3_compile.accuracy_limits import Verdict
    from qwen3_compile.spec import AccuracyLimits
    from qwen3_compile.validate.plots import Plot
    from qwen3_compile.validate.report import AccuracyReport, Greedy
    from qwen3_compile.validate.worst import Guess, WorstPosition


def write_html(
    report: AccuracyReport,
    limits: AccuracyLimits,
    name: str,
    path: Path,
    notes: Sequence[str] = (),
    facts: Sequence[tuple[str, str]] = (),
) -> None:
    """Write the page. The same report, notes and facts give the same bytes.

    Args:
        report: what was measured.
        limits: what it is judged by.
        name: the engine's.
        path: file to write.
        notes: what else there is to say of the engine, a paragraph each.
        facts: what was built, a label and a text each.
    """
    broken = report.violations(limits)
    verdict = (
        "<p class=pass>Every accuracy limit holds.</p>"
        if not broken
        else "".join(f"<p class=fail>{escape(line)}</p>" for line in broken)
    )
    known = [*facts, *([("measured on", report.machine)] if report.machine else [])]
    body = [
        f"<h1>{escape(name)}</h1><p>The engine against eager PyTorch in float32.</p>",
        verdict,
        *(f"<p>{escape(note)}</p>" for note in (report.executed, *notes) if note),
        "<h2>Accuracy limits</h2>",
        _limits(report.verdicts(limits)),
        *(["<h2>The engine</h2>", _facts(known)] if known else []),
        "<h2>All figures</h2>",
        _figures(report),
        *_worst(report),
        "<h2>Plots</h2><div class=plots>",
        *(_figure(plot) for plot in draw(report, limits)),
        "</div>",
        *_continuations(report.greedy),
    ]
    head = (
        "<!doctype html><html lang=en><head><meta charset=utf-8>"
        '<meta name=viewport content="width=device-width, initial-scale=1">'
        '<meta name=color-scheme content="light dark">'
        f"<title>{escape(name)}: accuracy</title><style>{STYLE}</style></head><body>"
    )
    path.write_text(head + "\n".join(body) + "</body></html>\n", encoding="utf-8")


def _limits(verdicts: Sequence[Verdict]) -> str:
    if not verdicts:
        return "<p>The spec sets no limit.</p>"
    rows = "".join(
        f"<tr><th>{escape(verdict.name)}<small>{escape(verdict.note)}</small></th><td>{escape(verdict.shown)}</td>"
        f"<td>{'≤' if verdict.comparison == '<=' else '≥'} {verdict.limit:g}</td>"
        f"<td class={'pass' if verdict.passed else 'fail'}>{verdict.mark}</td></tr>"
        for verdict in verdicts
    )
    head = "<tr><th>figure</th><th>measured</th><th>limit</th><th></th></tr>"
    return f"<div class=wide><table>{head}{rows}</table></div>"


def _figures(report: AccuracyReport) -> str:
    """Every figure, over all positions and by way of execution."""
    whole = {**vars(report.summary), "perplexity_ratio": report.summary.perplexity_ratio}
    columns = [whole, *(vars(summary) for summary in report.by_mode.values())]
    keys = [key for key, figure in FIGURES.items() if report.output == "logits" or figure.of_hidden]
    rows = [("positions", *(f"{column['positions']:,}" for column in columns))]
    for key in keys:
        cells = [
            parse_figure(column.get(key)) for column in (columns if key in BY_MODE[report.output] else columns[:1])
        ]
        if cells[0] is not None:
            label = f"{FIGURES[key].name}{f' ({FIGURES[key].unit})' if FIGURES[key].unit else ''}"
            rows.append((label, *map(format_figure, cells), *[""] * (len(columns) - len(cells))))
    head = ("", "all", *report.by_mode)
    return _table(head, rows)


def _worst(report: AccuracyReport) -> Iterator[str]:
    if not report.worst_positions:
        return
    measure = "KL" if report.output == "logits" else "1 - cosine"
    yield "<h2>The worst positions</h2>"
    if report.output == "logits":
        yield (
            "<p>Where the engine is furthest from PyTorch: the text before, the token at the position in a box, and "
            "what each of them would most likely say next.</p>"
        )
    for rank, entry in enumerate(report.worst_positions, start=1):
        where = f"{entry.case}, position {entry.position}, {entry.mode}: {measure} {entry.value:.4g}"
        yield f"<section><h3>{rank}. {escape(where)}</h3>{_context(entry)}"
        if report.output == "logits":
            yield f"<div class=pair>{_guesses('PyTorch', entry.reference)}{_guesses('engine', entry.engine)}</div>"
        yield "</section>"


def _context(entry: WorstPosition) -> str:
    if entry.text is None:
        return ""
    return f"<p class=said><bdi>{_said(entry.before or '')}</bdi><mark>{_said(entry.text)}</mark></p>"


def _guesses(who: str, guesses: Sequence[Guess]) -> str:
    rows = "".join(
        f"<tr><td class=text><code>{_said(guess.text) if guess.text else f'token {guess.token}'}</code></td>"
        f"<td>{guess.probability:.1%}</td></tr>"
        for guess in guesses
    )
    return f"<div><h4>{who}</h4><table>{rows or '<tr><td>not finite</td></tr>'}</table></div>"


def _continuations(greedy: Sequence[Greedy]) -> Iterator[str]:
    if not greedy:
        return
    yield "<h2>Greedy continuations</h2>"
    yield _table(
        ("prompt", "tokens agreed", "tokens generated"),
        [(entry.case, str(entry.agreed), str(entry.generated)) for entry in greedy],
    )
    for entry in greedy:
        if entry.prompt is None:
            continue
        opened = "" if entry.agreed == entry.generated else " open"
        yield f"<details{opened}><summary>{escape(entry.case)}</summary><p class=said>{_said(entry.prompt)}</p>"
        if entry.agreed == entry.generated:
            yield f"<p>The engine and PyTorch both say:</p><p class=said>{_said(entry.same)}</p></details>"
            continue
        both = (
            ("PyTorch", f"<mark>{_said(entry.reference)}</mark>"),
            ("engine", f"<mark>{_said(entry.engine)}</mark>"),
        )
        columns = "".join(
            f"<div><h4>{who}</h4><p class=said>{_said(entry.same)}{other}</p></div>" for who, other in both
        )
        yield f"<div class=pair>{columns}</div></details>"
    if any(entry.agreed < entry.generated and entry.prompt is not None for entry in greedy):
        yield (
            "<p>Each continues from its own tokens. The text after the first difference is marked. PyTorch's text is "
            "shorter for large models, since each of its tokens reads all weights again.</p>"
        )


def _figure(plot: Plot) -> str:
    return f"<figure><figcaption>{escape(plot.title)}</figcaption>{plot.svg}</figure>"


def _facts(facts: Iterable[tuple[str, str]]) -> str:
    return "<dl>" + "".join(f"<dt>{escape(label)}</dt><dd>{escape(text)}</dd>" for label, text in facts) + "</dl>"


def _said(text: str) -> str:
    """What a model or a user said, as text: nothing of it is markup or obeyed, and a line break can be seen."""
    return escape(harmless(text)).replace("\n", "<span class=break>↵</span>\n")


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    cells = "".join(f"<th>{escape(cell)}</th>" for cell in head)
    lines = (
        f"<tr><th>{escape(row[0])}</th>" + "".join(f"<td>{escape(cell)}</td>" for cell in row[1:]) + "</tr>"
        for row in rows
    )
    return f"<div class=wide><table><tr>{cells}</tr>{''.join(lines)}</table></div>"
