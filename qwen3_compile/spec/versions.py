"""Specs of version 1, and old names in overrides, under today's names."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, NamedTuple

from qwen3_compile.problem import Problem
from qwen3_compile.spec.problems import show

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

VERSION = 2
PARTS = ("attention", "moe")  # keys of version 1


class Upgraded(NamedTuple):
    """A spec under today's names.

    Attributes:
        values: its plain values.
        notes: a line for each old name that was read.
        problems: old names whose value is wrong, or that stand beside the new name.
    """

    values: dict[str, Any]
    notes: tuple[str, ...] = ()
    problems: tuple[Problem, ...] = ()


def upgraded(document: Mapping[str, Any]) -> Upgraded:
    """Bring a spec's plain values under today's names.

    Version 1 said `backend: ort-cpu` for ONNX Runtime with our operators and `backend: ort` for ONNX Runtime with its
    own, and had `attention` and `moe` of TensorRT, each `native` or `plugin`. `ort-cpu` is read in today's version too:
    `--set target.backend=ort-cpu`. What the schema judges passes through.
    """
    is_old = type(document.get("schema_version")) is int and document["schema_version"] == 1
    current = {**document, "schema_version": VERSION} if is_old else dict(document)
    target = document.get("target")
    if target is not None and not isinstance(target, dict):
        return Upgraded(current)
    written: dict[str, Any] = target or {}
    problems = tuple(_problems(written, is_old=is_old))
    section = {key: value for key, value in written.items() if key not in PARTS}
    if is_old:
        listed = [part for part in PARTS if written.get(part) == "plugin"]
        if listed or section.get("backend") == "ort":
            section.setdefault("plugins", listed or "none")
    if section.get("backend", "ort-cpu" if is_old else None) == "ort-cpu":
        section |= {"backend": "ort", "plugins": section.get("plugins", "all")}
    if target is not None or section not in ({}, {"backend": "ort", "plugins": "all"}):
        current["target"] = section
    notes = []
    if is_old:
        now = f" and target: {_shown(section)}" if "target" in current and section != written else ""
        notes.append(f"schema_version 1 is read as version {VERSION}: write schema_version: {VERSION}{now}")
    elif section != written:
        notes.append(f"target.backend ort-cpu is an old name: write target: {_shown(section)}")
    return Upgraded(current, tuple(notes), problems)


def _problems(section: Mapping[str, Any], *, is_old: bool) -> Iterator[Problem]:
    plugins = section.get("plugins")
    parts = [part for part in PARTS if part in section]
    listed = ", ".join(part for part in parts if section[part] == "plugin")
    for part in parts:
        found = section[part]
        if not is_old:
            now = f"write plugins: [{listed}]" if found == "plugin" else "omit it"
            yield Problem(("target", part), f"a key of schema_version 1: {now}")
        elif found not in (None, "native", "plugin"):
            yield Problem(("target", part), f"expected 'native' or 'plugin', found {show(found)}")
        elif found is not None and plugins is not None:
            yield Problem(("target", "plugins"), f"found target.{part} as well, an old name: omit one of the two")
    if section.get("backend") == "ort-cpu" and plugins not in (None, "all"):
        yield Problem(
            ("target", "plugins"),
            "found target.backend ort-cpu as well, an old name of plugins: all with backend ort: write backend: ort",
        )


def _shown(section: Mapping[str, Any]) -> str:
    """A section as YAML in one line."""
    return "{" + ", ".join(f"{key}: {_value(value)}" for key, value in section.items() if value is not None) + "}"


def _value(value: object) -> str:
    return value if isinstance(value, str) and value.replace("-", "").isalpha() else json.dumps(value)
