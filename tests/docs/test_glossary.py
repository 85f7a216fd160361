"""The glossary names what the code defines, and keeps to its form."""

import ast
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


def defined(source):
    """Names that a module defines, and the values of its literal types; words of comments and messages do not count."""
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.ClassDef(name=name) | ast.FunctionDef(name=name) | ast.arg(arg=name):
                yield name
            case ast.Name(id=name, ctx=ast.Store()) | ast.Attribute(attr=name, ctx=ast.Store()):
                yield name
            case ast.Subscript(value=ast.Name(id="Literal"), slice=values):
                yield from (value.value for value in ast.walk(values) if isinstance(value, ast.Constant))


@pytest.fixture(scope="module")
def names():
    paths = [path for package in PACKAGES for path in (ROOT / package).rglob("*.py")]
    found = {name for path in paths for name in defined(path.read_text(encoding="utf-8"))}
    return found | {path.parent.name if path.stem == "__init__" else path.stem for path in paths}


def test_what_counts_as_defined():
    source = '''"""docstring"""
# comment
Kind = Literal["value"]
def function(argument) -> None:
    variable = called("message").read
    variable.attribute = 1
'''
    assert set(defined(source)) == {"Kind", "value", "function", "argument", "variable", "attribute"}


def test_every_word_of_the_last_column_is_defined_in_the_code(names):
    words = {word for row in ROWS for word in re.findall(r"`([^`]+)`", row[-1])}
    assert len(words) > 70
    assert sorted(words - names) == []


def test_every_row_has_three_filled_cells_and_no_term_comes_twice():
    assert [row for row in ROWS if len(row) != 3 or not all(row)] == []
    terms = [row[0] for row in ROWS]
    assert sorted(set(terms)) == sorted(terms)


def test_no_cell_is_longer_than_a_line():
    assert [cell for row in ROWS for cell in row if len(cell) > 110] == []
