"""Bars of every contender's rates, one picture for each checkpoint."""

from __future__ import annotations

from typing import TYPE_CHECKING

import matplotlib as mpl
from matplotlib.figure import Figure

from peers.contenders import CONTENDERS, Contender, EngineName
from peers.report import COLUMNS

if TYPE_CHECKING:
    from pathlib import Path

    from matplotlib.axes import Axes

    from peers.results import Results

COLOURS: dict[EngineName, str] = {
    "ours": "#2a6f97",
    "llama.cpp": "#c08552",
    "llama.cpp for AVX2": "#c08552",
    "onnxruntime-genai": "#8d99ae",
    "openvino-genai": "#a3b18a",
}
TITLES = {"dense": "Qwen3-0.6B dimensions", "moe": "30B-A3B dimensions, 4 layers"}
ROW_INCHES, MARGIN_INCHES, WIDTH_INCHES = 0.28, 1.1, 11.0


def write_plots(results: Results, folder: Path) -> list[Path]:
    """Write a picture for each checkpoint that was measured, as SVG and PNG."""
    paths = []
    for checkpoint, title in TITLES.items():
        measured = [c for c in CONTENDERS if c.checkpoint == checkpoint and results.values(c.name, "prefill")]
        if not measured:
            continue
        height = MARGIN_INCHES + ROW_INCHES * len(measured)
        figure = Figure(figsize=(WIDTH_INCHES, height), layout="constrained")
        figure.suptitle(f"{title}, {results.threads} threads, tokens/s (median; line: least to greatest)", fontsize=10)
        for axes, (name, label) in zip(figure.subplots(1, len(COLUMNS), sharey=True), COLUMNS, strict=True):
            _bars(axes, results, measured, name)
            axes.set_title(label, fontsize=9)
        with mpl.rc_context({"svg.hashsalt": "comparison", "svg.fonttype": "none"}):
            for suffix in ("svg", "png"):
                path = folder / f"comparison-{checkpoint}.{suffix}"
                figure.savefig(path, dpi=120, metadata={"Date": None} if suffix == "svg" else None)
                paths.append(path)
    return paths


def _bars(axes: Axes, results: Results, contenders: list[Contender], figure: str) -> None:
    names = [one.name for one in contenders]
    medians = [results.median(name, figure) or 0.0 for name in names]
    least = [
        median - min(results.values(name, figure), default=0.0) for name, median in zip(names, medians, strict=True)
    ]
    most = [
        max(results.values(name, figure), default=0.0) - median for name, median in zip(names, medians, strict=True)
    ]
    bars = axes.barh(
        names, medians, xerr=(least, most), color=[COLOURS[one.engine] for one in contenders], ecolor="#444"
    )
    axes.bar_label(bars, [f"{median:.0f}" for median in medians], padding=3, fontsize=7)
    axes.tick_params(labelsize=7)
    axes.margins(x=0.12)
    axes.invert_yaxis() if not axes.yaxis_inverted() else None
    axes.spines[["top", "right"]].set_visible(False)
