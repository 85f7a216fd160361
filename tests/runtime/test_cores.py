"""The default number of threads follows affinity, hardware threads and the container's quota."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from qwen3_runtime.backends.cores import physical_cores

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(
    ("siblings", "quota", "cores"),
    [
        (["0", "1", "2", "3"], "max 100000", 4),
        (["0-1", "0-1", "2-3", "2-3"], "max 100000", 2),
        (["0,2", "1,3", "0,2", "1,3"], None, 2),
        (["0", "1", "2", "3"], "150000 100000", 2),
        (["0", "1", "2", "3"], "1000 100000", 1),
        (["0", "1", "2", "3"], "900000 100000", 4),
        ([], "nonsense", 4),
    ],
)
def test_cores_are_counted_within_affinity_and_quota(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, siblings: list[str], quota: str | None, cores: int
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1, 2, 3})
    for cpu, listed in enumerate(siblings):
        topology = tmp_path / f"cpu{cpu}" / "topology"
        topology.mkdir(parents=True)
        (topology / "thread_siblings_list").write_text(f"{listed}\n")
    if quota is not None:
        (tmp_path / "cpu.max").write_text(f"{quota}\n")
    assert physical_cores(tmp_path, tmp_path / "cpu.max") == cores
