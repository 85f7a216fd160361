"""The control groups that this process is in, with all that are around it: what they limit, the process gets."""

from __future__ import annotations

import re
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


def cgroup_levels(root: Path, controller: str) -> Iterator[tuple[int, Path]]:
    """Version and folder of the process's own cgroup and of every one around it, in each hierarchy of a controller.

    Args:
        root: where `/proc` and `/sys` are.
        controller: `cpu` or `memory`.
    """
    own: dict[str, str] = {}
    for line in read_text(root / "proc/self/cgroup").splitlines():  # "4:cpu,cpuacct:/a/b", in version 2 "0::/a/b"
        _, _, rest = line.partition(":")
        names, _, path = rest.partition(":")
        own.update(dict.fromkeys(names.split(","), path))
    for version, controllers, inside, point in _hierarchies(root):
        name = "" if version == 2 else controller
        if name in own and (not name or name in controllers):
            folder = _below(own[name], inside)
            for level in (folder, *folder.parents):
                yield version, point / level


def read_text(path: Path) -> str:
    """The text of a file, or nothing where it cannot be read."""
    try:
        return path.read_text(encoding="utf-8").strip()
    except (OSError, ValueError):
        return ""


def _hierarchies(root: Path) -> Iterator[tuple[int, list[str], str, Path]]:
    """Version, controllers, cgroup at the mount point, and mount point of each cgroup file system; see proc(5)."""
    for line in read_text(root / "proc/self/mountinfo").splitlines():
        mount, _, system = line.partition(" - ")
        place, kind = mount.split(), system.split()
        if len(place) > 4 and len(kind) > 2 and kind[0] in ("cgroup", "cgroup2"):
            inside, point = (re.sub(r"\\(\d{3})", _character, text) for text in place[3:5])
            yield 2 if kind[0] == "cgroup2" else 1, kind[2].split(","), inside, root / point.lstrip("/")


def _character(octal: re.Match[str]) -> str:
    return chr(int(octal[1], 8))


def _below(path: str, inside: str) -> PurePosixPath:
    """A cgroup's folder below the mount point, where the cgroup `inside` is mounted; a container may see but that."""
    found, top = PurePosixPath(path), PurePosixPath(inside)
    known = found.is_relative_to(top) and ".." not in found.parts  # a namespace shows those around it as `..`
    return found.relative_to(top) if known else PurePosixPath()
