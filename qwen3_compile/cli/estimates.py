"""What a build would take, as lines."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qwen3_compile.cli.quantities import duration, size
from qwen3_compile.terminal import aligned, write

if TYPE_CHECKING:
    from qwen3_compile.pipeline.estimate import Estimate


def show_estimate(found: Estimate) -> None:
    """Write an estimate to stdout: a line for each thing that the build takes."""
    download = "unknown: the hub cannot be reached" if found.download_bytes is None else size(found.download_bytes)
    kept = f" + {size(found.cache_bytes)} in the build cache" if found.cache_bytes else ""
    fetched = f" + {download} of downloads" if found.download_bytes else ""
    rows = [
        ("model", f"{found.name}, {found.parameters / 1e9:.2f}B parameters"),
        ("source", found.source),
        ("download", download),
        ("engine", size(found.engine_bytes)),
        ("disk", f"{size(found.disk_bytes)}: the engine{kept}{fetched}"),
        ("memory", f"about {size(found.memory_bytes)} at the peak"),
        ("time", f"roughly {duration(found.seconds)} on {found.threads} threads ({found.time_basis})"),
        ("KV cache", f"{size(found.kv_cache_bytes_per_sequence)} per sequence of {found.max_context:,} tokens"),
    ]
    write("".join(f"{line}\n" for line in aligned(rows)))
