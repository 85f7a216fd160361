"""Engines that are built once for a model and used again: by `run` and `chat`, for a name instead of an engine.

Each lies in a folder of the user's, under its name and a key of all that it is made from: the spec, the commit on the
hub or the files of the folder, and the version of this program. Anything else there builds beside it.
"""

from __future__ import annotations

import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock

from qwen3_compile.errors import CompileError
from qwen3_compile.pipeline.fingerprint import digest
from qwen3_compile.pipeline.orchestrate import build
from qwen3_compile.spec import FolderSource, HubSource, parse_source, spec_from_mapping
from qwen3_runtime import __version__
from qwen3_runtime.directory import read_engine_directory
from qwen3_runtime.errors import EngineError
from qwen3_runtime.manifest import SCHEMA_VERSION

if TYPE_CHECKING:
    from collections.abc import Callable

    from qwen3_compile.pipeline.progress import Progress
    from qwen3_compile.spec import Spec

_COMMIT = re.compile(r"[0-9a-f]{40}")
_KEY_LETTERS = 12


@dataclass(frozen=True)
class Kept:
    """Where an engine of a spec belongs.

    Attributes:
        spec: with its sources pinned: commits instead of branches, absolute folders.
        path: the engine's directory, whether it is there or not.
    """

    spec: Spec
    path: Path


def locate(spec: Spec, folder: Path) -> Kept:
    """Find the place of a spec's engine in a folder of engines. A branch on the hub is resolved to its commit.

    Raises:
        CheckpointError: the hub does not know the source, or cannot be asked and nothing is cached.
    """
    values = spec.resolved()
    found: dict[str, Any] = {}
    for key in ("source", "tokenizer"):
        if values["model"][key] is not None:
            values["model"][key], found[key] = _pin(values["model"][key], spec.base_dir)
    pinned = spec_from_mapping(values, where=spec.name, base_dir=Path())
    key = digest({"spec": values, "files": found, "program": __version__, "manifest": SCHEMA_VERSION})
    return Kept(pinned, folder / f"{spec.name}-{key[:_KEY_LETTERS]}")


def build_kept(
    place: Kept,
    *,
    cache_dir: Path | None,
    progress: Progress,
    threads: int | None = None,
    tell: Callable[[str], None],
) -> Path:
    """Return the engine of a spec, building it where it is not there or cannot be opened by this version.

    Two processes that want the same engine build it once: the second waits.

    Args:
        place: from `locate`.
        cache_dir: results of earlier builds; None keeps and looks up nothing.
        progress: told how a build goes.
        threads: as for `build`.
        tell: told in one line what is reused or built.

    Raises:
        CompileError: as `build`.
    """
    try:
        place.path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise CompileError(
            f"{place.path.parent}: cannot store engines here ({error.strerror}); set QWEN3_COMPILE_ENGINES"
        ) from None
    with FileLock(place.path.with_name(f".{place.path.name}.lock")):
        if place.path.exists():
            try:
                read_engine_directory(place.path)
            except EngineError as error:
                tell(f"building again: {error}")
                shutil.rmtree(place.path)  # ours alone; `build` would refuse to replace a folder with strangers in it
            else:
                tell(f"using the engine built before: {place.path}")
                return place.path
        tell(f"building {place.spec.name} from {place.spec.model.source}: {place.path}")
        build(place.spec, place.path, cache_dir=cache_dir, progress=progress, threads=threads)
    return place.path


def _pin(text: str, base_dir: Path) -> tuple[str, Any]:
    """A source that stays what it is, and what else tells one state of it from another."""
    source = parse_source(text)
    if isinstance(source, HubSource):
        if _COMMIT.fullmatch(source.revision):
            return text, None
        from qwen3_compile.checkpoint.hub import hub_snapshot

        return str(HubSource(source.repo, hub_snapshot(source.repo, source.revision).commit)), None
    if isinstance(source, FolderSource):
        folder = (base_dir / source.path.expanduser()).resolve()
        return str(folder), sorted(_states(folder))
    return text, None


def _states(folder: Path) -> list[list[str | int]]:
    """Name, size and time of change of every file: to hash the weights would take longer than to open the engine."""
    if not folder.is_dir():
        return []
    files = [(path, path.stat()) for path in folder.iterdir() if path.is_file()]
    return [[path.name, status.st_size, status.st_mtime_ns] for path, status in files]
