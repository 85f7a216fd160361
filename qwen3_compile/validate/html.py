"""`report.html`: the accuracy report as one self-contained page, plots included."""

from __future__ import annotations

import io
from html import escape
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from matplotlib.axes import Axes

    from qwen3_compile.spec import Accuracy
    from qwen3_compile.validate.report import AccuracyReport, Summary

STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; color: #1d1d24; max-width: 60rem; margin: 2rem auto; padding: 0 1rem }
h1 { font-size: 1.6rem } h2 { font-size: 1.15rem; margin-top: 2rem }
table { border-collapse: collapse } td, th { padding: .25rem .8rem; border-bottom: 1px solid #ddd; text-align: right }
td:first-child, th:first-child { text-align: left }
.ok { color: #136f3a } .broken { color: #b3141f; font-weight: 600 } svg { max-width: 100%; height: auto }
"""
# Below this a divergence is rounding noise; a floor keeps exact zeros on the logarithmic axis.
FLOOR = 1e-9


def write_html(report: AccuracyReport, contract: Accuracy, name: str, path: Path) -> None:
    """Write the page. The same report gives the same bytes.

    Args:
        report: what was measured.
        contract: the limits it is shown against.
        name: the engine's.
        path: file to write.
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
        "<h2>Contract</h2>",
        _table(("figure", "measured", "limit"), _contract_rows(report, contract)),
        f"<p>Worst position: {escape(worst.case)}, {escape(worst.mode)}, {worst.position} ({worst.value:.4g}).</p>",
        "<h2>By way of execution</h2>",
        _table(
            ("mode", "positions", "mean KL", "99% KL", "max KL", "top-1", "max error", "min cosine"),
            ((mode, *_mode_row(summary)) for mode, summary in report.by_mode.items()),
        ),
        "<h2>Greedy continuation</h2>",
        _table(
            ("prompt", "tokens agreed", "tokens generated"),
            ((g.case, str(g.agreed), str(g.generated)) for g in report.greedy),
        ),
        "<h2>Position by position</h2>",
        _plots(report),
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
    return [(label, _shown(value), _shown(limit)) for label, value, limit in rows]


def _mode_row(summary: Summary) -> tuple[str, ...]:
    return (
        str(summary.positions),
        _shown(summary.mean_kl),
        _shown(summary.p99_kl),
        _shown(summary.max_kl),
        f"{summary.top1_agreement:.2%}",
        _shown(summary.max_logit_error),
        _shown(summary.min_cosine),
    )


def _shown(value: float | None) -> str:
    return "–" if value is None else f"{value:.5g}"  # noqa: RUF001 - an en dash for "no value"


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    cells = "".join(f"<th>{escape(cell)}</th>" for cell in head)
    lines = ("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    return f"<table><tr>{cells}</tr>{''.join(lines)}</table>"


def _plots(report: AccuracyReport) -> str:
    import matplotlib as mpl

    # A fixed salt and no date: identical reports must be identical files.
    with mpl.rc_context({"svg.hashsalt": "qwen3-compile", "svg.fonttype": "none", "font.size": 9}):
        from matplotlib.figure import Figure

        figure = Figure(figsize=(9.5, 6.4), layout="constrained")
        by_position, spread, errors, agreement = figure.subplots(2, 2).flat
        _plot_by_position(by_position, report)
        _plot_distribution(spread, report)
        _plot_errors(errors, report)
        _plot_agreement(agreement, report)
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    text = buffer.getvalue()
    return text[text.index("<svg") :]


def _values(report: AccuracyReport, mode: str, field: str) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    chosen = [getattr(entry, field) for entry in report.series if entry.mode == mode]
    return np.maximum(np.nan_to_num(np.concatenate(chosen).astype(np.float64), posinf=1e9), FLOOR)


def _plot_by_position(axes: Axes, report: AccuracyReport) -> None:
    for entry in report.series:
        if entry.mode == "prefill":
            axes.semilogy(entry.positions, np.maximum(entry.kl, FLOOR), lw=0.9, label=entry.case)
    axes.set(title="KL by position (prefill)", xlabel="position", ylabel="nats")
    axes.legend(fontsize=7)


def _plot_distribution(axes: Axes, report: AccuracyReport) -> None:
    for mode in report.by_mode:
        values = np.sort(_values(report, mode, "kl"))
        axes.semilogx(values, np.arange(1, values.size + 1) / values.size, label=mode)
    axes.set(title="share of positions with KL below", xlabel="nats", ylabel="share")
    axes.legend(fontsize=7)


def _plot_errors(axes: Axes, report: AccuracyReport) -> None:
    for entry in report.series:
        axes.semilogy(entry.positions, np.maximum(entry.max_error, FLOOR), ".", ms=2, alpha=0.5)
    axes.set(title="largest error by position (all modes)", xlabel="position", ylabel="logits")


def _plot_agreement(axes: Axes, report: AccuracyReport) -> None:
    modes = list(report.by_mode)
    axes.barh(modes, [report.by_mode[mode].top1_agreement for mode in modes], color="#4c72b0")
    axes.set(title="top-1 agreement", xlim=(0, 1))
