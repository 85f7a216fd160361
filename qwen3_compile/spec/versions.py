"""Specs of version 1, and old names in overrides, under today's names."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

VERSION = 2


def upgraded(document: Mapping[str, Any]) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Return a spec's plain values under today's names, and a line for each old name that was read.

    Version 1 said `backend: ort-cpu` for ONNX Runtime with our operators and `backend: ort` for ONNX Runtime with its
    own, and had `attention` and `moe` of TensorRT, each `native` or `plugin`. Values that version 1 did not allow pass
    through, for the schema to report. `ort-cpu` is read in today's version too: `--set target.backend=ort-cpu`.
    """
    is_old = document.get("schema_version") == 1 and document["schema_version"] is not True
    target = document.get("target")
    known = target is None or isinstance(target, dict)
    section: dict[str, Any] = dict(target or {}) if known else {}
    if not known or not (is_old or section.get("backend") == "ort-cpu"):
        return dict(document), ()
    written = dict(section)
    if is_old:
        names = [name for name in ("attention", "moe") if section.get(name) in (None, "native", "plugin")]
        listed = [name for name in names if section.pop(name, None) == "plugin"]
        if listed or section.get("backend") == "ort":
            section.setdefault("plugins", listed or "none")
    if section.get("backend", "ort-cpu") == "ort-cpu":
        section |= {"backend": "ort", "plugins": section.get("plugins", "all")}
    changed = {"target": section} if target is not None or section != {"backend": "ort", "plugins": "all"} else {}
    notes = []
    if is_old:
        now = f" and target: {_shown(section)}" if changed and section != written else ""
        notes.append(f"schema_version 1 is read as version {VERSION}: write schema_version: {VERSION}{now}")
    elif section != written:
        notes.append(f"target.backend ort-cpu is an old name: write target: {_shown(section)}")
    return {**document, **changed, **({"schema_version": VERSION} if is_old else {})}, tuple(notes)


def _shown(section: Mapping[str, Any]) -> str:
    """A section as YAML in one line."""
    return "{" + ", ".join(f"{key}: {_value(value)}" for key, value in section.items() if value is not None) + "}"


def _value(value: object) -> str:
    return value if isinstance(value, str) and value.replace("-", "").isalpha() else json.dumps(value)
