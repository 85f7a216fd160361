"""One build: its stages in a row, from the checkpoint to the published engine."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qwen3_compile.engine.failed import forget_failed, keep_failed
from qwen3_compile.engine.files import file_entry
from qwen3_compile.engine.publish import prepare_target, publication
from qwen3_compile.errors import AccuracyError
from qwen3_compile.pipeline.cache import Cache
from qwen3_compile.pipeline.context import BuildContext
from qwen3_compile.pipeline.lock import check_outcome, check_spec, check_target, check_tools
from qwen3_compile.pipeline.stage import Stage, run_stage
from qwen3_compile.pipeline.stages.calibrate import CalibrateStage
from qwen3_compile.pipeline.stages.checkpoint import CheckpointStage
from qwen3_compile.pipeline.stages.lower import LowerStage
from qwen3_compile.pipeline.stages.pack import PackStage
from qwen3_compile.pipeline.stages.plan import PlanStage
from qwen3_compile.pipeline.stages.trace import TraceStage
from qwen3_compile.pipeline.stages.validate import ReportStage, ValidateStage
from qwen3_compile.pipeline.suggestions import suggestions
from qwen3_compile.stopping import check_stopped
from qwen3_compile.targets import target_of
from qwen3_runtime.engine_files import MEASURED, REPORT

if TYPE_CHECKING:
    from collections.abc import Sequence

    from qwen3_compile.pipeline.progress import Progress
    from qwen3_compile.spec import Spec
    from qwen3_compile.tensorrt import PlanFacts
    from qwen3_compile.validate.report import AccuracyReport
    from qwen3_runtime.manifest import Manifest

# A build is this row of stages. The first ones make the graph; the others fill the engine's folder.
GRAPH_STAGES: tuple[type[Stage], ...] = (CheckpointStage, TraceStage, LowerStage)
FILE_STAGES: tuple[type[Stage], ...] = (CalibrateStage, PackStage, PlanStage)
VALIDATION_STAGES: tuple[type[Stage], ...] = (ValidateStage, ReportStage)


@dataclass(frozen=True)
class EngineInfo:
    """A published engine.

    Attributes:
        path: its directory.
        manifest: its manifest, as JSON-able values.
        accuracy: what validation measured; None when it was left out.
        differing: in a locked build, the measured files that differ from the locked engine's.
        plan: what TensorRT built; None for other targets.
    """

    path: Path
    manifest: dict[str, Any]
    accuracy: AccuracyReport | None
    differing: tuple[str, ...] = ()
    plan: PlanFacts | None = None


def build(
    spec: Spec,
    out_dir: Path,
    *,
    locked: Manifest | None = None,
    cache_dir: Path | None = None,
    progress: Progress | None = None,
    validate: bool = True,
    force: bool = False,
    threads: int | None = None,
) -> EngineInfo:
    """Build an engine; it appears at `out_dir` whole, or not at all.

    Args:
        spec: what to build.
        out_dir: the engine directory.
        locked: manifest of an engine that is to be built again: every input and the outcome are held to it.
        cache_dir: results of earlier builds; None keeps and looks up nothing.
        progress: told how it goes.
        validate: compare with eager PyTorch and judge by the accuracy limits. An engine built without says so.
        force: replace an engine at `out_dir`.
        threads: threads of packing and validation; default is one for each physical core. The engine does not depend on
            it; the last digits of measured figures may.

    Raises:
        AccuracyError: the engine misses the spec's accuracy limits; figures and report are kept in `<out_dir>.failed`.
        LockError: an input or the outcome differs from the locked engine's.
        CompileError: any other reason, in one line.
    """
    cache = Cache(cache_dir)
    cache.open()
    prepare_target(out_dir, force=force)
    target = target_of(spec.target)
    target.check_machine(spec, validate=validate)
    capabilities = target.find_capabilities(spec)
    with tempfile.TemporaryDirectory() as scratch:
        context = BuildContext.of(
            spec,
            Path(scratch),
            cache=cache,
            progress=progress,
            threads=threads,
            locked=locked,
            capabilities=capabilities,
        )
        if locked is not None:
            check_tools(locked, context.tools)
            check_spec(locked, _as_locked(spec, locked))
            check_target(locked, spec.target)
        context.progress.expect(expected_stages(spec, validate=validate))
        _run(GRAPH_STAGES, context)
        with publication(out_dir, force=force) as context.folder:
            context.files |= context.text.write(context.folder)
            _run(FILE_STAGES, context)
            if validate:
                _run(VALIDATION_STAGES, context)
                _judge(context, out_dir)
                context.files |= {name: file_entry(context.folder / name) for name in MEASURED}
            document = context.write_manifest(verified=validate)
            differing = check_outcome(locked, context.files) if locked is not None else []
            check_stopped()
    forget_failed(out_dir)
    return EngineInfo(out_dir, document, context.accuracy, tuple(differing), context.plan)


def expected_stages(spec: Spec, *, validate: bool) -> list[str]:
    """Names of the stages of a build, in order; each begins even where its result is in the cache."""
    target = target_of(spec.target)
    stages = (*GRAPH_STAGES, *FILE_STAGES, *(VALIDATION_STAGES if validate else ()))
    return [stage.name for stage in stages if stage.name is not None and stage.expected(spec, target)]


def _run(stages: Sequence[type[Stage]], context: BuildContext) -> None:
    for stage in stages:
        if stage.expected(context.spec, context.target):
            run_stage(stage(context))


def _judge(context: BuildContext, out_dir: Path) -> None:
    """Hold the engine to its limits; what was measured of one that misses them is kept beside the output.

    Raises:
        AccuracyError: it misses one; says where the report is and what to try.
    """
    spec, accuracy = context.spec, context.accuracy
    assert accuracy is not None  # noqa: S101 - the stages of validation are done
    try:
        accuracy.check(spec.accuracy)
    except AccuracyError as error:
        advice = suggestions(spec, accuracy.verdicts(spec.accuracy))
        raise AccuracyError("\n".join([str(error), _keep_measured(out_dir, context.folder), *advice])) from None


def _as_locked(spec: Spec, locked: Manifest) -> dict[str, Any]:
    """The spec, with the scaling of RoPE that the engine took from its checkpoint where the spec leaves it to that."""
    resolved = spec.resolved()
    return resolved if spec.rope_scaling else resolved | {"rope_scaling": locked.spec.get("rope_scaling")}


def _keep_measured(out_dir: Path, folder: Path) -> str:
    """Keep what was measured, and say where."""
    try:
        return f"plots and worst positions: {keep_failed(out_dir, folder) / REPORT}"
    except OSError as error:
        return f"the report could not be kept: {error}"
