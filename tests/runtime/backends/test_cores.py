"""The default number of threads follows affinity, hardware threads and the quotas of all cgroups around the process."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from qwen3_runtime.backends.cores import physical_cores

if TYPE_CHECKING:
    from pathlib import Path

V2 = "31 23 0:28 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw,nsdelegate"
V1 = "36 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw,relatime shared:9 - cgroup cgroup rw,cpu,cpuacct"
V1_MEMORY = "37 31 0:33 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory"
V1_OF_A_CONTAINER = V1.replace(" / ", " /docker/a1 ")


@pytest.fixture(autouse=True)
def eight_processors(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)))


def machine(root: Path, files: dict[str, str], mounts: tuple[str, ...] = (), cgroup: str = "") -> Path:
    """Write a `/proc` and a `/sys`; paths in `files` are below `/sys`."""
    for name, text in {f"sys/{name}": text for name, text in files.items()}.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(f"{text}\n")
    (root / "proc/self").mkdir(parents=True)
    (root / "proc/self/mountinfo").write_text("\n".join(["22 1 8:1 / / rw - ext4 /dev/sda rw", *mounts]) + "\n")
    (root / "proc/self/cgroup").write_text(f"{cgroup}\n")
    return root


@pytest.mark.parametrize(
    ("siblings", "cores"),
    [
        ([str(cpu) for cpu in range(8)], 8),
        (["0-1", "0-1", "2-3", "2-3", "4-5", "4-5", "6-7", "6-7"], 4),
        (["0,4", "1,5", "2,6", "3,7"] * 2, 4),
        ([], 8),
    ],
)
def test_hardware_threads_of_a_core_count_once(tmp_path: Path, siblings: list[str], cores: int) -> None:
    files = {
        f"devices/system/cpu/cpu{cpu}/topology/thread_siblings_list": listed for cpu, listed in enumerate(siblings)
    }
    assert physical_cores(machine(tmp_path, files)) == cores


def test_processors_that_the_process_is_not_allowed_on_do_not_count(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {2, 5})
    assert physical_cores(machine(tmp_path, {})) == 2


@pytest.mark.parametrize(
    ("quotas", "cores"),
    [
        ({"": "max 100000"}, 8),
        ({"": "150000 100000"}, 2),
        ({"": "1000 100000"}, 1),
        ({"": "900000 100000"}, 8),
        ({"": "nonsense"}, 8),
        ({"": "100000 0"}, 8),
        ({"a/b/c/": "max 100000", "a/b/": "300000 100000", "a/": "max 100000"}, 3),
        ({"a/b/c/": "400000 100000", "a/": "50000 25000"}, 2),
        ({"a/b/c/": "200000 100000", "a/": "500000 100000"}, 2),
        ({"a/other/": "100000 100000"}, 8),
    ],
)
def test_each_level_of_cgroups_of_version_2_limits(tmp_path: Path, quotas: dict[str, str], cores: int) -> None:
    files = {f"fs/cgroup/{folder}cpu.max": quota for folder, quota in quotas.items()}
    assert physical_cores(machine(tmp_path, files, (V2,), "0::/a/b/c")) == cores


@pytest.mark.parametrize(
    ("quotas", "cores"),
    [
        ({"a/b/": (-1, 100000), "a/": (-1, 100000)}, 8),
        ({"a/b/": (250000, 100000), "a/": (-1, 100000)}, 3),
        ({"a/b/": (250000, 100000), "a/": (100000, 50000)}, 2),
    ],
)
def test_each_level_of_cgroups_of_version_1_limits(
    tmp_path: Path, quotas: dict[str, tuple[int, int]], cores: int
) -> None:
    top = "fs/cgroup/cpu,cpuacct/"
    files = {f"{top}{folder}cpu.cfs_quota_us": str(quota) for folder, (quota, _) in quotas.items()}
    files |= {f"{top}{folder}cpu.cfs_period_us": str(period) for folder, (_, period) in quotas.items()}
    found = machine(tmp_path, files, (V1_MEMORY, V1), "5:memory:/elsewhere\n4:cpu,cpuacct:/a/b\n0::/")
    assert physical_cores(found) == cores


def test_a_container_that_sees_its_own_cgroup_alone_finds_it_at_the_mount_point(tmp_path: Path) -> None:
    """Docker without a cgroup namespace: the path is the host's, the mount is of the container's cgroup."""
    files = {
        "fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us": "600000",
        "fs/cgroup/cpu,cpuacct/cpu.cfs_period_us": "100000",
        "fs/cgroup/cpu,cpuacct/inner/cpu.cfs_quota_us": "200000",
        "fs/cgroup/cpu,cpuacct/inner/cpu.cfs_period_us": "100000",
    }
    found = machine(tmp_path, files, (V1_OF_A_CONTAINER,), "4:cpu,cpuacct:/docker/a1/inner")
    assert physical_cores(found) == 2


def test_a_cgroup_outside_of_what_is_mounted_leaves_the_mount_point(tmp_path: Path) -> None:
    files = {
        "fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us": "300000",
        "fs/cgroup/cpu,cpuacct/cpu.cfs_period_us": "100000",
    }
    assert physical_cores(machine(tmp_path, files, (V1_OF_A_CONTAINER,), "4:cpu,cpuacct:/user")) == 3


def test_a_cgroup_around_the_namespace_leaves_the_mount_point(tmp_path: Path) -> None:
    files = {"fs/cgroup/cpu.max": "200000 100000", "cpu.max": "100000 100000"}
    assert physical_cores(machine(tmp_path, files, (V2,), "0::/../..")) == 2


def test_a_mount_point_with_a_space_is_read(tmp_path: Path) -> None:
    mount = V2.replace("/sys/fs/cgroup", r"/sys/fs/my\040cgroups")
    assert physical_cores(machine(tmp_path, {"fs/my cgroups/cpu.max": "200000 100000"}, (mount,), "0::/")) == 2


def test_version_1_and_version_2_side_by_side_both_limit(tmp_path: Path) -> None:
    files = {
        "fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us": "500000",
        "fs/cgroup/cpu,cpuacct/cpu.cfs_period_us": "100000",
        "fs/cgroup/unified/cpu.max": "400000 100000",
    }
    unified = V2.replace("/sys/fs/cgroup", "/sys/fs/cgroup/unified")
    assert physical_cores(machine(tmp_path, files, (V1, unified), "4:cpu,cpuacct:/\n0::/")) == 4


def test_this_machine_has_at_least_one_and_no_more_than_it_is_allowed() -> None:
    assert physical_cores() >= 1


def test_a_system_without_proc_and_sys_has_what_the_process_is_allowed(tmp_path: Path) -> None:
    assert physical_cores(tmp_path) == 8
