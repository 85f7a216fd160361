"""The page of what was verified is current, and keeps to its form."""

import re

import pytest
import verification_page
from verification_page import AREAS, ROOT, area_of, page, verified


def test_the_committed_page_is_what_the_tests_say():
    committed = (ROOT / "docs/verification.md").read_text(encoding="utf-8")
    assert committed == page(), "run `python docs/generate`"


def test_every_test_module_is_a_row():
    rows = re.findall(r"\| `([\w/]+\.py)` \|$", page(), re.MULTILINE)
    modules = [path.name for path in (ROOT / "tests").rglob("test_*.py")]
    assert sorted(row.rpartition("/")[2] for row in rows) == sorted(modules)


def test_every_area_has_a_module_and_no_module_is_without_an_area():
    assert {area_of(each.path) for each in verified()} == set(AREAS)
    with pytest.raises(ValueError, match="add its folder to AREAS"):
        area_of("elsewhere/test_it.py")


def test_no_cell_is_longer_than_150_characters_and_no_row_comes_twice():
    rows = [line for line in page().splitlines() if line.startswith("|") and not line.startswith("|---")]
    cells = [cell.strip() for row in rows for cell in re.split(r"(?<!\\)\|", row)]
    assert [cell for cell in cells if len(cell) > 150] == []
    titles = [each.what for each in verified()]
    assert sorted(set(titles)) == sorted(titles)


def test_fields_of_a_docstring_end_where_the_next_begins(tmp_path):
    module = tmp_path / "test_it.py"
    fields = "Covers: this,\n    that\nReference: a reference,\n    of two lines\n"
    module.write_text(f'"""What it is,\nin two lines.\n\nProse.\n\n{fields}"""\n', encoding="utf-8")
    found = verification_page._read(module, "test_it.py")
    assert found.what == "What it is, in two lines."
    assert (found.covers, found.reference) == ("this, that", "a reference, of two lines")


def test_a_module_without_a_docstring_is_named(tmp_path):
    (tmp_path / "test_it.py").write_text("x = 1\n", encoding="utf-8")
    with pytest.raises(ValueError, match=r"tests/test_it\.py needs a docstring"):
        verification_page._read(tmp_path / "test_it.py", "test_it.py")


def test_no_two_test_modules_have_one_name():
    """Pytest imports them without their folder: a whole run, and no part of it, would end before its first test."""
    names = [path.name for path in (ROOT / "tests").rglob("*.py") if path.name != "conftest.py"]
    assert sorted(set(names)) == sorted(names)
