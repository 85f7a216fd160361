"""The plots of a report, as one SVG drawing."""

from __future__ import annotations

import io
import os
import tempfile
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import ModuleType

    from matplotlib.axes import Axes
    from numpy.typing import NDArray

    from qwen3_compile.validate.report import AccuracyReport, PositionSeries

# Below this a distance is rounding noise; a floor keeps exact zeros on the logarithmic axis, a ceiling infinities.
FLOOR, CEILING = 1e-9, 1e9


def _import_matplotlib() -> ModuleType:
    """Import matplotlib without leaving its list of fonts below HOME; the plots use the font that it brings."""
    given = os.environ.get("MPLCONFIGDIR")
    with tempfile.TemporaryDirectory() as folder:
        os.environ["MPLCONFIGDIR"] = given or folder
        try:
            import matplotlib as mpl
            import matplotlib.font_manager
        finally:
            if given is None:
                del os.environ["MPLCONFIGDIR"]
    return mpl


def draw(report: AccuracyReport) -> str:
    """Draw distances by position and by mode: KL divergence for logits, 1 - cosine for hidden states.

    Returns:
        An `<svg>` element; the same report gives the same text.
    """
    mpl = _import_matplotlib()

    # A fixed salt and no date: identical reports must be identical files.
    with mpl.rc_context({"svg.hashsalt": "qwen3-compile", "svg.fonttype": "none", "font.size": 9}):
        from matplotlib.figure import Figure

        figure = Figure(figsize=(9.5, 7), layout="constrained")
        by_position, spread, errors, by_mode = figure.subplots(2, 2).flat
        _by_position(by_position, report)
        _distribution(spread, report)
        _errors(errors, report)
        if report.output == "logits":
            _agreement(by_mode, report)
        else:
            _largest_angle(by_mode, report)
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    text = buffer.getvalue()
    return text[text.index("<svg") :]


def distances(report: AccuracyReport, entry: PositionSeries) -> NDArray[np.float64]:
    """The distance of each position that suits the output: KL divergence in nats, or 1 - cosine."""
    return np.array(entry.kl) if report.output == "logits" else 1 - np.array(entry.cosine)


def _name(report: AccuracyReport) -> str:
    return "KL (nats)" if report.output == "logits" else "1 - cosine"


def _bounded(values: Sequence[float] | NDArray[np.float64]) -> NDArray[np.float64]:
    return np.clip(np.nan_to_num(values, nan=CEILING, posinf=CEILING), FLOOR, CEILING)


def _of_mode(report: AccuracyReport, mode: str) -> NDArray[np.float64]:
    return _bounded(np.concatenate([distances(report, entry) for entry in report.series if entry.mode == mode]))


def _by_position(axes: Axes, report: AccuracyReport) -> None:
    for entry in report.series:
        if entry.mode == "prefill":
            axes.semilogy(entry.positions, _bounded(distances(report, entry)), lw=0.9, label=entry.case)
    axes.set(title=f"{_name(report)} by position, prefill", xlabel="position")
    axes.set_ylim(top=axes.get_ylim()[1] * 100)  # room for the legend
    axes.legend(fontsize=6.5, ncols=4, loc="upper center")


def _distribution(axes: Axes, report: AccuracyReport) -> None:
    for place, mode in enumerate(report.by_mode):
        values = np.sort(_of_mode(report, mode))
        share = np.arange(1, values.size + 1) / values.size
        # Modes often agree to the last bit: thinner lines on thicker ones show them all.
        axes.semilogx(values, share, lw=max(1.0, 5.5 - 1.5 * place), label=mode)
    axes.set(title=f"share of positions with {_name(report)} below", ylabel="share")
    axes.legend(fontsize=7)


def _errors(axes: Axes, report: AccuracyReport) -> None:
    for place, mode in enumerate(report.by_mode):
        series = [entry for entry in report.series if entry.mode == mode]
        positions = np.concatenate([entry.positions for entry in series])
        values = _bounded(np.concatenate([entry.max_error for entry in series]))
        axes.semilogy(positions, values, ".", ms=max(1.5, 6 - 1.5 * place), label=mode)
    unit = "logits" if report.output == "logits" else "hidden states"
    axes.set(title=f"largest error of the {unit} by position", xlabel="position")
    axes.legend(fontsize=7)


def _agreement(axes: Axes, report: AccuracyReport) -> None:
    modes = list(report.by_mode)
    bars = axes.barh(modes, [report.by_mode[mode].top1_agreement for mode in modes])
    axes.bar_label(bars, fmt="{:.2%}", label_type="center", color="white")
    axes.set(title="top-1 agreement", xlim=(0, 1))


def _largest_angle(axes: Axes, report: AccuracyReport) -> None:
    modes = list(report.by_mode)
    bars = axes.barh(modes, [_of_mode(report, mode).max() for mode in modes])
    axes.bar_label(bars, fmt="{:.3g}", label_type="center", color="white")
    axes.set(title="largest 1 - cosine")
