"""`qwen3-compile diff`: what two engines have in common, and what not."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from qwen3_compile.accuracy_limits import FIGURES, format_figure, parse_figure
from qwen3_compile.cli.completion import EnginePath
from qwen3_compile.cli.inspect import describe
from qwen3_compile.cli.options import JSON, STRICT
from qwen3_compile.cli.output import print_json
from qwen3_compile.cli.quantities import size
from qwen3_compile.terminal import Screen, aligned
from qwen3_runtime.directory import read_engine_directory
from qwen3_runtime.engine_files import WEIGHTS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

NOTHING = "-"


@click.command()
@click.argument("first", metavar="A", type=EnginePath())
@click.argument("second", metavar="B", type=EnginePath())
@STRICT
@JSON
def command(first: Path, second: Path, strict: bool, as_json: bool) -> None:
    """Compare engines A and B: spec, sizes by part, accuracy and operators."""
    found = compare(first, second, strict=strict)
    print_json(found) if as_json else _show(found)


def compare(first: Path, second: Path, *, strict: bool = True) -> dict[str, Any]:
    """Values of both engines in pairs, JSON-able; null where an engine has none.

    Of the spec only what differs; of sizes, accuracy and operators everything.

    Raises:
        EngineError: one of them is no engine.
    """
    specs = [dict(_flat(read_engine_directory(engine, strict=strict).spec)) for engine in (first, second)]
    sides = [describe(engine, strict=strict) for engine in (first, second)]
    accuracy = [side["accuracy"] or {} for side in sides]
    figures = [{key: parse_figure(found.get(key)) for key in FIGURES if key in found} for found in accuracy]
    files = [{"all files": sum(side["files"].values()), WEIGHTS: side["files"][WEIGHTS]} for side in sides]
    parts = [known | side["bytes_by_part"] for known, side in zip(files, sides, strict=True)]
    return {
        "engines": [str(first), str(second)],
        "source": [f"{side['source']}@{side['revision']}" if side["revision"] else side["source"] for side in sides],
        "verified": [side["verified"] for side in sides],
        "spec": {key: values for key, values in _pairs(*specs).items() if values[0] != values[1]},
        "bytes_by_part": _pairs(*parts),
        "kv_cache_bytes_per_token": [side["kv_cache_bytes_per_token"] for side in sides],
        "accuracy": _pairs(*figures),
        "operators": _pairs(*(side["operators"] for side in sides)),
    }


def _flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in values.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _pairs(first: Mapping[str, Any], second: Mapping[str, Any]) -> dict[str, list[Any]]:
    return {key: [first.get(key), second.get(key)] for key in {**first, **second}}


def _show(found: Mapping[str, Any]) -> None:
    screen = Screen()
    rows = {"A": found["engines"][:1], "B": found["engines"][1:]}
    for name, cells in rows.items():
        screen.print(f"{name}  {cells[0]}")
    differing = {key: found[key] for key in ("source", "verified") if found[key][0] != found[key][1]}
    _table(screen, "spec", differing | found["spec"], _text)
    _table(screen, "bytes by part", found["bytes_by_part"] | {"KV per token": found["kv_cache_bytes_per_token"]}, size)
    named = {FIGURES[key].name: values for key, values in found["accuracy"].items()}
    _table(screen, "accuracy", named, format_figure)
    unequal = {name: values for name, values in found["operators"].items() if values[0] != values[1]}
    _table(screen, "operators", unequal, str)


def _table(screen: Screen, title: str, pairs: Mapping[str, list[Any]], written: Callable[[Any], str]) -> None:
    """A title and one line for each pair; a title alone says that nothing differs."""
    if not pairs:
        screen.print(f"{title}: the same", style="bold")
        return
    cells = [(name, *(NOTHING if value is None else written(value) for value in pair)) for name, pair in pairs.items()]
    head, *lines = aligned([(title, "A", "B"), *cells], right=(1, 2) if written is not _text else ())
    screen.print(head, style="bold")
    for line in lines:
        screen.print(line)


def _text(value: object) -> str:
    text = str(value).lower() if isinstance(value, bool) else str(value)
    return text if len(text) <= 40 else f"{text[:37]}..."
