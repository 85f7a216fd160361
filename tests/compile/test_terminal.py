"""What a terminal is shown: every character but those that it would obey.

Covers: control characters, pastes in `chat`, limits beside their figures at 60 columns
Reference: Unicode's own categories
"""

import io
import json
import re
import sys
import unicodedata
from pathlib import Path

import pytest
from rich.table import Table

from qwen3_compile.terminal import THINKING, Screen, harmless, harmless_json, use_utf8, write_aside

PACKAGE = Path(__file__).parents[2] / "qwen3_compile"
OBEYED = {chr(code) for code in range(0x110000) if unicodedata.category(chr(code)) in ("Cc", "Cs")} - {"\n", "\t"}
OBEYED |= {c for c in map(chr, range(0x2000, 0x2070)) if unicodedata.bidirectional(c) in (
    "LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI")}  # fmt: skip


def test_every_character_stays_itself_or_is_an_obeyed_one_made_visible():
    changed = {c for c in map(chr, range(0x110000)) if harmless(c) != c}
    assert changed == OBEYED
    for character in changed:
        assert harmless(character)
        assert not OBEYED & set(harmless(character))
    assert len({harmless(c) for c in changed}) == len(changed)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b]0;title\x07", "^[]0;title^G"),
        ("a\rb\x00\x7f", "a^Mb^@^?"),
        ("\x9b31m", "<U+009B>31m"),
        ("\u202egnp.exe", "<U+202E>gnp.exe"),
        ("\u2066x\u2069", "<U+2066>x<U+2069>"),
        ("\ud800", "<U+D800>"),
    ],
)
def test_an_obeyed_character_is_written_as_cat_and_less_write_it(text, shown):
    assert harmless(text) == shown


def test_json_holds_the_same_values_and_nothing_that_a_terminal_obeys():
    value = {"text": " ".join(OBEYED) + "\u200c\u00a0 :x: \U0001f468\u200d\U0001f469", "\u202e": [1.5, None]}
    written = harmless_json(json.dumps(value, ensure_ascii=False))
    assert json.loads(written) == value
    assert not OBEYED & set(written)
    assert "\u200c\u00a0" in written
    written.encode("utf-8")


def test_a_screen_takes_every_string_for_text(monkeypatch):
    monkeypatch.setattr(sys, "stdout", io.StringIO())
    screen, text = Screen(), "[bold]:x: [/nothing] \x1b[2J"
    table = Table(text, title=text, box=None)
    table.add_row(text)
    screen.print(text)
    screen.print(table)
    assert sys.stdout.getvalue().count("[bold]:x: [/nothing] ^[[2J") == 4


def test_a_screen_cuts_no_line(monkeypatch):
    monkeypatch.setattr(sys, "stdout", io.StringIO())
    Screen().print("word " * 100)
    assert sys.stdout.getvalue() == "word " * 100 + "\n"


@pytest.mark.parametrize(("no_color", "escaped"), [("1", False), ("", True)])
def test_no_color_leaves_every_style_out(monkeypatch, no_color, escaped):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("NO_COLOR", no_color)
    for show in (
        lambda: write_aside("thinking", THINKING),
        lambda: Screen(stderr=True).print("thinking", style="dim"),
    ):
        monkeypatch.setattr(sys, "stderr", Terminal())
        show()
        assert ("\x1b" in sys.stderr.getvalue()) is escaped
        assert "thinking" in sys.stderr.getvalue()


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-16"])
def test_streams_write_utf_8_whatever_the_locale_says(monkeypatch, encoding):
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, encoding=encoding))
    use_utf8()
    sys.stdout.write("é 请\n\ud800")
    sys.stdout.flush()
    assert raw.getvalue() == "é 请\n\\ud800".encode()


def test_all_that_is_printed_goes_through_here():
    """Rich's own console deletes some characters, expands tabs and replaces names; click's echo strips colors."""
    own = re.compile(r"(?<!class )\bConsole\(|click\.s?echo\(|(?<![.\w])print\(")
    found = {
        str(path.relative_to(PACKAGE)) for path in PACKAGE.rglob("*.py") if own.search(path.read_text(encoding="utf-8"))
    }
    assert found == {"pipeline/progress.py"}  # which makes its lines harmless itself
