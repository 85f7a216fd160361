"""The stages of a build. Each looks its result up by everything that the result depends on, and only then works."""

from __future__ import annotations

import json
import tempfile
from dataclasses import asdict
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qwen3_compile.checkpoint.input_scales import folded, with_input_scales
from qwen3_compile.engine.files import check_space, file_entry
from qwen3_compile.engine.manifest import output_of
from qwen3_compile.errors import UnsupportedError
from qwen3_compile.pipeline.fingerprint import code_fingerprint, digest, tool_versions
from qwen3_compile.targets import target_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    import onnx_ir as ir

    from qwen3_compile.checkpoint.contract import Checkpoint
    from qwen3_compile.pack.stream import Placement
    from qwen3_compile.pipeline.cache import Cache
    from qwen3_compile.pipeline.progress import Progress
    from qwen3_compile.spec import Spec
    from qwen3_compile.validate import AccuracyReport
    from qwen3_graphs.lowered import Lowered

MODEL, WEIGHTS = "model.onnx", "weights.bin"
ACCURACY, REPORT = "accuracy.json", "report.html"
CACHED = "from the cache"


def semantic_graph(spec: Spec, cache: Cache, progress: Progress) -> ir.Model:
    """Trace the eager model, or take the graph of an earlier trace."""
    progress.begin("trace")
    inputs = {
        "architecture": asdict(spec.graph_architecture()),
        "output": output_of(spec),
        "max_context": spec.limits.max_context,
        "code": code_fingerprint("qwen3_graphs.trace"),
        "tools": tool_versions(("onnx", "onnx-ir", "onnxscript", "torch")),
    }
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / "semantic.onnx"
        found = cache.fetch("trace", digest(inputs), path)
        if not found:
            _trace(spec, path)
            _keep(cache, "trace", digest(inputs), path, progress)
        import onnx_ir as ir

        # Read back even when it was just traced, so that both ways give the same bytes later on.
        model = ir.load(path)
    layers = spec.model.architecture.num_hidden_layers
    progress.end(CACHED if found else f"{layers} layers, {len(model.graph.initializers)} tensors")
    return model


def _trace(spec: Spec, path: Path) -> None:
    from qwen3_compile.pack.stream import serialize
    from qwen3_graphs.trace import trace

    semantic = trace(spec.graph_architecture(), output=output_of(spec), max_context=spec.limits.max_context)
    path.write_bytes(serialize(semantic))


def lowered_graph(spec: Spec, semantic: ir.Model, progress: Progress, *, pre_scaled: tuple[str, ...] = ()) -> Lowered:
    """Lower the semantic graph to the spec's target; a matter of a moment, so it is not cached.

    Args:
        spec: names the target, the number formats and the limits.
        semantic: the graph.
        progress: told how it goes.
        pre_scaled: matrices whose inputs the graph multiplies by the checkpoint's pre-scales.

    Raises:
        UnsupportedError: the target cannot compute the model in this precision.
    """
    from qwen3_graphs.errors import LoweringError

    progress.begin("lower")
    target = target_of(spec.target)
    try:
        lowered = target.lower(semantic, spec, pre_scaled=pre_scaled)
    except LoweringError as error:
        raise UnsupportedError(str(error)) from error
    progress.end(f"{lowered.model.graph.num_nodes()} operators for {target.name}")
    return lowered


def packed_weights(
    spec: Spec,
    lowered: Lowered,
    checkpoint: Checkpoint,
    source: Mapping[str, Any],
    folder: Path,
    cache: Cache,
    progress: Progress,
    *,
    threads: int,
    scales: Mapping[str, float] | None = None,
    pre_scaled: tuple[str, ...] = (),
) -> None:
    """Write `weights.bin` and `model.onnx` into `folder`.

    Args:
        spec: gives the dimensions of the position tables.
        lowered: graph and recipes; its initialisers become external data.
        checkpoint: the weights.
        source: their identity, from `source_record`.
        folder: the engine in the making.
        cache: may hold the same weights, packed the same way.
        progress: told of bytes written.
        threads: matrices packed at a time.
        scales: scales of rounded inputs, by name.
        pre_scaled: matrices whose inputs the graph multiplies; pre-scales of others are multiplied into the weights.

    Raises:
        CheckpointError: a weight is not finite.
        CompileError: the disk is too small.
    """
    from qwen3_compile.pack.stream import attach, place, serialize, write_weights

    placement = place(lowered.recipes)
    inputs = {
        "recipes": [asdict(recipe) for recipe in placement.recipes],
        "files": source["files"],
        "scales": scales or {},
        "pre_scaled": pre_scaled,
        "rope": [asdict(spec.graph_architecture()), spec.limits.max_context],
        "code": code_fingerprint(
            "qwen3_compile.pack", "qwen3_compile.quantize", "qwen3_compile.checkpoint", "qwen3_graphs.rope"
        ),
        "tools": tool_versions(("ml-dtypes", "numpy")),
    }
    progress.begin("pack", placement.size)
    check_space(folder, placement.size)
    found = cache.fetch("weights", digest(inputs), folder / WEIGHTS)
    if not found:
        _check_disks(folder, cache, placement)
        write_weights(
            placement,
            with_input_scales(folded(checkpoint, pre_scaled), scales or {}),
            folder / WEIGHTS,
            tables=_position_tables(spec),
            threads=threads,
            written=_counted(progress, placement.entries),
        )
        _keep(cache, "weights", digest(inputs), folder / WEIGHTS, progress)
    attach(lowered.model, placement, (slot for recipe in lowered.recipes for slot in recipe.outputs), WEIGHTS)
    (folder / MODEL).write_bytes(serialize(lowered.model))
    progress.end(f"{placement.size / 1e6:.1f} MB, {CACHED if found else f'{placement.entries} tensors'}")


def _counted(progress: Progress, total: int) -> Callable[[int], None]:
    done = count(1)
    return lambda size: progress.advance(size, f"{next(done)} of {total} tensors")


def _check_disks(folder: Path, cache: Cache, placement: Placement) -> None:
    needed = placement.size
    if cache.root is not None:
        if cache.root.stat().st_dev == folder.stat().st_dev:
            needed *= 2
        else:
            check_space(cache.root, placement.size)
    check_space(folder, needed)


def _position_tables(spec: Spec) -> dict[str, Any]:
    from qwen3_graphs.rope import rope_tables

    cos, sin = rope_tables(spec.graph_architecture(), spec.limits.max_context)
    return {"rope_cos": cos, "rope_sin": sin}


def measured_accuracy(
    spec: Spec,
    checkpoint: Checkpoint,
    document: Mapping[str, Any],
    folder: Path,
    cache: Cache,
    progress: Progress,
    *,
    threads: int,
    notes: Sequence[str] = (),
) -> AccuracyReport:
    """Compare the engine in `folder` with eager PyTorch; writes `accuracy.json` and `report.html`.

    The figures are kept by what they were measured on, not by the limits of the contract: a build with another
    limit judges them anew without measuring. Of a TensorRT engine the graph is measured, whatever plan it gave.

    `notes` are paragraphs for the page.

    Raises:
        EngineError: the engine cannot be run here.
    """
    from qwen3_compile.validate.continuations import greedy_tokens
    from qwen3_compile.validate.facts import facts
    from qwen3_compile.validate.report import read_json, write_json
    from qwen3_compile.validate.run import measure

    progress.begin("validate")
    contract = spec.resolved()["accuracy"]
    inputs = {
        "engine": {key: document[key] for key in ("io", "eos_token_ids")},
        "files": {name: entry for name, entry in document["files"].items() if name != "model.plan"},
        # All that decides how the graph is executed; for which GPUs a plan is does not.
        "target": {
            key: value for key, value in document["target"].items() if key not in ("compute_capabilities", "profiles")
        },
        "source": document["source"]["files"],
        "architecture": asdict(spec.graph_architecture()),
        "asked": {key: value for key, value in contract.items() if not key.startswith(("min_", "max_"))},
        "greedy_tokens": greedy_tokens(spec),
        "code": code_fingerprint("qwen3_compile.validate", "qwen3_runtime"),
        "tools": tool_versions(("jinja2", "numpy", "onnxruntime", "tokenizers", "torch")),
        "operators": _operator_library(spec),
    }
    path = folder / ACCURACY
    found = cache.fetch("accuracy", digest(inputs), path)
    if not found:
        write_json(measure(folder, checkpoint, spec, threads=threads, progress=progress.note), path)
        _keep(cache, "accuracy", digest(inputs), path, progress)
    # Read back even when it was just measured: the page must not depend on whether figures were rounded.
    report = read_json(json.loads(path.read_bytes()))
    _write_page(report, spec, folder, cache, progress, notes, facts(document))
    progress.end(f"{_figures(report)}, {CACHED}" if found else _figures(report))
    return report


def _operator_library(spec: Spec) -> str | None:
    """SHA-256 of the library that computes the engine; None where onnxruntime alone does."""
    path = target_of(spec.target).library()
    return file_entry(path).sha256 if path else None


def _write_page(
    report: AccuracyReport,
    spec: Spec,
    folder: Path,
    cache: Cache,
    progress: Progress,
    notes: Sequence[str],
    known: Sequence[tuple[str, str]],
) -> None:
    """Write `report.html`, whose plots take a while to draw."""
    inputs = {
        "accuracy": file_entry(folder / ACCURACY).sha256,
        "name": spec.name,
        "contract": spec.resolved()["accuracy"],
        "notes": notes,
        "facts": known,
        "code": code_fingerprint("qwen3_compile.validate.html"),
        "tools": tool_versions(("matplotlib", "numpy")),
    }
    if not cache.fetch("report", digest(inputs), folder / REPORT):
        from qwen3_compile.validate.html import write_html

        write_html(report, spec.accuracy, spec.name, folder / REPORT, notes, known)
        _keep(cache, "report", digest(inputs), folder / REPORT, progress)


def _figures(report: AccuracyReport) -> str:
    summary = report.summary
    if report.output == "hidden":
        return f"{summary.positions} positions, cosine at least {summary.min_cosine:.6f}"
    return f"{summary.positions} positions, mean KL {summary.mean_kl:.2g}, top-1 {summary.top1_agreement:.2%}"


def _keep(cache: Cache, stage: str, key: str, path: Path, progress: Progress) -> None:
    """Store a result; a cache that cannot be written costs time in the next build, it does not fail this one."""
    try:
        cache.store(stage, key, path)
    except OSError as error:
        progress.note(f"not cached: {error}")
