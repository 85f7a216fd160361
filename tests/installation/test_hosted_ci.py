"""The hosted CI's file, which nothing here can run: it is valid YAML and runs what this repository has."""

from __future__ import annotations

import os
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

ROOT = Path(__file__).parents[2]
FILES = sorted((ROOT / ".github/workflows").glob("*.yml"))


@pytest.fixture(params=FILES, ids=lambda path: path.name)
def workflow(request: pytest.FixtureRequest) -> dict[str, Any]:
    document: dict[str, Any] = YAML(typ="safe").load(request.param.read_text(encoding="utf-8"))  # refuses double keys
    return document


def steps(workflow: dict[str, Any]) -> list[dict[str, Any]]:
    return [step for job in workflow["jobs"].values() for step in job["steps"]]


def test_there_is_a_workflow() -> None:
    assert [path.name for path in FILES] == ["ci.yml"]


def test_its_keys_are_those_of_workflows(workflow: dict[str, Any]) -> None:
    assert set(workflow) <= {"name", "on", "permissions", "concurrency", "env", "jobs"}
    assert {"on", "jobs", "permissions"} <= set(workflow)
    for job in workflow["jobs"].values():
        known = {"name", "runs-on", "timeout-minutes", "strategy", "container", "env", "steps", "needs"}
        assert {"runs-on", "timeout-minutes", "steps"} <= set(job) <= known
        for step in job["steps"]:
            assert set(step) <= {"name", "uses", "with", "run", "env"}
            assert ("uses" in step) != ("run" in step)


def test_actions_are_pinned_to_a_version_and_commands_are_files_of_the_repository(workflow: dict[str, Any]) -> None:
    for step in steps(workflow):
        if "uses" in step:
            assert re.fullmatch(r"actions/[\w-]+@v\d+", step["uses"])
        elif step["run"].startswith((".ci/", "scripts/")):
            assert os.access(ROOT / step["run"].split()[0], os.X_OK)


def test_expressions_name_what_their_job_defines(workflow: dict[str, Any]) -> None:
    for job in workflow["jobs"].values():
        matrix = job.get("strategy", {}).get("matrix", {})
        used = set(re.findall(r"\$\{\{ matrix\.(\w+) \}\}", str(job)))
        assert used == set(matrix)


def test_the_tests_run_on_both_processors_with_every_python_that_the_project_resolves_for(
    workflow: dict[str, Any],
) -> None:
    job = workflow["jobs"]["test"]
    assert {"run": ".ci/run"} in job["steps"]
    matrix = job["strategy"]["matrix"]
    assert {runner.endswith("-arm") for runner in matrix["runner"]} == {False, True}
    assert matrix["python"] == ["3.11", "3.12", "3.13", "3.14"]
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    named = {c.rpartition(" ")[2] for c in project["classifiers"] if re.search(r"Python :: 3\.\d+$", c)}
    assert named <= set(matrix["python"])
