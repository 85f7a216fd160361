"""One build: checkpoint, trace, lower, pack, validate, publish."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from qwen3_compile.checkpoint import open_checkpoint
from qwen3_compile.checkpoint.input_scales import pre_scaled
from qwen3_compile.engine.failed import forget_failed, keep_failed
from qwen3_compile.engine.files import file_entry
from qwen3_compile.engine.manifest import manifest_document, source_record, write_manifest
from qwen3_compile.engine.publish import prepare_target, publication
from qwen3_compile.errors import AccuracyError
from qwen3_compile.pipeline import stages
from qwen3_compile.pipeline.cache import Cache
from qwen3_compile.pipeline.calibration_stage import RECORD, calibration_record, wanted_scales
from qwen3_compile.pipeline.fingerprint import TOOLS, tool_versions
from qwen3_compile.pipeline.lock import MEASURED, check_outcome, check_source, check_spec, check_tools, pinned_source
from qwen3_compile.pipeline.plan_stage import PLAN, engine_plan, plan_notes
from qwen3_compile.pipeline.progress import Progress, Silent
from qwen3_compile.pipeline.rope_scaling import scaling_note, with_own_scaling
from qwen3_compile.pipeline.suggestions import suggestions
from qwen3_compile.pipeline.text_assets import TextAssets, checked_text
from qwen3_compile.targets import target_of
from qwen3_runtime.backends.cores import physical_cores

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from qwen3_compile.checkpoint.contract import Checkpoint
    from qwen3_compile.spec import Spec
    from qwen3_compile.tensorrt import PlanFacts
    from qwen3_compile.validate import AccuracyReport
    from qwen3_runtime.manifest import FileEntry, Manifest


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
        validate: compare with eager PyTorch and hold the engine to its contract. An engine built without says so.
        force: replace an engine at `out_dir`.
        threads: threads of packing and validation; default is one for each physical core. The engine does not depend on
            it; the last digits of measured figures may.

    Raises:
        AccuracyError: the engine breaks the spec's contract; its figures and report are kept in `<out_dir>.failed`.
        LockError: an input or the outcome differs from the locked engine's.
        CompileError: any other reason, in one line.
    """
    progress = progress or Silent()
    cache = Cache(cache_dir)
    cache.open()
    threads = threads or physical_cores()
    target = target_of(spec.target)
    tools = tool_versions((*TOOLS, *target.tools))
    prepare_target(out_dir, force=force)
    capabilities = target.require(spec, validate=validate)
    if locked is not None:
        check_tools(locked, tools)
        check_spec(locked, _as_locked(spec, locked))
    progress.expect(expected_stages(spec, validate=validate))
    progress.begin("checkpoint")
    checkpoint, text = _opened(spec, locked, capabilities)
    found = [*checkpoint.notes, *scaling_note(spec, checkpoint.architecture)]
    spec = with_own_scaling(spec, checkpoint.architecture)
    source = source_record(checkpoint)
    if locked is not None:
        check_source(locked, source, text.entries())
        check_spec(locked, spec.resolved())
    size = sum(file["size"] for file in source["files"]) / 1e6
    progress.end("; ".join([f"{source['uri']}, {size:.1f} MB", *found, *text.notes]))

    semantic = stages.semantic_graph(spec, cache, progress)
    multiplied = pre_scaled(checkpoint) if target.keeps_pre_scales(spec) else ()
    lowered = stages.lowered_graph(spec, semantic, progress, pre_scaled=multiplied)
    with publication(out_dir, force=force) as folder:
        files = text.write(folder)
        scales: dict[str, float] = {}
        if wanted := wanted_scales(lowered):
            source[RECORD] = calibration_record(
                spec,
                wanted,
                checkpoint,
                source,
                text.tokens.tokenizer_vocab_size,
                folder,
                cache,
                progress,
                locked=locked,
            )
            scales = source[RECORD]["scales"]
        stages.packed_weights(
            spec,
            lowered,
            checkpoint,
            source,
            folder,
            cache,
            progress,
            threads=threads,
            scales=scales,
            pre_scaled=multiplied,
        )
        files |= {name: file_entry(folder / name) for name in (stages.MODEL, stages.WEIGHTS)}
        plan: PlanFacts | None = None
        notes: tuple[str, ...] = ()
        if capabilities is not None:
            plan = engine_plan(spec, capabilities, folder, files, cache, progress)
            notes = plan_notes(spec, plan, capabilities)
            files[PLAN] = file_entry(folder / PLAN)

        def describe(*, verified: bool) -> dict[str, Any]:
            document = manifest_document(
                spec,
                source=source,
                tools=tools,
                tokens=text.tokens,
                files=_sorted(files),
                verified=verified,
                capabilities=capabilities,
            )
            write_manifest(document, folder)
            return document

        document = describe(verified=False)
        accuracy = None
        if validate:
            accuracy = stages.measured_accuracy(
                spec, checkpoint, document, folder, cache, progress, threads=threads, notes=notes
            )
            try:
                accuracy.check(spec.accuracy)
            except AccuracyError as error:
                raise AccuracyError(
                    "\n".join(
                        [str(error), _kept(out_dir, folder), *suggestions(spec, accuracy.verdicts(spec.accuracy))]
                    )
                ) from None
            files |= {name: file_entry(folder / name) for name in MEASURED}
            document = describe(verified=True)
        differing = check_outcome(locked, files) if locked is not None else []
    forget_failed(out_dir)
    return EngineInfo(out_dir, document, accuracy, tuple(differing), plan)


def expected_stages(spec: Spec, *, validate: bool) -> list[str]:
    """The stages of a build, in order; each begins even where its result is in the cache."""
    target = target_of(spec.target)
    optional = {"calibrate": target.calibrates(spec), "plan": target.has_plan, "validate": validate}
    order = ("checkpoint", "trace", "lower", "calibrate", "pack", "plan", "validate")
    return [stage for stage in order if optional.get(stage, True)]


def _opened(spec: Spec, locked: Manifest | None, capabilities: Sequence[str] | None) -> tuple[Checkpoint, TextAssets]:
    """Open the checkpoint; its text files are checked before a byte of its weights is downloaded or read."""
    texts: list[TextAssets] = []
    checkpoint = open_checkpoint(
        spec.model.source if locked is None else pinned_source(locked, spec.model.source),
        base_dir=spec.base_dir,
        expected=spec.graph_architecture(),
        tokenizer=spec.model.tokenizer,
        examine=lambda assets: texts.append(checked_text(spec, assets, capabilities=capabilities)),
    )
    return checkpoint, texts[0]


def _as_locked(spec: Spec, locked: Manifest) -> dict[str, Any]:
    """The spec, with the scaling of RoPE that the engine took from its checkpoint where the spec leaves it to that."""
    resolved = spec.resolved()
    return resolved if spec.rope_scaling else resolved | {"rope_scaling": locked.spec.get("rope_scaling")}


def _kept(out_dir: Path, folder: Path) -> str:
    """Keep what was measured, and say where."""
    try:
        return f"plots and worst positions: {keep_failed(out_dir, folder) / 'report.html'}"
    except OSError as error:
        return f"the report could not be kept: {error}"


def _sorted(files: dict[str, FileEntry]) -> dict[str, FileEntry]:
    return dict(sorted(files.items()))
