"""How many processor cores this process may use."""

from __future__ import annotations

import math
import os
from pathlib import Path

_CPUS = Path("/sys/devices/system/cpu")
_CGROUP_QUOTA = Path("/sys/fs/cgroup/cpu.max")


def physical_cores(cpus: Path = _CPUS, quota: Path = _CGROUP_QUOTA) -> int:
    """Count the physical cores that the process is allowed on, at least one.

    Hardware threads of one core count as one, and a container's CPU quota (cgroup v2) is a limit: more threads
    than that only wait for each other.

    Args:
        cpus: where the kernel describes the processors.
        quota: where the kernel tells the quota, as `<microseconds or max> <period>`.
    """
    try:
        allowed = os.sched_getaffinity(0)
    except AttributeError:  # not Linux
        return os.cpu_count() or 1
    cores = len({_read(cpus / f"cpu{cpu}" / "topology" / "thread_siblings_list") or str(cpu) for cpu in allowed})
    granted, _, period = (_read(quota) or "max").partition(" ")
    if granted.isdigit() and period.isdigit() and int(period) > 0:
        cores = min(cores, math.ceil(int(granted) / int(period)))
    return max(cores, 1)


def _read(path: Path) -> str | None:
    try:
        return path.read_text(encoding="ascii").strip()
    except OSError:
        return None
