"""`report.html`: the accuracy report as one self-contained page, plots included."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

from qwen3_compile.contract import BY_MODE, FIGURES
from qwen3_compile.validate.plots import draw

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from qwen3_compile.spec import Accuracy
    from qwen3_compile.validate.report import AccuracyReport, Summary

STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; color: #1d1d24; max-width: 60rem; margin: 2rem auto; padding: 0 1rem }
h1 { font-size: 1.6rem } h2 { font-size: 1.15rem; margin-top: 2rem }
table { border-collapse: collapse } td, th { padding: .25rem .8rem; border-bottom: 1px solid #ddd; text-align: right }
td:first-child, th:first-child { text-align: left }
.ok { color: #136f3a } .broken { color: #b3141f; font-weight: 600 } svg { max-width: 100%; height: auto }
"""


def write_html(report: AccuracyReport, contract: Accuracy, name: str, path: Path, notes: Sequence[str] = ()) -> None:
    """Write the page. The same report gives the same bytes.

    Args:
        report: what was measured.
        contract: the limits it is shown against.
        name: the engine's.
        path: file to write.
        notes: what else there is to say of the engine, a paragraph each.
    """
    broken = report.violations(contract)
    verdict = (
        "<p class=ok>The accuracy contract holds.</p>"
        if not broken
        else "".join(f"<p class=broken>{escape(line)}</p>" for line in broken)
    )
    worst = report.worst
    body = [
        f"<h1>{escape(name)}: engine against eager PyTorch, float32</h1>",
        verdict,
        *(f"<p>{escape(note)}</p>" for note in (report.executed, *notes) if note),
        "<h2>Contract</h2>",
        _table(("figure", "measured", "limit"), _contract_rows(report, contract)),
        f"<p>Worst position: {escape(worst.case)}, {escape(worst.mode)}, {worst.position} ({worst.value:.4g}).</p>",
        "<h2>By way of execution</h2>",
        _table(
            ("mode", "positions", *(FIGURES[key].name for key in BY_MODE[report.output])),
            ((mode, *_mode_row(report.output, summary)) for mode, summary in report.by_mode.items()),
        ),
        *_greedy(report),
        "<h2>Position by position</h2>",
        draw(report),
    ]
    page = f"<!doctype html><html lang=en><meta charset=utf-8><title>{escape(name)}</title><style>{STYLE}</style>"
    path.write_text(page + "\n".join(body) + "</html>\n", encoding="utf-8")


def _contract_rows(report: AccuracyReport, contract: Accuracy) -> list[tuple[str, str, str]]:
    summary = report.summary
    rows = [
        ("mean KL (nats)", summary.mean_kl, contract.max_kl),
        ("top-1 agreement", summary.top1_agreement, contract.min_top1_agreement),
        ("largest error", summary.max_logit_error, contract.max_logit_error),
        ("smallest cosine", summary.min_cosine, contract.min_cosine),
        ("perplexity, reference", summary.reference_perplexity, None),
        ("perplexity, engine", summary.engine_perplexity, None),
        ("perplexity ratio", summary.perplexity_ratio, contract.max_perplexity_ratio),
        ("greedy agreement (tokens)", summary.greedy_tokens, contract.min_greedy_tokens),
    ]
    if report.output == "hidden":
        rows = rows[2:4]
    return [(label, _shown(value), _shown(limit)) for label, value, limit in rows]


def _mode_row(output: str, summary: Summary) -> tuple[str, ...]:
    return (str(summary.positions), *(_shown(getattr(summary, figure)) for figure in BY_MODE[output]))


def _greedy(report: AccuracyReport) -> list[str]:
    if not report.greedy:
        return []
    rows = ((g.case, str(g.agreed), str(g.generated)) for g in report.greedy)
    return ["<h2>Greedy continuation</h2>", _table(("prompt", "tokens agreed", "tokens generated"), rows)]


def _shown(value: float | None) -> str:
    return "–" if value is None else f"{value:.5g}"  # noqa: RUF001 - an en dash for "no value"


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    cells = "".join(f"<th>{escape(cell)}</th>" for cell in head)
    lines = ("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    return f"<table><tr>{cells}</tr>{''.join(lines)}</table>"
