"""Bars of every engine's rates, one picture for each checkpoint: sorted, at most six, under the engines' names."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from peers.report import COLUMNS
from qwen3_compile.drawing import CURVES, INK, OTHERS, svg_file

if TYPE_CHECKING:
    from pathlib import Path

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from peers.results import Results


class Bar(NamedTuple):
    """What a bar is called, and the contenders of which it shows the fastest."""

    label: str
    contenders: tuple[str, ...]

    @property
    def ours(self) -> bool:
        """Whether it is this project's."""
        return self.contenders[0].startswith("ours")


BARS = {
    "dense": (
        Bar("qwen3-compile, groups of 32", ("ours-int4-g32",)),
        Bar("qwen3-compile, groups of 128", ("ours-int4-g128",)),
        Bar("llama.cpp Q4_0", ("llama-q4_0", "llama-q4_0-fa")),
        Bar("onnxruntime-genai, groups of 32", ("genai-int4-g32",)),
        Bar("onnxruntime-genai, groups of 128", ("genai-int4-g128",)),
        Bar("openvino-genai, groups of 128", ("openvino-int4-g128",)),
    ),
    "moe": (
        Bar("qwen3-compile, groups of 32", ("ours-moe-int4-g32",)),
        Bar("llama.cpp Q4_0", ("llama-moe-q4_0", "llama-moe-q4_0-fa")),
    ),
}
TITLES = {"dense": "Qwen3-0.6B dimensions in 4 bits", "moe": "four layers of 30B-A3B in 4 bits"}
WIDTH, ROW, MARGIN = 6.8, 0.26, 0.55  # inches


def write_plots(results: Results, folder: Path) -> list[Path]:
    """Write a picture for each checkpoint that was measured, as SVG."""
    paths = []
    for checkpoint, title in TITLES.items():
        panels = {label: ranked(results, checkpoint, figure) for figure, label in COLUMNS}
        if not any(panels.values()):
            continue
        path = folder / f"comparison-{checkpoint}.svg"
        path.write_text(_picture(panels, f"{title}, {results.threads} threads, tokens a second"), encoding="utf-8")
        paths.append(path)
    return paths


def ranked(results: Results, checkpoint: str, figure: str) -> list[tuple[Bar, str, float]]:
    """The bars of a figure, the fastest first: which contender of each is shown, and its median."""
    found = []
    for bar in BARS[checkpoint]:
        rates = {name: rate for name in bar.contenders if (rate := results.median(name, figure)) is not None}
        if rates:
            best = max(rates, key=lambda name: rates[name])
            found.append((bar, best, rates[best]))
    return sorted(found, key=lambda entry: -entry[2])


def _picture(panels: dict[str, list[tuple[Bar, str, float]]], title: str) -> str:
    def draw(figure: Figure) -> None:
        rows = [len(entries) for entries in panels.values()]
        figure.suptitle(title, fontsize=10)
        for axes, (label, entries) in zip(
            figure.subplots(len(panels), 1, height_ratios=rows), panels.items(), strict=True
        ):
            _bars(axes, label, entries)

    height = sum(MARGIN + ROW * len(entries) for entries in panels.values()) + 0.3
    said = "; ".join(
        f"{label}: " + ", ".join(f"{bar.label} {rate:.0f}" for bar, _, rate in entries)
        for label, entries in panels.items()
    )
    return svg_file(draw, (WIDTH, height), f"{title}. {said}.")


def _bars(axes: Axes, label: str, entries: list[tuple[Bar, str, float]]) -> None:
    names, rates = [bar.label for bar, _, _ in entries], [rate for _, _, rate in entries]
    bars = axes.barh(names, rates, color=[CURVES[0] if bar.ours else OTHERS for bar, _, _ in entries], height=0.7)
    axes.bar_label(bars, [f"{rate:.0f}" for rate in rates], padding=4, fontsize=8, color=INK)
    axes.set_title(label, fontsize=9, loc="left")
    axes.tick_params(labelsize=8, length=0)
    axes.set_xticks([])
    axes.grid(visible=False)
    axes.spines[:].set_visible(False)
    axes.margins(x=0.08)
    axes.invert_yaxis()
