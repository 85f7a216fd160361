"""What a report says of the engine itself, from its manifest: nothing that differs between two builds of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qwen3_runtime.engine_files import MEASURED

if TYPE_CHECKING:
    from collections.abc import Mapping


def facts(manifest: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Label and text of each fact.

    Args:
        manifest: an engine's, as JSON values; files that are measured need not be in it.
    """
    source, spec = manifest["source"], manifest["spec"]
    files = {name: entry["size"] for name, entry in manifest["files"].items() if name not in MEASURED}
    hashes = ", ".join(f"{file['name']} {file['sha256'][:12]}" for file in source["files"][:4])
    more = len(source["files"]) - 4
    return [
        ("source", source["uri"]),
        ("revision", source["revision"] or "none: the files are identified by their hashes"),
        ("files of the source", f"{hashes}{f' and {more} more' if more > 0 else ''} (first digits of SHA-256)"),
        ("target", _listed(manifest["target"])),
        ("precision", _listed(spec["precision"])),
        ("limits", _listed(spec["limits"])),
        ("size", f"{sum(files.values()) / 1e6:.1f} MB in {len(files)} files"),
        ("built with", _listed(manifest["tools"])),
    ]


def _listed(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{key} {_shown(value)}" for key, value in values.items() if value not in (None, [], {}))


def _shown(value: object) -> str:
    if isinstance(value, dict):
        return f"({_listed(value)})"
    return " ".join(map(str, value)) if isinstance(value, list) else str(value)
