"""Drawings that read well on a light and on a dark page: SVG whose colors follow those of the page or of the reader.

matplotlib draws with colors that no drawing has; in the SVG they become names of colors, which a style defines twice.
"""

from __future__ import annotations

import io
import os
import re
import tempfile
from html import escape
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import ModuleType

    from matplotlib.axis import Axis
    from matplotlib.figure import Figure

LIGHT = {
    "paper": "#fff", "ink": "#1d1d24", "faint": "#c9c9d2", "bad": "#b3141f", "curve-1": "#2a6f97", "curve-2": "#c2571a",
    "curve-3": "#5b8c3e", "curve-4": "#8a4fa3", "others": "#a9acb8",
}  # fmt: skip
DARK = {
    "paper": "#16171b", "ink": "#e4e4ea", "faint": "#4a4b55", "bad": "#ff7b72", "curve-1": "#6cb6e4",
    "curve-2": "#f0a060", "curve-3": "#9ccc7c", "curve-4": "#c99be0", "others": "#6c7080",
}  # fmt: skip

INK, FAINT, LIMIT, OTHERS = "#010203", "#010204", "#010205", "#01020a"
CURVES = ("#010206", "#010207", "#010208", "#010209")
_NAMES = {INK: "ink", FAINT: "faint", LIMIT: "bad", OTHERS: "others"} | {
    curve: f"curve-{number}" for number, curve in enumerate(CURVES, start=1)
}
_SETTINGS = {
    "svg.hashsalt": "qwen3-compile",  # with no date: identical drawings must be identical files
    "svg.fonttype": "none",
    "font.size": 9,
    "font.family": "sans-serif",
    "text.color": INK, "axes.labelcolor": INK, "axes.edgecolor": FAINT, "xtick.color": INK, "ytick.color": INK,
    "axes.spines.top": False, "axes.spines.right": False, "axes.grid": True, "grid.color": FAINT,
    "grid.linewidth": 0.4, "axes.axisbelow": True, "legend.frameon": False, "xtick.minor.size": 0,
    "ytick.minor.size": 0,
}  # fmt: skip

# What matplotlib labels a power with, as a formula: an optional factor and the exponent.
_POWER = re.compile(r"(?:(\d+)\\times)?10\^\{(-?\d+)\}")
_RAISED = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def palette() -> str:
    """CSS that gives each color its value, by what the reader prefers."""
    light, dark = ("; ".join(f"--{name}: {value}" for name, value in colors.items()) for colors in (LIGHT, DARK))
    return f":root {{ {light} }}\n@media (prefers-color-scheme: dark) {{ :root {{ {dark} }} }}\n"


def svg(draw: Callable[[Figure], None], size: tuple[float, float], alt: str) -> str:
    """Draw, and return an `<svg>` element for a page whose style holds the palette.

    Args:
        draw: draws on an empty figure, with the colors of this module.
        size: width and height in inches.
        alt: what the drawing shows, for those who cannot see it.
    """
    mpl = _import_matplotlib()
    with mpl.rc_context(_SETTINGS):
        from matplotlib.figure import Figure

        figure = Figure(figsize=size, layout="constrained")
        figure.patch.set_visible(False)
        draw(figure)
        for axes in figure.axes:
            axes.patch.set_visible(False)
            for axis in (axes.xaxis, axes.yaxis):
                if axis.get_scale() == "log":
                    _label_in_plain_text(axis)
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    for color, name in _NAMES.items():
        text = text.replace(color, f"var(--{name})")
    return text.replace("<svg", f'<svg role="img" aria-label="{escape(alt)}"', 1)


def _label_in_plain_text(axis: Axis) -> None:
    """Write the powers of a logarithmic axis in Unicode: setting them as formulas takes half of the time of a plot."""
    from matplotlib.ticker import LogFormatterSciNotation

    class Powers(LogFormatterSciNotation):
        def __call__(self, x: float, pos: int | None = None) -> str:
            found = _POWER.search(super().__call__(x, pos))  # without a label it is empty
            if found is None:
                return ""
            factor = f"{found[1]}\N{MULTIPLICATION SIGN}" if found[1] else ""
            return f"{factor}10{found[2].translate(_RAISED)}"

    axis.set_major_formatter(Powers())
    axis.set_minor_formatter(Powers(labelOnlyBase=False, minor_thresholds=(1, 0.4)))


def svg_file(draw: Callable[[Figure], None], size: tuple[float, float], alt: str) -> str:
    """The same as a file of its own, which takes its colors from what the reader prefers."""
    text = svg(draw, size, alt)
    opened = text.index(">") + 1
    font = "text { font-family: system-ui, sans-serif !important }"
    return f"{text[:opened]}\n<title>{escape(alt)}</title>\n<style>{palette()}{font}</style>{text[opened:]}"


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
