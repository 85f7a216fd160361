"""The page on building has every stage, in order, and the tools that the cached result of each depends on."""

import inspect
import re
from pathlib import Path

import pytest

from qwen3_compile.pipeline.orchestrate import FILE_STAGES, GRAPH_STAGES, VALIDATION_STAGES

STAGES = (*GRAPH_STAGES, *FILE_STAGES, *VALIDATION_STAGES)
PAGE = (Path(__file__).resolve().parents[2] / "docs/building.md").read_text(encoding="utf-8")
ROWS = {
    row.split("|")[1].strip(): row
    for row in PAGE.split("## Stages")[1].split("\n## ")[0].splitlines()
    if row.startswith("| ") and not row.startswith("| stage")
}


def word(stage):
    return stage.__name__.removesuffix("Stage").lower()


def test_the_table_has_the_stages_in_order():
    assert list(ROWS) == [word(stage) for stage in STAGES]


@pytest.mark.parametrize("stage", STAGES, ids=word)
def test_a_row_names_the_tools(stage):
    asked = re.findall(r"tool_versions\((.*?)\),?\n", inspect.getsource(stage.inputs), re.DOTALL)
    tools = re.findall(r'"([\w-]+)"', " ".join(asked))
    assert tools or word(stage) == "checkpoint"
    assert {*re.findall(r"`([\w-]+)`", ROWS[word(stage)].split("version")[-1])} == {*tools}
