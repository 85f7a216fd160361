"""The generated pages are current, and the JSON schema agrees with the reader about the shipped specs."""

import json
from pathlib import Path

import pytest

from qwen3_compile.spec import Spec
from qwen3_compile.spec.docs import schema_text, spec_page
from qwen3_compile.spec.problems import all_keys

DOCS = Path(__file__).resolve().parents[3] / "docs"
REMEDY = "run `python docs/generate`"


@pytest.mark.parametrize(("name", "made"), [("spec.md", spec_page), ("spec.schema.json", schema_text)])
def test_the_committed_page_is_what_the_schema_says(name, made):
    assert (DOCS / name).read_text(encoding="utf-8") == made(), REMEDY


def test_every_key_is_documented_with_a_meaning():
    page = (DOCS / "spec.md").read_text(encoding="utf-8")
    rows = {
        line.split("|")[1].strip(): line.split("|")[4].strip() for line in page.splitlines() if line.startswith("| `")
    }
    for path in all_keys(Spec):
        assert rows[f"`{path[-1]}`"]


def test_a_first_sentence_ends_where_a_word_does_and_lists_are_in_the_plural():
    page = spec_page()
    assert "under the names of the released `config.json` |" in page
    assert "| list of integers ≥ 0 or null |" in page
    assert "| list of strings or null |" in page


def test_the_json_schema_is_closed_and_requires_what_has_no_default():
    schema = json.loads((DOCS / "spec.schema.json").read_text(encoding="utf-8"))
    assert schema["additionalProperties"] is False
    assert set(schema["required"]) == {"schema_version", "name", "model", "precision", "limits"}
    assert schema["$defs"]["PrecisionSection"]["required"] == ["weights"]
    assert schema["$defs"]["LimitsSection"]["required"] == ["max_context"]
    assert all(section["additionalProperties"] is False for section in schema["$defs"].values())
