"""How much memory this process may still use: what the default size of a KV cache is a share of."""

from __future__ import annotations

import re
from pathlib import Path

from qwen3_runtime.backends.cgroups import cgroup_levels, read_text


def available_memory(root: Path = Path("/")) -> int | None:
    """Bytes that the process can use without swapping; None where the system does not say.

    The least of what the system has left and of what each cgroup around the process leaves it. Pages of files that
    nobody used lately count as free: the kernel gives them up when memory is asked for.

    Args:
        root: where `/proc` and `/sys` are.
    """
    found = re.search(r"^MemAvailable:\s+(\d+) kB$", read_text(root / "proc/meminfo"), re.MULTILINE)
    if found is None:
        return None
    left = [int(found[1]) * 1024]
    for version, folder in cgroup_levels(root, "memory"):
        limit, used, files = (
            ("memory.max", "memory.current", "inactive_file")
            if version == 2
            else ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
        )
        granted, held = read_text(folder / limit), read_text(folder / used)
        if granted.isdigit() and held.isdigit():  # else "max", or no such file
            idle = re.search(rf"^{files} (\d+)$", read_text(folder / "memory.stat"), re.MULTILINE)
            left.append(max(0, int(granted) - int(held) + (int(idle[1]) if idle else 0)))
    return min(left)
