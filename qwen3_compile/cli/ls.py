"""`qwen3-compile ls`: which engines there are."""

from __future__ import annotations

import time
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from qwen3_compile.cli.options import JSON
from qwen3_compile.cli.output import print_json, warn
from qwen3_compile.cli.quantities import age, size
from qwen3_compile.engine.listing import Listed, engines_in
from qwen3_compile.places import engines_dir
from qwen3_compile.terminal import aligned, write

if TYPE_CHECKING:
    from collections.abc import Sequence

_HEAD = ("name", "target", "weights", "size", "verified", "built", "path")


@click.command()
@click.argument("folders", metavar="[FOLDER]...", nargs=-1, type=click.Path(path_type=Path, exists=True))
@JSON
def command(folders: Sequence[Path], as_json: bool) -> None:
    """List the engines in FOLDERs, newest first.

    Without one: those in ./build, where `build` puts them, and those that `run` and `chat` keep.
    """
    found = engines_in(folders or (Path("build"), engines_dir()))
    if as_json:
        print_json([_document(engine) for engine in found])
        return
    for engine in found:
        if engine.problem is not None:
            warn(engine.problem)
    rows = [_row(engine) for engine in found if engine.problem is None]
    write("".join(f"{line}\n" for line in aligned([_HEAD, *rows], right=(3,))))


def _row(engine: Listed) -> tuple[str, ...]:
    verified = "yes" if engine.verified else "NO"
    built = age(time.time() - engine.built)
    return engine.name, engine.target, engine.precision, size(engine.bytes), verified, built, str(engine.path)


def _document(engine: Listed) -> dict[str, object]:
    built = datetime.fromtimestamp(engine.built, UTC).isoformat(timespec="seconds")
    return {**asdict(engine), "path": str(engine.path), "built": built}
