"""The stage that finds scales of rounded inputs: a locked engine's, else the checkpoint's own, else measured ones."""

from __future__ import annotations

import hashlib
import json
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from qwen3_compile.checkpoint.input_scales import INPUT_SCALE, stored_input_scales
from qwen3_compile.errors import CompileError, LockError
from qwen3_compile.pipeline.fingerprint import code_fingerprint, digest, tool_versions

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from numpy.typing import NDArray

    from qwen3_compile.calibrate import InputKind
    from qwen3_compile.checkpoint.contract import Checkpoint
    from qwen3_compile.pipeline.cache import Cache
    from qwen3_compile.pipeline.progress import Progress
    from qwen3_compile.spec import Spec
    from qwen3_graphs.lowered import Lowered
    from qwen3_runtime.manifest import Manifest

RECORD = "calibration"  # its place in the manifest's record of the source
_STAGE = "calibration"
CACHED = "from the cache"
# What a scale can be as the engine holds it, in float32.
_LEAST, _MOST = float(np.finfo(np.float32).smallest_subnormal), float(np.finfo(np.float32).max)


def wanted_scales(lowered: Lowered) -> list[str]:
    """Names of the scales of inputs that a graph asks for, sorted."""
    sources = (name for recipe in lowered.recipes for entry in recipe.sources for name in entry)
    return sorted({name for name in sources if name.endswith(f".{INPUT_SCALE}")})


def calibration_record(
    spec: Spec,
    wanted: Collection[str],
    checkpoint: Checkpoint,
    source: Mapping[str, Any],
    tokenizer_vocab: int,
    folder: Path,
    cache: Cache,
    progress: Progress,
    *,
    locked: Manifest | None,
) -> dict[str, Any]:
    """The scales of inputs and where they come from, as the manifest records it.

    Measured figures may differ in their last digits on another machine, so that a locked build takes the scales of
    the engine that it repeats.

    Args:
        spec: says what inputs are rounded to, and perhaps on which prompts they are measured.
        wanted: names of the scales, at least one.
        checkpoint: the weights.
        source: their identity, from `source_record`.
        tokenizer_vocab: token ids below this were trained.
        folder: holds the tokenizer's files, if there are any.
        cache: may hold the same measurement.
        progress: told how it goes.
        locked: manifest of an engine that is to be built again.

    Returns:
        `scales` by name; `stored`, how many of them are the checkpoint's; and of the measured ones `tokens` and `texts`
        (SHA-256 of the token ids), or 0 and null where none was measured.

    Raises:
        CheckpointError: a stored scale is damaged, or an input is not finite.
        CompileError: the prompts of the spec hold no token.
        LockError: the locked engine has other scales than the graph asks for.
    """
    progress.begin("calibrate")
    if locked is not None:
        record = _recorded(locked, wanted)
        progress.end(f"{len(wanted)} scales of the locked engine")
        return record
    kind = cast("InputKind", spec.precision.activation_quantization)
    # What a checkpoint stores are scales of E4M3.
    stored = stored_input_scales(checkpoint, wanted) if kind == "fp8" else {}
    if len(stored) == len(wanted):
        progress.end(f"{len(wanted)} scales of the checkpoint")
        return {"scales": stored, "stored": len(stored), "tokens": 0, "texts": None}
    sequences = _sequences(spec, folder, tokenizer_vocab)
    texts = hashlib.sha256(json.dumps([ids.tolist() for ids in sequences]).encode()).hexdigest()
    tokens = sum(ids.size for ids in sequences)
    progress.note(f"running {tokens} tokens through the model, layer by layer")
    measured, found = _measured(spec, kind, checkpoint, source, sequences, texts, cache, progress)
    scales = {name: stored.get(name, measured[name]) for name in wanted}
    progress.end(f"{len(wanted)} scales, {CACHED if found else f'measured on {tokens} tokens'}")
    return {"scales": scales, "stored": len(stored), "tokens": tokens, "texts": texts}


def _recorded(locked: Manifest, wanted: Collection[str]) -> dict[str, Any]:
    """The record of a locked engine, which a manifest keeps as it was read."""
    record = locked.source.get(RECORD)
    if not isinstance(record, dict):
        raise LockError(f"the manifest has no source.{RECORD}, the scales of {len(wanted)} inputs")
    scales = record.get("scales")
    if not isinstance(scales, dict) or set(scales) != set(wanted):
        raise LockError(f"source.{RECORD} of the manifest does not hold the scales of {len(wanted)} inputs")
    for name, scale in scales.items():
        if not isinstance(scale, float) or not _LEAST <= scale <= _MOST:
            found = f"source.{RECORD} of the manifest: {name} is {scale!r}"
            raise LockError(f"{found}, expected a number above zero that float32 can hold")
    return dict(record)


def _sequences(spec: Spec, folder: Path, tokenizer_vocab: int) -> Sequence[NDArray[np.int64]]:
    from qwen3_compile.calibrate import collect
    from qwen3_runtime.text import ChatTemplate, Tokenizer

    tokenizer = Tokenizer.open(folder) if (folder / "tokenizer.json").is_file() else None
    chats = tokenizer is not None and spec.model.task == "chat"
    sequences = collect(
        tokenizer,
        ChatTemplate.open(folder, tokenizer.named_tokens) if tokenizer is not None and chats else None,
        prompts=spec.precision.calibration_prompts,
        tokenizer_vocab=tokenizer_vocab,
        max_context=spec.limits.max_context,
    )
    if not sequences:
        raise CompileError("precision.calibration_prompts: none of them has a token; give texts, or leave them out")
    return sequences


def _measured(
    spec: Spec,
    kind: InputKind,
    checkpoint: Checkpoint,
    source: Mapping[str, Any],
    sequences: Sequence[NDArray[np.int64]],
    texts: str,
    cache: Cache,
    progress: Progress,
) -> tuple[dict[str, float], bool]:
    """Scales of all inputs, and whether an earlier build measured them."""
    from qwen3_compile.calibrate import measure

    architecture = spec.graph_architecture()
    inputs = {
        "files": source["files"],
        "architecture": asdict(architecture),
        "kind": kind,
        "texts": texts,
        "code": code_fingerprint("qwen3_compile.calibrate"),
        "tools": tool_versions(("ml-dtypes", "numpy", "torch")),
    }
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / "scales.json"
        found = cache.fetch(_STAGE, digest(inputs), path) is not None
        if not found:
            path.write_text(json.dumps(measure(checkpoint, architecture, sequences, kind)), encoding="utf-8")
            try:
                cache.store(_STAGE, digest(inputs), path)
            except OSError as error:
                progress.note(f"not cached: {error}")
        scales: dict[str, float] = json.loads(path.read_bytes())
    return scales, found
