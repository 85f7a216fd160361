"""What `build` tells of a plan: its warnings on stderr, all of it in the JSON document."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from qwen3_compile.cli import build as command
from qwen3_compile.pipeline import EngineInfo
from qwen3_compile.tensorrt import PlanFacts

FACTS = PlanFacts(7, 1.5, {"CAST": 2}, ("Tactic 3 is slow",))


@pytest.mark.parametrize("plan", [FACTS, None])
def test_warnings_of_a_plan_are_told_even_without_a_report(monkeypatch, plan):
    manifest = {"name": "tiny", "verified": False, "files": {}, "target": {"backend": "tensorrt-rtx"}}
    monkeypatch.setattr(command, "build", lambda *_, **__: EngineInfo(Path("engine"), manifest, None, (), plan))
    result = CliRunner().invoke(command.command, ["tiny-dense", "--json", "--no-cache"])
    document = json.loads(result.stdout)
    assert ("warning: tensorrt-rtx: Tactic 3 is slow" in result.stderr) == (plan is not None)
    assert document["plan"] == (
        {"size": 7, "seconds": 1.5, "layers": {"CAST": 2}, "warnings": ["Tactic 3 is slow"]} if plan else None
    )
