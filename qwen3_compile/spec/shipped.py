"""The specs that come with the package: one file for each released text variant."""

from __future__ import annotations

import re
from difflib import get_close_matches
from pathlib import Path

from qwen3_compile.errors import SpecError

_REPOSITORY = re.compile(r"^  source: hf://([\w./-]+)@", re.MULTILINE)  # as every shipped spec is written
_PACKAGE = Path(__file__).resolve().parents[1]
PACKAGED = _PACKAGE / "specs"  # where a wheel has them; in a source tree they lie beside the package


def shipped_specs() -> dict[str, Path]:
    """Return the shipped specs by name: beside the package in a wheel, at the root in a source tree."""
    for folder in (PACKAGED, _PACKAGE.parent / "specs"):
        if folder.is_dir():
            return {path.stem: path for path in sorted(folder.glob("*.yaml"))}
    return {}


def shipped_repositories() -> dict[str, str]:
    """Return the hub's repository of each shipped spec that has one, by the spec's name; no spec is parsed."""
    found = {name: _REPOSITORY.search(path.read_text(encoding="utf-8")) for name, path in shipped_specs().items()}
    return {name: match[1] for name, match in found.items() if match is not None}


def find_spec(name: str) -> Path:
    """Return the file that a path or a shipped spec's name stands for.

    Raises:
        SpecError: neither a file nor a shipped name.
    """
    path = Path(name)
    if path.exists() and not path.is_dir():  # a pipe is as good as a file
        return path
    specs = shipped_specs()
    if name in specs:
        return specs[name]
    if path.is_dir():
        raise SpecError(f"{name}: a folder, expected a spec (a YAML file)")
    if path.suffix in (".yaml", ".yml") or len(path.parts) > 1:
        raise SpecError(f"{name}: no such file")
    near = get_close_matches(name, specs, n=1, cutoff=0.5)
    hint = f"did you mean {near[0]}?" if near else "see `qwen3-compile specs list`"
    raise SpecError(f"{name}: neither a file nor a shipped spec; {hint}")
