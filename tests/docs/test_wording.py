"""Documents, code and messages keep to American spelling; tables of documents have short cells."""

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = (
    "benchmarks",
    "docs",
    "examples",
    "graphs",
    "plugins",
    "qwen3_compile",
    "runtime",
    "scripts",
    "specs",
    "tests",
)
SUFFIXES = {".py", ".md", ".cpp", ".h", ".yaml", ".toml", ".ipynb", ""}
# Prompts, and questions of the tiny models: other words would make other figures.
DATA = {"qwen3_compile/validate/cases.py", "examples/tiny/conversations.py", "tests/docs/test_wording.py"}
PAGES = [path for path in (*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")) if path.parent.name != "reference"]
MAX_CELL = 150
# Beginnings of words; `cancelled` stays, as the name of a finish reason.
BRITISH = re.compile(
    r"""(?ix) (?<![a-z]) (?:de|re|un|pre)?(?:
        (?:quanti|normali|optimi|initiali|seriali|tokeni|organi|recogni|summari|visuali|speciali|generali|materiali|
            minimi|maximi|utili|synthesi|parallel?i|vectori|randomi|customi|reali|prioriti|memori|standardi|finali)
            s(?:e|es|ed|er|ers|ing|ation|ations)\b
        | analys(?:e|ed|es|ing)\b | (?:colour|behaviour|favour|honour|neighbour|labour|flavour)
        | centred?s?\b | catalogue | artefact | (?:model|label|signal|travel)l(?:ed|ing)\b | (?:mis)?spelt\b | learnt\b
        | judgement | acknowledgement | towards\b | whilst\b | amongst\b | defence\b | licence\b | grey\b | fulfil\b
        | programmes?\b
    )""",
)


def tracked():
    listed = subprocess.run(["git", "ls-files", "*", *FOLDERS], cwd=ROOT, capture_output=True, text=True, check=False)
    if listed.returncode:
        pytest.skip("not a git checkout")
    names = {name for name in listed.stdout.splitlines() if Path(name).suffix in SUFFIXES} - DATA
    return [ROOT / name for name in sorted(names) if (ROOT / name).is_file()]


def british(text):
    return [found.group() for found in BRITISH.finditer(text)]


@pytest.mark.parametrize(
    "word",
    ["Quantisation", "dequantised", "test_a_colour", "misspelt", "neighbours", "behaviour", "tokeniser", "centre"],
)
def test_british_words_are_found(word):
    assert british(f"of {word} here")


@pytest.mark.parametrize("word", ["quantization", "promise", "precise", "otherwise", "center", "centers", "cancelled"])
def test_american_words_are_not(word):
    assert british(f"of {word} here") == []


def test_spelling_is_american():
    files = tracked()
    assert len(files) > 500
    found = {path.relative_to(ROOT).as_posix(): british(path.read_text(encoding="utf-8")) for path in files}
    assert {name: words for name, words in found.items() if words} == {}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_no_cell_of_a_table_is_longer_than_a_sentence(page):
    rows = [line for line in page.read_text(encoding="utf-8").splitlines() if line.startswith("|")]
    shown = [re.sub(r"\]\([^)\s]+\)", "]", row) for row in rows]  # where links lead to is not shown
    cells = [cell.strip() for row in shown for cell in re.split(r"(?<!\\)\|", row)]
    assert [cell for cell in cells if len(cell) > MAX_CELL] == []
