"""Drawings for light and dark pages.

Covers: colors and contrast, powers
Reference: WCAG's contrast
"""

import re
import xml.etree.ElementTree as ET

from qwen3_compile.drawing import CURVES, DARK, INK, LIGHT, LIMIT, OTHERS, svg, svg_file


def draw(figure):
    axes = figure.subplots()
    axes.plot([1, 2], [1, 3], color=CURVES[0], label="a < b")
    axes.axhline(2, color=LIMIT)
    axes.barh([1], [2], color=OTHERS)
    axes.text(1, 1, "said", color=INK)
    axes.legend()


def test_a_drawing_has_no_color_of_its_own_and_is_the_same_again():
    text = svg(draw, (3, 2), 'less "than" <')
    assert text == svg(draw, (3, 2), 'less "than" <')
    assert re.findall(r"#[0-9a-fA-F]{6}\b", text) == []
    assert set(re.findall(r"var\(--([\w-]+)\)", text)) <= set(LIGHT)
    root = ET.fromstring(text)  # noqa: S314 - our own
    assert (root.get("role"), root.get("aria-label")) == ("img", 'less "than" <')


def test_a_file_names_every_color_for_light_and_for_dark():
    text = svg_file(draw, (3, 2), "what it shows")
    root = ET.fromstring(text)  # noqa: S314 - our own
    light, dark = re.findall(r":root \{([^}]*)\}", text)
    for colors in (light, dark):
        assert set(re.findall(r"--([\w-]+):", colors)) == set(LIGHT) == set(DARK)
    assert "prefers-color-scheme: dark" in text
    assert root.find("{http://www.w3.org/2000/svg}title").text == "what it shows"


def luminance(color):
    digits = color[1:] if len(color) == 7 else "".join(2 * digit for digit in color[1:])
    parts = [int(digits[at : at + 2], 16) / 255 for at in (0, 2, 4)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return sum(weight * part for weight, part in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def test_lines_and_text_stand_out_on_their_page():
    """WCAG 2.2: a contrast of 4.5 for text, 3 for graphics."""
    for colors in (LIGHT, DARK):
        paper = luminance(colors["paper"])
        for name, color in colors.items():
            dark, light = sorted((luminance(color), paper))
            contrast = (light + 0.05) / (dark + 0.05)
            assert contrast >= {"paper": 1, "faint": 1.3, "others": 2, "ink": 4.5, "bad": 4.5}.get(name, 3), name


def draw_powers(figure):
    axes = figure.subplots()
    axes.loglog([1e-12, 1e3], [0.02, 0.09])


def test_powers_are_written_in_plain_text():
    text = svg(draw_powers, (3, 2), "powers")
    labels = set(re.findall(r">([^<>]+)</text>", text))
    assert {"10⁻⁹", "10⁰", "10³", "2×10⁻²", "6×10⁻²"} <= labels  # noqa: RUF001 - a multiplication sign
    assert not set("$\\^{}") & set("".join(labels))
