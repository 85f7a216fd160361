"""`scripts/mutate` finds the lines that no test holds, and leaves the tree alone."""

from __future__ import annotations

import subprocess
import sys
from importlib.machinery import SourceFileLoader
from importlib.util import module_from_spec, spec_from_loader
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]
SOURCE = '''"""A toy."""
import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    LIMIT: int = 3


def first(path: str, low: int = 2) -> int:
    """The text 1 and the type are left alone."""
    if low < 1 or not path:
        raise ValueError(f"below {1 + 1}")
    print(path)
    return min(low, os.O_RDONLY | os.O_CLOEXEC)
'''
MUTANTS = {
    ("def first(path: str, low: int = 2) -> int:", "def first(path: str, low: int = 3) -> int:"),
    ("def first(path: str, low: int = 2) -> int:", "def first(path: str, low: int = 1) -> int:"),
    ("if low < 1 or not path:", "if low < 1 and not path:"),
    ("if low < 1 or not path:", "if low <= 1 or not path:"),
    ("if low < 1 or not path:", "if low < 2 or not path:"),
    ("if low < 1 or not path:", "if low < 0 or not path:"),
    ("if low < 1 or not path:", "if low < 1 or (path):"),
    ('raise ValueError(f"below {1 + 1}")', "pass"),
    ("print(path)", "pass"),
    ("return min(low, os.O_RDONLY | os.O_CLOEXEC)", "return None"),
    ("return min(low, os.O_RDONLY | os.O_CLOEXEC)", "return max(low, os.O_RDONLY | os.O_CLOEXEC)"),
    ("return min(low, os.O_RDONLY | os.O_CLOEXEC)", "return low"),
    ("return min(low, os.O_RDONLY | os.O_CLOEXEC)", "return os.O_RDONLY | os.O_CLOEXEC"),
    ("return min(low, os.O_RDONLY | os.O_CLOEXEC)", "return min(low, os.O_RDONLY)"),
    ("return min(low, os.O_RDONLY | os.O_CLOEXEC)", "return min(low, os.O_CLOEXEC)"),
}
TESTS = """from toy import first
def test_first(): assert first("x", 5) == 5
"""


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> Any:
    loader = SourceFileLoader("mutate", str(ROOT / "scripts/mutate"))
    spec = spec_from_loader("mutate", loader)
    assert spec is not None
    script = module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "mutate", script)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)  # beside a script without .py
    loader.exec_module(script)
    return script


@pytest.fixture
def mutate(script: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The script, for a tree of one file."""
    (tmp_path / "toy.py").write_text(SOURCE)
    (tmp_path / "test_toy.py").write_text(TESTS)
    subprocess.run(["git", "-C", tmp_path, "init", "-q"], check=True)
    monkeypatch.setattr(script, "ROOT", tmp_path)
    monkeypatch.setattr(script, "HEAVY", ())
    monkeypatch.setattr(script, "AREAS", {"toy.py": ["test_toy.py"]})
    return script


def test_each_area_and_its_tests_exist(script: Any) -> None:
    for area, tests in script.AREAS.items():
        assert (ROOT / area).exists(), area
        for place in tests:
            path, _, test = place.partition("::")
            assert (ROOT / path).exists(), place
            assert not test or f"def {test}(" in (ROOT / path).read_text(), place


def test_a_mutant_changes_one_place_and_neither_texts_nor_types(mutate: Any) -> None:
    found = {tuple(mutant.place.split(": ", 1)[1].split("  ->  ")) for mutant in mutate.Mutator("toy.py").found}
    assert found == MUTANTS


LEFT_OUT = {
    'NAMES = ("a", "b")': {"NAMES = ('a',)", "NAMES = ('b',)"},
    'KEYS = {"a": NAMES, **MORE}': {"KEYS = { **MORE}", 'KEYS = {"a": NAMES}'},
    'call("a", "b", NAMES, x=y, strict=True, **MORE)': {
        'call( "b", NAMES, x=y, strict=True, **MORE)',
        'call("a", NAMES, x=y, strict=True, **MORE)',
        'call("a", "b", NAMES, strict=True, **MORE)',
        'call("a", "b", NAMES, x=y, strict=False, **MORE)',
        'call("a", "b", NAMES, x=y, strict=True)',
        "pass",
    },
    "x = NAMES if MORE else [n for n in NAMES if n.isupper()]": {
        "x = NAMES if (not MORE) else [n for n in NAMES if n.isupper()]",
        "x = NAMES if MORE else [n for n in NAMES if (not n.isupper())]",
    },
}


@pytest.mark.parametrize("line", LEFT_OUT)
def test_arguments_entries_and_names_are_left_out_and_conditions_are_negated(
    mutate: Any, tmp_path: Path, line: str
) -> None:
    (tmp_path / "toy.py").write_text(line + "\n")
    found = {mutant.place.split("  ->  ")[1] for mutant in mutate.Mutator("toy.py").found}
    assert found == LEFT_OUT[line]


def test_what_runs_out_of_time_is_killed_and_printed(
    mutate: Any, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "toy.py").write_text("while False:\n    pass\n")
    (tmp_path / "test_toy.py").write_text("def test_toy(): import toy\n")
    monkeypatch.setattr(mutate, "SHORTEST_TIMEOUT_SECONDS", 2)
    monkeypatch.setattr(sys, "argv", ["mutate", "toy.py"])
    assert mutate.main() == 0
    said = capfd.readouterr().out.splitlines()
    assert "out of time: toy.py:1: while False:  ->  while True:" in said
    assert said[-1].split() == ["all", "1", "1", "0"]


def test_survivors_are_printed_with_their_place_and_the_tree_stays(
    mutate: Any, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setattr(sys, "argv", ["mutate", "toy.py"])
    assert mutate.main() == 0
    said = capfd.readouterr().out
    assert "toy.py:14: return min(low, os.O_RDONLY | os.O_CLOEXEC)  ->  return low\n" in said
    assert "toy.py:13: print(path)  ->  pass\n" in said
    assert "->  return None" not in said
    assert "->  if low < 1 or (path):" not in said
    assert said.splitlines()[-1].split() == ["all", "15", "5", "10"]
    assert (tmp_path / "toy.py").read_text() == SOURCE
