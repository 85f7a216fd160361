"""How many processor cores this process may use: the default number of threads of sessions and builds."""

from __future__ import annotations

import math
import os
import re
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

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
    cores = len({_read(cpus / f"cpu{cpu}" / "topology/thread_siblings_list") or str(cpu) for cpu in allowed})
    return max(1, min([cores, *(math.ceil(quota) for quota in _quotas(root))]))


def _quotas(root: Path) -> Iterator[float]:
    """CPU quotas in processors, for each level of each hierarchy that has one."""
    own: dict[str, str] = {}
    for line in _read(root / "proc/self/cgroup").splitlines():  # "4:cpu,cpuacct:/a/b", in version 2 "0::/a/b"
        _, _, rest = line.partition(":")
        names, _, path = rest.partition(":")
        own.update(dict.fromkeys(names.split(","), path))
    for kind, controllers, inside, point in _hierarchies(root):
        name = "" if kind == "cgroup2" else "cpu"
        if name in own and (not name or name in controllers):
            folder = _below(own[name], inside)
            for level in (folder, *folder.parents):
                quota = _version_2(point / level) if kind == "cgroup2" else _version_1(point / level)
                if quota is not None:
                    yield quota


def _hierarchies(root: Path) -> Iterator[tuple[str, list[str], str, Path]]:
    """Kind, controllers, cgroup at the mount point, and mount point of each cgroup file system (proc(5), mountinfo)."""
    for line in _read(root / "proc/self/mountinfo").splitlines():
        mount, _, system = line.partition(" - ")
        place, kind = mount.split(), system.split()
        if len(place) > 4 and len(kind) > 2 and kind[0] in ("cgroup", "cgroup2"):
            inside, point = (re.sub(r"\\(\d{3})", _character, text) for text in place[3:5])
            yield kind[0], kind[2].split(","), inside, root / point.lstrip("/")


def _character(octal: re.Match[str]) -> str:
    return chr(int(octal[1], 8))


def _below(path: str, inside: str) -> PurePosixPath:
    """A cgroup's folder below the mount point, where the cgroup `inside` is mounted; a container may see but that."""
    found, top = PurePosixPath(path), PurePosixPath(inside)
    known = found.is_relative_to(top) and ".." not in found.parts  # a namespace shows those around it as `..`
    return found.relative_to(top) if known else PurePosixPath()


def _version_2(folder: Path) -> float | None:
    granted, _, period = _read(folder / "cpu.max").partition(" ")
    return _share(granted, period)


def _version_1(folder: Path) -> float | None:
    return _share(_read(folder / "cpu.cfs_quota_us"), _read(folder / "cpu.cfs_period_us"))


def _share(granted: str, period: str) -> float | None:
    """Processors, of microseconds in a period; None where nothing limits them (`max`, -1, no such file)."""
    return int(granted) / int(period) if granted.isdigit() and period.isdigit() and int(period) else None


def _read(path: Path) -> str:
    """The text of a file, or nothing where it cannot be read."""
    try:
        return path.read_text(encoding="utf-8").strip()
    except (OSError, ValueError):
        return ""
