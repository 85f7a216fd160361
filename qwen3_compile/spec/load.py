"""From a YAML file and overrides to a checked `Spec`, or to one error that lists everything wrong."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from pydantic import ValidationError

from qwen3_compile.errors import SpecError
from qwen3_compile.spec.checks import cross_problems
from qwen3_compile.spec.document import Plain, parse_document, read_text
from qwen3_compile.spec.problems import schema_problems, show
from qwen3_compile.spec.schema import Spec
from qwen3_compile.spec.versions import upgraded

if TYPE_CHECKING:
    from collections.abc import Iterator

    from qwen3_compile.problem import KeyPath, Problem

Overrides: TypeAlias = Mapping[str, Any] | Sequence[str]


def load_spec(path: str | Path, overrides: Overrides = ()) -> Spec:
    """Read and check the spec in a file.

    Args:
        path: the YAML file. Relative sources in it count from its folder.
        overrides: as in `override_texts`, applied in order.

    Raises:
        SpecError: unreadable or wrong; one line for each thing wrong, with file and line.
    """
    path = Path(path)
    return parse_spec(read_text(path), path=path, overrides=override_texts(overrides))


def override_texts(overrides: Overrides) -> list[str]:
    """Overrides as `--set` takes them.

    Args:
        overrides: `key.path=value` texts, whose value is YAML and replaces what the key held; or a mapping of keys,
            dotted or nested, whose values replace those of the same key and leave the keys beside them alone.

    Raises:
        SpecError: they are neither.
    """
    if isinstance(overrides, Mapping):
        return [f"{'.'.join(keys)}={json.dumps(value)}" for keys, value in _leaves(overrides)]
    listed = isinstance(overrides, Sequence) and not isinstance(overrides, str)
    if not listed or not all(isinstance(text, str) for text in overrides):
        raise SpecError(f"overrides: expected a mapping or a list of key.path=value texts, found {show(overrides)}")
    return list(overrides)


def _leaves(values: Mapping[str, Any]) -> Iterator[tuple[tuple[str, ...], Any]]:
    for key, value in values.items():
        if isinstance(value, Mapping) and value:
            yield from (((str(key), *inner), leaf) for inner, leaf in _leaves(value))
        else:
            yield (str(key),), value


def parse_spec(text: str, *, path: str | Path = "<spec>", overrides: Sequence[str] = ()) -> Spec:
    """Read and check the spec in a string.

    Args:
        text: the YAML document.
        path: the file it came from: named in errors, and relative sources count from its folder.
        overrides: as in `load_spec`.

    Raises:
        SpecError: as `load_spec`.
    """
    document = parse_document(text, str(path))
    origins = {key: f"{path}:{line}: " for key, line in document.lines.items()}
    value = document.value
    for override in overrides:
        value, origins = _override(value, override, origins)
    return _validate(value, origins, str(path), Path(path).parent)


def spec_from_mapping(values: Mapping[str, Any], *, where: str, base_dir: Path) -> Spec:
    """Check a spec held as plain values, such as the resolved spec in an engine's manifest.

    Args:
        values: what `Spec.resolved` returns.
        where: what to call it in errors.
        base_dir: the folder from which relative sources count.

    Raises:
        SpecError: as `load_spec`.
    """
    return _validate(dict(values), {}, where, base_dir)


def _validate(value: Plain, origins: dict[KeyPath, str], where: str, base_dir: Path) -> Spec:
    if not isinstance(value, dict):
        raise SpecError(f"{where}: expected a mapping of keys, found {show(value)}")
    value, notes, old = upgraded(value)
    try:
        spec = Spec.model_validate(value)
    except ValidationError as error:
        raise _error([*old, *schema_problems(error, Spec, value)], origins, where) from None
    if problems := old or cross_problems(spec):
        raise _error(problems, origins, where)
    spec._base_dir, spec._notes = base_dir, tuple(f"{where}: {note}" for note in notes)
    return spec


def _error(problems: Sequence[Problem], origins: dict[KeyPath, str], where: str) -> SpecError:
    return SpecError("\n".join(_origin(problem.path, origins, where) + str(problem) for problem in problems))


def _origin(path: KeyPath, origins: dict[KeyPath, str], where: str) -> str:
    """Find where a key was written, or the nearest section around it that was."""
    for length in range(len(path), -1, -1):
        if origin := origins.get(path[:length]):
            return origin
    return f"{where}: "


def _override(value: Plain, override: str, origins: dict[KeyPath, str]) -> tuple[Plain, dict[KeyPath, str]]:
    """Return a document with one key replaced, and where each of its keys was written then."""
    name, equals, text = override.partition("=")
    keys = tuple(name.strip().split("."))
    if not equals or not all(keys):
        raise SpecError(f"--set: expected key.path=value, found {show(override)}")
    where = f"--set {'.'.join(keys)}"
    new = parse_document(text, where).value
    outside = {path: origin for path, origin in origins.items() if path[: len(keys)] != keys}
    # Sections around it that the file does not have are made by it too.
    made = {keys[:length]: "--set " for length in range(1, len(keys) + 1)}
    return _with(value, keys, new, where), made | outside


def _with(value: Plain, keys: tuple[str, ...], new: Plain, where: str) -> Plain:
    """Return a copy of nested mappings with one value replaced; null counts as an empty mapping."""
    if not keys:
        return new
    if value is not None and not isinstance(value, dict):
        raise SpecError(f"{where}: {keys[0]!r} is set inside {show(value)}, which is not a mapping")
    mapping = value or {}
    return {**mapping, keys[0]: _with(mapping.get(keys[0]), keys[1:], new, where)}
