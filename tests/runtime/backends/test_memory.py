"""The size of a KV cache follows what was asked for, else what the system and all cgroups leave free.

Covers: available memory by `/proc/meminfo` and cgroups of versions 1 and 2, `cache_memory`
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from test_cores import V1_MEMORY, V2, machine

from qwen3_runtime import RequestError, backends
from qwen3_runtime.backends import CACHE_SHARE, Sizes
from qwen3_runtime.backends.memory import available_memory

if TYPE_CHECKING:
    from pathlib import Path

MEBIBYTE = 1 << 20


def with_memory(root: Path, mebibytes: int) -> Path:
    (root / "proc/meminfo").write_text(f"MemTotal: 99999999 kB\nMemAvailable:   {mebibytes * 1024} kB\nCached: 1 kB\n")
    return root


def test_without_cgroups_it_is_what_the_system_has_left(tmp_path: Path) -> None:
    assert available_memory(with_memory(machine(tmp_path, {}), 700)) == 700 * MEBIBYTE


def test_a_system_that_does_not_say_is_not_guessed_at(tmp_path: Path) -> None:
    assert available_memory(tmp_path) is None


@pytest.mark.parametrize(
    ("files", "mebibytes"),
    [
        ({"a/b/memory.max": "max", "a/b/memory.current": "5"}, 700),
        ({"a/b/memory.max": 300 * MEBIBYTE, "a/b/memory.current": 100 * MEBIBYTE}, 200),
        ({"a/memory.max": 300 * MEBIBYTE, "a/memory.current": 100 * MEBIBYTE}, 200),
        ({"a/b/memory.max": 900 * MEBIBYTE, "a/b/memory.current": 100 * MEBIBYTE}, 700),
        ({"a/b/memory.max": 100 * MEBIBYTE, "a/b/memory.current": 120 * MEBIBYTE}, 0),
        (
            {
                "a/b/memory.max": 300 * MEBIBYTE,
                "a/b/memory.current": 250 * MEBIBYTE,
                "a/b/memory.stat": f"anon 7\ninactive_file {150 * MEBIBYTE}\nactive_file 9",
            },
            200,
        ),
        ({"a/other/memory.max": 1, "a/other/memory.current": 1}, 700),
    ],
)
def test_each_level_of_cgroups_of_version_2_limits(tmp_path: Path, files: dict[str, object], mebibytes: int) -> None:
    root = machine(tmp_path, {f"fs/cgroup/{name}": str(text) for name, text in files.items()}, (V2,), "0::/a/b")
    assert available_memory(with_memory(root, 700)) == mebibytes * MEBIBYTE


def test_version_1_limits_too(tmp_path: Path) -> None:
    files = {
        "memory.limit_in_bytes": 400 * MEBIBYTE,
        "memory.usage_in_bytes": 300 * MEBIBYTE,
        "memory.stat": f"cache 1\ntotal_inactive_file {50 * MEBIBYTE}",
    }
    written = {f"fs/cgroup/memory/a/{name}": str(text) for name, text in files.items()}
    root = machine(tmp_path, written, (V1_MEMORY,), "7:memory:/a\n5:cpu,cpuacct:/a")
    assert available_memory(with_memory(root, 700)) == 150 * MEBIBYTE


def test_the_least_of_what_is_needed_and_what_was_asked_for() -> None:
    assert Sizes(4, 100, cache_memory=10**9).blocks(64, 1000) == 8
    assert Sizes(4, 100, cache_memory=5999).blocks(64, 1000) == 5
    with pytest.raises(RequestError, match="expected at least 1000, the bytes of one cache block, found 999") as caught:
        Sizes(4, 100, cache_memory=999).blocks(64, 1000)
    assert caught.value.field == "cache_memory"


@pytest.mark.parametrize(("free", "blocks"), [(None, 8), (10**9, 8), (12_999, 6), (3000, 2), (0, 2)])
def test_by_default_a_share_of_what_is_free_but_enough_for_the_longest_sequence(
    monkeypatch: pytest.MonkeyPatch, free: int | None, blocks: int
) -> None:
    assert CACHE_SHARE == 0.5
    monkeypatch.setattr(backends, "available_memory", lambda: free)
    assert Sizes(4, 100).blocks(64, 1000) == blocks
