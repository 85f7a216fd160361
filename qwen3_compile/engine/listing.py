"""The engines in a folder, by their manifests alone: nothing is hashed, so that a list is there at once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from qwen3_compile.targets import find_target
from qwen3_runtime.engine_files import MANIFEST
from qwen3_runtime.errors import EngineError
from qwen3_runtime.manifest import MAX_MANIFEST_BYTES, parse_manifest

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from qwen3_runtime.manifest import Manifest


@dataclass(frozen=True)
class Listed:
    """One line of a list.

    Attributes:
        name: of the engine; of one whose manifest cannot be read, that of its folder.
        path: its directory.
        task: what it is for.
        target: its name.
        precision: the format of its weights.
        bytes: of all its files.
        verified: whether it was compared with PyTorch when it was built.
        built: seconds since 1970 of its manifest's last change.
        problem: why its manifest cannot be read; the fields between are empty then.
    """

    name: str
    path: Path
    task: str
    target: str
    precision: str
    bytes: int
    verified: bool
    built: float
    problem: str | None = None


def engines_in(folders: Iterable[Path]) -> list[Listed]:
    """List folders that are engines, and the engines right inside folders that are none; newest first."""
    found: dict[Path, Listed] = {}
    for folder in folders:
        inside = [folder] if (folder / MANIFEST).is_file() else sorted(folder.iterdir()) if folder.is_dir() else []
        for path in inside:
            if not path.name.startswith(".") and (path / MANIFEST).is_file():  # hidden: a build that is not done
                found.setdefault(path.resolve(), _read(path))
    return sorted(found.values(), key=lambda engine: -engine.built)


def _read(path: Path) -> Listed:
    manifest_path = path / MANIFEST
    built = manifest_path.stat().st_mtime
    try:
        with manifest_path.open("rb") as file:
            manifest = parse_manifest(file.read(MAX_MANIFEST_BYTES), str(manifest_path))
    except (EngineError, OSError) as error:
        return Listed(path.resolve().name, path, "", "", "", 0, verified=False, built=built, problem=str(error))
    return Listed(
        name=manifest.name,
        path=path,
        task=manifest.io.task,
        target=_target(manifest),
        precision=_precision(manifest),
        bytes=sum(entry.size for entry in manifest.files.values()),
        verified=manifest.verified,
        built=built,
    )


def _target(manifest: Manifest) -> str:
    target = manifest.target
    known = find_target(target.backend, target.provider, target.plugins)
    return known.name if known else f"{target.backend} on {target.provider}"


def _precision(manifest: Manifest) -> str:
    precision = manifest.spec.get("precision")
    return str(precision.get("weights", "")) if isinstance(precision, dict) else ""
