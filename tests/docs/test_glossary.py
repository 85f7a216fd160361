"""The glossary names words that the code has, and keeps to its form."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("qwen3_compile", "graphs/qwen3_graphs", "plugins/qwen3_plugins", "runtime/qwen3_runtime")
ROWS = [
    [cell.strip() for cell in line.strip("|").split(" | ")]
    for line in (ROOT / "docs/glossary.md").read_text(encoding="utf-8").splitlines()
    if line.startswith("| ") and not line.startswith("| term")
]


@pytest.fixture(scope="module")
def code():
    files = (
        path for package in PACKAGES for suffix in ("py", "h", "cpp") for path in (ROOT / package).rglob(f"*.{suffix}")
    )
    return "\n".join(path.read_text(encoding="utf-8") for path in sorted(files))


def test_every_word_of_the_last_column_stands_in_the_code(code):
    words = {word for row in ROWS for word in re.findall(r"`([^`]+)`", row[-1])}
    assert len(words) > 70
    assert [word for word in sorted(words) if not re.search(rf"(?<!\w){re.escape(word)}(?!\w)", code)] == []


def test_every_row_has_three_filled_cells_and_no_term_comes_twice():
    assert [row for row in ROWS if len(row) != 3 or not all(row)] == []
    terms = [row[0] for row in ROWS]
    assert sorted(set(terms)) == sorted(terms)


def test_no_cell_is_longer_than_a_line():
    assert [cell for row in ROWS for cell in row if len(cell) > 110] == []
