"""Validates an engine after the fact, against the checkpoint that its manifest names."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from qwen3_compile.checkpoint import open_checkpoint
from qwen3_compile.engine.recorded import recorded_spec
from qwen3_compile.errors import CheckpointError, CompileError
from qwen3_compile.validate.run import measure_accuracy, write_report
from qwen3_runtime.directory import read_engine_directory
from qwen3_runtime.engine_files import MANIFEST

if TYPE_CHECKING:
    from collections.abc import Callable

    from qwen3_compile.spec import AccuracyLimits
    from qwen3_compile.validate.report import AccuracyReport


def revalidate(
    engine: Path,
    *,
    source: str | None = None,
    report_dir: Path | None = None,
    threads: int | None = None,
    progress: Callable[[str], None] | None = None,
    plan: bool = False,
    strict: bool = True,
) -> tuple[AccuracyReport, AccuracyLimits]:
    """Measure a published engine again, with the weights it was built from.

    Args:
        engine: the engine directory, which stays as it is.
        source: where the checkpoint is now; the default is the source of the engine's spec.
        report_dir: where to write `accuracy.json` and `report.html`, made if missing; `None` writes nothing.
        threads: threads of the session.
        progress: told what is being done.
        plan: execute the plan of a TensorRT engine, on the GPU, and not the graph that it was built from.
        strict: as in `Engine.open`.

    Returns:
        The report, and the accuracy limits of the engine's spec.

    Raises:
        CheckpointError: the checkpoint cannot be read, or is not the one that the engine was built from.
        CompileError: `plan` is asked of an engine that has none.
        EngineError: a file is damaged, the weights and the plan among them.
    """
    manifest = read_engine_directory(engine, "full", strict=strict)
    if plan and not manifest.target.has_plan:
        raise CompileError(f"{engine}: target {manifest.target.backend} has no plan; omit --plan")
    spec = recorded_spec(manifest, engine)
    checkpoint = open_checkpoint(
        source or manifest.source["uri"],
        base_dir=Path() if source else spec.base_dir,
        expected=spec.graph_architecture(),
    )
    found = {file.name: file.sha256 for file in checkpoint.files()}
    for file in manifest.source["files"]:
        if found.get(file["name"]) != file["sha256"]:
            raise CheckpointError(
                f"{checkpoint.uri}: {file['name']} has SHA-256 {found.get(file['name'], '(missing)')[:16]}, the engine "
                f"was built from {file['sha256'][:16]}: pass --source with the checkpoint of that build"
            )
    report = measure_accuracy(engine, checkpoint, spec, threads=threads, progress=progress, plan=plan, strict=strict)
    if report_dir is not None:
        report_dir.mkdir(parents=True, exist_ok=True)
        document = json.loads((engine / MANIFEST).read_text(encoding="utf-8"))
        write_report(report, spec, report_dir, document)
    return report, spec.accuracy
