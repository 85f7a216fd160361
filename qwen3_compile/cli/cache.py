"""`qwen3-compile cache`: what the build cache holds, and how to make it smaller."""

from __future__ import annotations

import time
from pathlib import Path

import click

from qwen3_compile import places
from qwen3_compile.cli.options import JSON
from qwen3_compile.cli.output import print_json
from qwen3_compile.cli.quantities import age, size
from qwen3_compile.pipeline.cache import UNUSED_DAYS, Cache, Entry
from qwen3_compile.terminal import aligned, write

PLACE = click.option(
    "--cache-dir",
    type=click.Path(path_type=Path),
    help="Default $QWEN3_COMPILE_CACHE, or qwen3-compile in the user's cache.",
)


@click.group()
def command() -> None:
    """Show, prune or clear the cache of builds. It holds no engines: `qwen3-compile ls` lists those."""


@command.command("dir")
def show_place() -> None:
    """Print the folder of the cache."""
    write(f"{places.cache_dir()}\n")


@command.command("ls")
@PLACE
@JSON
def list_entries(cache_dir: Path | None, as_json: bool) -> None:
    """Show the size of each stage in the cache; --json lists every entry."""
    entries = _cache(cache_dir).entries()
    if as_json:
        print_json([{"stage": e.stage, "key": e.key, "bytes": e.bytes, "used": round(e.used)} for e in entries])
        return
    stages = {entry.stage: [other for other in entries if other.stage == entry.stage] for entry in entries}
    rows = [_row(stage, held) for stage, held in stages.items()]
    total = [_row("all", entries)] if entries else []
    write("".join(f"{line}\n" for line in aligned([("stage", "entries", "size", "last used"), *rows, *total], (1, 2))))


@command.command("prune")
@click.option(
    "--days",
    type=click.FloatRange(min=0),
    default=UNUSED_DAYS,
    show_default=True,
    help="Remove results that no build has used for this many days.",
)
@PLACE
@JSON
def prune(days: float, cache_dir: Path | None, as_json: bool) -> None:
    """Remove results that no build has used recently."""
    _tell(_cache(cache_dir).prune(days), as_json=as_json)


@command.command("clear")
@PLACE
@JSON
def clear(cache_dir: Path | None, as_json: bool) -> None:
    """Remove all cached results; the next build runs every stage."""
    _tell(_cache(cache_dir).clear(), as_json=as_json)


def _cache(folder: Path | None) -> Cache:
    return Cache(folder or places.cache_dir())


def _row(name: str, entries: list[Entry]) -> tuple[str, ...]:
    used = age(time.time() - max(entry.used for entry in entries))
    return name, str(len(entries)), size(sum(entry.bytes for entry in entries)), used


def _tell(freed: int, *, as_json: bool) -> None:
    print_json({"bytes_freed": freed}) if as_json else write(f"{size(freed)} freed\n")
