"""`qwen3-compile build`: a spec becomes a verified engine."""

from __future__ import annotations

import contextlib
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from qwen3_compile import places
from qwen3_compile.cli.building import show_progress
from qwen3_compile.cli.completion import ModelArgument
from qwen3_compile.cli.estimates import show_estimate
from qwen3_compile.cli.options import JSON, OVERRIDES
from qwen3_compile.cli.output import print_json, remark, warn
from qwen3_compile.cli.quantities import size
from qwen3_compile.engine.recorded import recorded_spec
from qwen3_compile.pipeline import EngineInfo, build
from qwen3_compile.pipeline.cache import UNUSED_DAYS, Cache
from qwen3_compile.pipeline.estimate import estimate
from qwen3_compile.resolve import resolve
from qwen3_compile.spec.cautions import cautions
from qwen3_compile.stopping import stop_on_signals
from qwen3_runtime.directory import read_engine_directory

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from qwen3_compile.spec import Spec
    from qwen3_runtime.manifest import Manifest


@click.command()
@click.argument("spec", metavar="[MODEL]", type=ModelArgument(), required=False)
@click.option("-o", "--output", type=click.Path(path_type=Path), help="Engine directory; default build/<name>.")
@OVERRIDES
@click.option(
    "--locked",
    "engine",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    metavar="ENGINE",
    help="Build ENGINE again from its manifest; refuse inputs that changed. MODEL may be left out.",
)
@click.option("--force", is_flag=True, help="Replace an engine that is already there.")
@click.option("--no-validate", is_flag=True, help="Do not compare with PyTorch; the engine is marked as not verified.")
@click.option("--no-cache", is_flag=True, help="Do not read or write the build cache.")
@click.option(
    "--cache-dir",
    type=click.Path(path_type=Path),
    help="Folder of the build cache; default $QWEN3_COMPILE_CACHE, or qwen3-compile in the user's cache.",
)
@click.option(
    "--prune-cache", is_flag=True, help=f"Remove cached results unused for {UNUSED_DAYS} days, after the build."
)
@click.option(
    "--threads",
    type=click.IntRange(1, 1024),
    help="Threads of packing and validation; default: one for each physical core.",
)
@click.option("--dry-run", is_flag=True, help="Estimate download, disk, memory and time; build nothing.")
@JSON
def command(
    spec: str | None,
    output: Path | None,
    overrides: Sequence[str],
    engine: Path | None,
    force: bool,
    no_validate: bool,
    no_cache: bool,
    cache_dir: Path | None,
    prune_cache: bool,
    threads: int | None,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Compile MODEL into a verified engine.

    MODEL is a spec file, the name of a shipped spec (qwen3-0.6b), a repository on the Hugging Face Hub
    (Qwen/Qwen3-0.6B, or Qwen/Qwen3-0.6B@REVISION) or a folder with a checkpoint.
    """
    if prune_cache and no_cache:
        raise click.UsageError("--prune-cache and --no-cache exclude each other: use one of them")
    stop_on_signals()
    locked = None if engine is None else read_engine_directory(engine)
    with _downloads(dry_run=dry_run) as downloads:
        what = _spec(spec, overrides, locked, engine, downloads)
    for caution in (*what.notes, *cautions(what)):
        warn(f"{caution}")
    if dry_run:
        found = estimate(what, threads=threads, cached=not no_cache)
        print_json(asdict(found)) if as_json else show_estimate(found)
        return
    cache = None if no_cache else cache_dir or places.cache_dir()
    with show_progress() as progress:
        info = build(
            what,
            output or Path("build") / what.name,
            locked=locked,
            cache_dir=cache,
            progress=progress,
            validate=not no_validate,
            force=force,
            threads=threads,
        )
    if prune_cache:
        freed = size(Cache(cache).prune(UNUSED_DAYS))
        remark(f"cache: {freed} freed; `qwen3-compile cache prune` does it without a build")
    if as_json:
        print_json(_summary(info))
    _tell(info, engine)


@contextlib.contextmanager
def _downloads(*, dry_run: bool) -> Iterator[Path | None]:
    """Where files that decide the spec are downloaded to: the user's cache; a dry run leaves nothing behind."""
    if not dry_run:
        yield None
        return
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder)


def _spec(
    name: str | None,
    overrides: Sequence[str],
    locked: Manifest | None,
    engine: Path | None,
    downloads: Path | None,
) -> Spec:
    if name is not None:
        resolved = resolve(name, overrides, cache_dir=downloads)
        if resolved.origin:
            remark(f"spec: {resolved.origin}", style="dim")
        return resolved.spec
    if locked is None or engine is None:
        raise click.UsageError("MODEL is missing: give a spec, a shipped spec's name, org/name of the hub or a folder")
    if overrides:
        raise click.UsageError("--set cannot change the spec of a locked build")
    return recorded_spec(locked, engine)


def _summary(info: EngineInfo) -> dict[str, Any]:
    return {
        "engine": str(info.path),
        "name": info.manifest["name"],
        "verified": info.manifest["verified"],
        "bytes": sum(entry["size"] for entry in info.manifest["files"].values()),
        "files": info.manifest["files"],
        "accuracy": None if info.accuracy is None else info.accuracy.to_json()["summary"],
        "differing": list(info.differing),
        "plan": None if info.plan is None else asdict(info.plan),
    }


def _tell(info: EngineInfo, locked: Path | None) -> None:
    total = sum(entry["size"] for entry in info.manifest["files"].values())
    state = "verified" if info.manifest["verified"] else "NOT VERIFIED"
    remark(f"{info.path}: {state}, {total / 1e6:.1f} MB")
    if not info.manifest["verified"]:
        warn("this engine was not compared with PyTorch; build it without --no-validate to verify it")
    for warning in info.plan.warnings if info.plan else ():
        warn(f"{info.manifest['target']['backend']}: {warning}")
    if locked is not None:
        remark(f"model, weights and tokenizer are byte-identical to what the manifest of {locked} records")
    for name in info.differing:
        remark(f"{name} was built again and differs from the one in {locked}")
