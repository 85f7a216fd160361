"""How many processor cores this process may use: the default number of threads of sessions and builds."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import TYPE_CHECKING

from qwen3_runtime.backends.cgroups import cgroup_levels, read_text

if TYPE_CHECKING:
    from collections.abc import Iterator


def physical_cores(root: Path = Path("/")) -> int:
    """Count the physical cores that the process is allowed on, at least one.

    Hardware threads of one core count as one. CPU quotas are limits, those of the process's own cgroup and of every
    cgroup around it, rounded up: more threads than that only wait for each other.

    Args:
        root: where `/proc` and `/sys` are.
    """
    try:
        allowed = os.sched_getaffinity(0)
    except AttributeError:  # not Linux
        return os.cpu_count() or 1
    cpus = root / "sys/devices/system/cpu"
    cores = len({read_text(cpus / f"cpu{cpu}" / "topology/thread_siblings_list") or str(cpu) for cpu in allowed})
    return max(1, min([cores, *(math.ceil(quota) for quota in _quotas(root))]))


def _quotas(root: Path) -> Iterator[float]:
    """CPU quotas in processors, for each level of each hierarchy that has one."""
    for version, folder in cgroup_levels(root, "cpu"):
        quota = _version_2(folder) if version == 2 else _version_1(folder)
        if quota is not None:
            yield quota


def _version_2(folder: Path) -> float | None:
    granted, _, period = read_text(folder / "cpu.max").partition(" ")
    return _share(granted, period)


def _version_1(folder: Path) -> float | None:
    return _share(read_text(folder / "cpu.cfs_quota_us"), read_text(folder / "cpu.cfs_period_us"))


def _share(granted: str, period: str) -> float | None:
    """Processors, of microseconds in a period; None where nothing limits them (`max`, -1, no such file)."""
    return int(granted) / int(period) if granted.isdigit() and period.isdigit() and int(period) else None
