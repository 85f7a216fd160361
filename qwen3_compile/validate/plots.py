"""The plots of a report: small SVG drawings that take their colors from the page around them."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from qwen3_compile.drawing import CURVES, LIMIT, svg

if TYPE_CHECKING:
    from collections.abc import Callable

    from matplotlib.axes import Axes
    from numpy.typing import NDArray

    from qwen3_compile.spec import AccuracyLimits
    from qwen3_compile.validate.report import AccuracyReport, PositionSeries

# Below this a distance is rounding noise; a floor keeps exact zeros on the logarithmic axis, a ceiling infinities.
FLOOR, CEILING = 1e-9, 1e9
SAME_CURVE_DECADES = 0.03  # decades: curves that lie closer everywhere are one curve to the eye
SHOWN_DECADES = 5  # of the largest distance, that an axis shows
SIZE_INCHES = 4.6, 3.0  # inches: about the width of a telephone, where its text is as large as the page's


@dataclass(frozen=True)
class Plot:
    """A drawing: what it shows, in a sentence for those who cannot see it, and its `<svg>` element."""

    title: str
    alt: str
    svg: str


def draw(report: AccuracyReport, limits: AccuracyLimits) -> list[Plot]:
    """Draw distances by position, by share and by case: KL divergence for logits, 1 - cosine for hidden states.

    Returns:
        The plots; the same report and limits give the same text.
    """
    name = "KL" if report.output == "logits" else "1 - cosine"
    limit = limits.max_kl if report.output == "logits" else _angle(limits.min_cosine)
    values = {mode: _of_mode(report, mode) for mode in report.by_mode}
    everything = np.concatenate(list(values.values()))
    bounds = _bounds(everything, limit)
    half, most = float(np.median(everything)), float(everything.max())
    limited = "no limit" if limit is None else f"the limit is {limit:.3g}"
    return [
        _plot(
            f"{name} by position",
            f"{name} of each position, prefill: half lie below {half:.2g}, the largest is {most:.2g}; {limited}.",
            lambda axes: _by_position(axes, report, bounds, limit),
        ),
        _plot(
            f"Share of positions with a larger {name}",
            f"Share of positions whose {name} is larger than a value, for each way of execution: "
            f"{'; '.join(label for label, _ in _curves(values, bounds))}; {limited}.",
            lambda axes: _shares(axes, values, bounds, limit, name),
        ),
        _plot(
            f"Mean {name} by case" if report.output == "logits" else f"Largest {name} by case",
            "; ".join(f"{case}: {value:.2g}" for case, value in _by_case(report).items()) + f"; {limited}.",
            lambda axes: _cases(axes, report, bounds, limit),
        ),
    ]


def distances(report: AccuracyReport, entry: PositionSeries) -> NDArray[np.float64]:
    """The distance of each position that suits the output: KL divergence in nats, or 1 - cosine."""
    return np.array(entry.kl) if report.output == "logits" else 1 - np.array(entry.cosine)


def _plot(title: str, alt: str, draw_on: Callable[[Axes], None]) -> Plot:
    return Plot(title, alt, svg(lambda figure: draw_on(figure.subplots()), SIZE_INCHES, alt))


def _angle(cosine: float | None) -> float | None:
    return None if cosine is None else max(1 - cosine, FLOOR)


def _bounded(values: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.clip(np.nan_to_num(values, nan=CEILING, posinf=CEILING), FLOOR, CEILING)


def _of_mode(report: AccuracyReport, mode: str) -> NDArray[np.float64]:
    return _bounded(np.concatenate([distances(report, entry) for entry in report.series if entry.mode == mode]))


def _bounds(values: NDArray[np.float64], limit: float | None) -> tuple[float, float]:
    """What a logarithmic axis shows: the largest distances and the limit, and not the noise far below them."""
    top = 2 * max(float(values.max()), limit or 0, FLOOR)
    return max(top / 10**SHOWN_DECADES, float(values.min()) / 2, FLOOR / 2), top


def _curves(
    values: dict[str, NDArray[np.float64]], bounds: tuple[float, float]
) -> list[tuple[str, NDArray[np.float64]]]:
    """Sorted distances of each mode; modes whose curves coincide are one, under both names."""
    curves: list[tuple[str, NDArray[np.float64]]] = []
    for mode, found in values.items():
        points = np.sort(np.maximum(found, bounds[0]))
        for place, (label, others) in enumerate(curves):
            if len(others) == len(points) and np.abs(np.log10(points / others)).max() < SAME_CURVE_DECADES:
                curves[place] = (f"{label}, {mode}", others)
                break
        else:
            curves.append((mode, points))
    return curves if len(curves) > 1 or len(values) == 1 else [("every mode", curves[0][1])]


def _by_position(axes: Axes, report: AccuracyReport, bounds: tuple[float, float], limit: float | None) -> None:
    series = [entry for entry in report.series if entry.mode == "prefill"]
    positions = np.concatenate([entry.positions for entry in series])
    values = np.maximum(_bounded(np.concatenate([distances(report, entry) for entry in series])), bounds[0])
    axes.semilogy(positions, values, ".", ms=3, alpha=0.6, color=CURVES[0], label="a position")
    edges = np.unique(np.linspace(0, positions.max() + 1, 13).astype(int))
    middles, medians = [], []
    for left, right in pairwise(edges):
        if (inside := (positions >= left) & (positions < right)).any():
            middles.append((left + right - 1) / 2)
            medians.append(np.median(values[inside]))
    axes.plot(middles, medians, lw=1.6, color=CURVES[1], label="median")
    _limit_line(axes.axhline, report.output, limit)
    axes.set(xlabel="position", ylim=bounds)
    _legend(axes)


def _shares(
    axes: Axes,
    values: dict[str, NDArray[np.float64]],
    bounds: tuple[float, float],
    limit: float | None,
    name: str,
) -> None:
    for (label, points), color in zip(_curves(values, bounds), CURVES, strict=False):
        share = 100 * (1 - np.arange(points.size) / points.size)
        axes.semilogx(points, share, lw=1.6, color=color, label=label)
    _limit_line(axes.axvline, "logits" if name == "KL" else "hidden", limit)
    axes.set(xlabel=f"{name}{' (nats)' if name == 'KL' else ''}", ylabel="% of positions", xlim=bounds, ylim=(0, 102))
    _legend(axes)


def _by_case(report: AccuracyReport) -> dict[str, float]:
    """The mean distance of each case over every mode; of hidden states the largest."""
    cases = dict.fromkeys(entry.case for entry in report.series)
    found = {}
    for case in cases:
        values = _bounded(np.concatenate([distances(report, entry) for entry in report.series if entry.case == case]))
        found[case] = float(values.mean() if report.output == "logits" else values.max())
    return found


def _cases(axes: Axes, report: AccuracyReport, bounds: tuple[float, float], limit: float | None) -> None:
    found = _by_case(report)
    bars = axes.barh(list(found), list(found.values()), color=CURVES[0], height=0.6)
    axes.bar_label(bars, [f"{value:.2g}" for value in found.values()], padding=3, fontsize=8)
    _limit_line(axes.axvline, report.output, limit)
    lowest = min(found.values())
    axes.set(
        xscale="log", xlim=(max(bounds[0], min(lowest, limit or lowest) / 3), 4 * max(*found.values(), limit or 0))
    )
    axes.grid(visible=False, axis="y")
    axes.invert_yaxis()
    if limit is not None:
        _legend(axes)


def _limit_line(line: Callable[..., object], output: str, limit: float | None) -> None:
    if limit is not None:
        what = f"limit of the mean {limit:g}" if output == "logits" else f"limit {limit:.3g}"
        line(limit, color=LIMIT, lw=1.2, ls="--", label=what)


def _legend(axes: Axes) -> None:
    axes.figure.legend(*axes.get_legend_handles_labels(), loc="outside lower center", ncols=2, fontsize=8)
