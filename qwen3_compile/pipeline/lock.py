"""Comparing a build's inputs and outcome with those that an engine's manifest records."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qwen3_compile.errors import LockError
from qwen3_compile.spec.versions import upgraded
from qwen3_runtime.engine_files import MEASURED, MODEL, PLAN, WEIGHTS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from qwen3_compile.spec import TargetSection
    from qwen3_runtime.manifest import FileEntry, Manifest


def pinned_source(locked: Manifest, source: str) -> str:
    """The spec's source with the revision that the engine was made from."""
    revision = locked.source.get("revision")
    if not source.startswith("hf://") or not revision:
        return source
    return f"{source.partition('@')[0]}@{revision}"


def check_tools(locked: Manifest, tools: Mapping[str, str]) -> None:
    """Refuse other versions of the tools than the engine was built with.

    Raises:
        LockError: naming every tool that differs.
    """
    differ = [
        f"{name} {locked.tools.get(name, 'absent')} (here {tools.get(name, 'absent')})"
        for name in sorted({*locked.tools, *tools})
        if locked.tools.get(name) != tools.get(name)
    ]
    if differ:
        raise LockError(f"the engine was built with other tools: {', '.join(differ)}; install those versions")


def check_spec(locked: Manifest, resolved: Mapping[str, Any]) -> None:
    """Refuse a spec that differs from the engine's.

    Raises:
        LockError: naming the first key that differs.
    """
    difference = _first_difference("", upgraded(locked.spec)[0], resolved)
    if difference:
        raise LockError(f"the spec differs from the engine's: {difference}; omit the spec to build the engine's own")


def check_target(locked: Manifest, target: TargetSection) -> None:
    """Refuse an engine whose manifest names another target than its own spec: one of them was changed.

    Raises:
        LockError: with both.
    """
    found, recorded = target.plugins, locked.target
    plugins = found if isinstance(found, str) else tuple(found)
    if (recorded.backend, recorded.provider, recorded.plugins) != (target.backend, target.provider, plugins):
        raise LockError(
            f"the manifest's target is {recorded.backend} on {recorded.provider} with plugins {recorded.plugins}, "
            f"its spec says {target.backend} on {target.provider} with plugins {plugins}: the manifest was changed"
        )


def check_source(locked: Manifest, source: Mapping[str, Any], assets: Mapping[str, FileEntry]) -> None:
    """Refuse weights, configuration or tokenizer files other than those that the engine was made from.

    Raises:
        LockError: naming the file, the expected and the found hash.
    """
    expected = {file["name"]: file["sha256"] for file in locked.source.get("files", [])}
    found = {file["name"]: file["sha256"] for file in source["files"]}
    _compare(f"{source['uri']}: ", expected, found)
    made = {MODEL, WEIGHTS, PLAN, *MEASURED}
    _compare(
        "tokenizer files: ",
        {name: entry.sha256 for name, entry in locked.files.items() if name not in made},
        {name: entry.sha256 for name, entry in assets.items()},
    )


def check_outcome(locked: Manifest, files: Mapping[str, FileEntry]) -> list[str]:
    """Verify that the files that follow from the inputs are the engine's own; returns the measured ones that differ.

    A plan of TensorRT counts among those: what it is built from is held to, its bytes differ from build to build.

    Raises:
        LockError: naming the file, the expected and the found hash.
    """
    measured = (*MEASURED, PLAN)  # TensorRT's threads leave its tables in the order in which they finished

    def made(entries: Mapping[str, FileEntry]) -> dict[str, str]:
        return {name: entry.sha256 for name, entry in entries.items() if name not in measured}

    _compare("the build differs from the engine: ", made(locked.files), made(files))
    return [
        name
        for name in measured
        if name in files and name in locked.files and files[name].sha256 != locked.files[name].sha256
    ]


def _compare(what: str, expected: Mapping[str, str], found: Mapping[str, str]) -> None:
    for name in sorted({*expected, *found}):
        if name not in found:
            raise LockError(f"{what}{name} is missing; the engine was built with one")
        if name not in expected:
            raise LockError(f"{what}{name} is new; the engine was built without one")
        if expected[name] != found[name]:
            raise LockError(f"{what}{name} has changed: expected SHA-256 {expected[name]}, found {found[name]}")


def _first_difference(path: str, expected: object, found: object) -> str | None:
    if isinstance(expected, dict) and isinstance(found, dict):
        for key in sorted({*expected, *found}):
            if difference := _first_difference(f"{path}.{key}".lstrip("."), expected.get(key), found.get(key)):
                return difference
        return None
    return None if expected == found else f"{path} is {found!r}, the engine was built with {expected!r}"
