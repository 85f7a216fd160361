"""A whole engine of the manifest version before opens in today's runtime and says what it said then.

Covers: our operators with experts in int4 and an int8 cache; standard operators with int8 matrices; a prompt longer
    than a step
Reference: greedy tokens of the commit that built the engines, the last that wrote manifests of version 2

The engines are one layer of synthetic weights. The most probable token leads by 0.01 or more in every step, so that the
rounding of a processor decides nothing. When the version is raised, build such engines with the last commit that writes
the version before, and put them in their place.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from qwen3_runtime import Engine, Request
from qwen3_runtime.manifest import READABLE_VERSIONS, SCHEMA_VERSION

FOLDER = Path(__file__).with_name("engines_of_version_2")
GREEDY = json.loads((FOLDER / "greedy_tokens.json").read_text(encoding="utf-8"))
ENGINES = sorted(GREEDY.keys() - {"prompts"})


def test_the_stored_engines_are_of_the_version_before():
    versions = {json.loads((FOLDER / name / "manifest.json").read_bytes())["schema_version"] for name in ENGINES}
    assert versions == {SCHEMA_VERSION - 1} == set(READABLE_VERSIONS) - {SCHEMA_VERSION}


@pytest.mark.parametrize("name", ENGINES)
def test_an_engine_says_what_it_said_when_it_was_built(name):
    with Engine.open(FOLDER / name, threads=1, max_sequences=2, verify="full") as engine:
        assert engine.manifest.io.max_step_tokens < max(map(len, GREEDY["prompts"]))
        requests = [Request(prompt=prompt, max_tokens=12, temperature=0) for prompt in GREEDY["prompts"]]
        assert [list(done.tokens) for done in engine.generate(requests)] == GREEDY[name]
