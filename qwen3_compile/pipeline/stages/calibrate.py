"""Find the scales of quantized activations: a locked engine's, else the checkpoint's own, else measured ones."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, ClassVar, cast

import numpy as np

from qwen3_compile.checkpoint.input_scales import INPUT_SCALE, stored_input_scales
from qwen3_compile.errors import CompileError, LockError
from qwen3_compile.pipeline.fingerprint import code_fingerprint, tool_versions
from qwen3_compile.pipeline.stage import Stage

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from qwen3_compile.calibrate import InputKind
    from qwen3_compile.spec import Spec
    from qwen3_compile.targets import Target
    from qwen3_graphs.lowered import WeightRecipe
    from qwen3_runtime.manifest import Manifest

RECORD = "calibration"  # its place in the manifest's record of the source
_SCALES = "scales.json"  # in the build's scratch folder
# What a scale can be as the engine holds it, in float32.
_LEAST, _MOST = float(np.finfo(np.float32).smallest_subnormal), float(np.finfo(np.float32).max)


def wanted_scales(recipes: Iterable[WeightRecipe]) -> list[str]:
    """Names of the scales of activations that a graph asks for, sorted."""
    sources = (name for recipe in recipes for entry in recipe.sources for name in entry)
    return sorted({name for name in sources if name.endswith(f".{INPUT_SCALE}")})


class CalibrateStage(Stage):
    """Finds the scales, and records where they come from.

    Measured figures may differ in their last digits on another machine, so that a locked build takes the scales of
    the engine that it repeats. The record has `scales` by name; `stored`, how many of them are the checkpoint's; and of
    the measured ones `tokens` and `texts` (SHA-256 of the token ids), or 0 and null where none was measured.
    """

    name: ClassVar[str] = "calibrate"

    @classmethod
    def expected(cls, spec: Spec, target: Target) -> bool:
        """Where the target quantizes activations with scales of its own."""
        return target.calibrates(spec)

    def prepare(self) -> None:
        """Look for scales that need not be measured; else collect the texts.

        Raises:
            CheckpointError: a stored scale is damaged.
            CompileError: the prompts of the spec hold no token.
            LockError: the locked engine has other scales than the graph asks for.
        """
        build = self.build
        self._wanted = wanted_scales(build.recipes)
        self._sequences: Sequence[NDArray[np.int64]] = ()
        self._outcome = ""
        if build.locked is not None:
            self._record = _recorded(build.locked, self._wanted)
            self._outcome = f"{len(self._wanted)} scales of the locked engine"
            return
        self._kind = cast("InputKind", build.spec.precision.activation_quantization)
        # What a checkpoint stores are scales of E4M3.
        stored = stored_input_scales(build.checkpoint, self._wanted) if self._kind == "fp8" else {}
        self._record = {"scales": stored, "stored": len(stored), "tokens": 0, "texts": None}
        if len(stored) == len(self._wanted):
            self._outcome = f"{len(self._wanted)} scales of the checkpoint"
            return
        self._sequences = _sequences(build.spec, build.folder, build.text.tokens.tokenizer_vocab_size)
        texts = hashlib.sha256(json.dumps([ids.tolist() for ids in self._sequences]).encode()).hexdigest()
        self._record |= {"tokens": sum(ids.size for ids in self._sequences), "texts": texts}

    def inputs(self) -> Mapping[str, Any] | None:
        """The model and the texts, where scales are measured."""
        if not self._sequences:
            return None
        return {
            "files": self.build.source["files"],
            "architecture": asdict(self.build.spec.graph_architecture()),
            "kind": self._kind,
            "texts": self._record["texts"],
            "code": code_fingerprint("qwen3_compile.calibrate"),
            "tools": tool_versions(("ml-dtypes", "numpy", "torch")),
        }

    def outputs(self) -> Mapping[str, Path]:
        """The measured scales, in the scratch folder."""
        return {"calibration": self.build.scratch / _SCALES} if self._sequences else {}

    def produce(self) -> None:
        """Measure the scales that are not known.

        Raises:
            CheckpointError: an activation is not finite.
        """
        if not self._sequences:
            return
        from qwen3_compile.calibrate import measure_activation_scales

        build, tokens = self.build, self._record["tokens"]
        build.progress.note(f"running {tokens} tokens through the model, layer by layer")
        measured = measure_activation_scales(
            build.checkpoint, build.spec.graph_architecture(), self._sequences, self._kind
        )
        (build.scratch / _SCALES).write_text(json.dumps(measured), encoding="utf-8")
        self._outcome = f"{len(self._wanted)} scales, measured on {tokens} tokens"

    def finish(self) -> str:
        """Record the scales; the checkpoint's own go before measured ones."""
        if self._sequences:
            measured: dict[str, float] = json.loads((self.build.scratch / _SCALES).read_bytes())
            stored = self._record["scales"]
            self._record |= {"scales": {name: stored.get(name, measured[name]) for name in self._wanted}}
        self.build.source[RECORD] = self._record
        self.build.scales = self._record["scales"]
        return self._outcome or f"{len(self._wanted)} scales"


def _recorded(locked: Manifest, wanted: Collection[str]) -> dict[str, Any]:
    """The record of a locked engine, which a manifest keeps as it was read."""
    record = locked.source.get(RECORD)
    if not isinstance(record, dict):
        raise LockError(f"the manifest has no source.{RECORD}, the scales of {len(wanted)} activations")
    scales = record.get("scales")
    if not isinstance(scales, dict) or set(scales) != set(wanted):
        raise LockError(f"source.{RECORD} of the manifest does not hold the scales of {len(wanted)} activations")
    for name, scale in scales.items():
        if not isinstance(scale, float) or not _LEAST <= scale <= _MOST:
            found = f"source.{RECORD} of the manifest: {name} is {scale!r}"
            raise LockError(f"{found}, expected a number above zero that float32 can hold")
    return dict(record)


def _sequences(spec: Spec, folder: Path, tokenizer_vocab: int) -> Sequence[NDArray[np.int64]]:
    from qwen3_compile.calibrate import collect_sequences
    from qwen3_runtime.text import ChatTemplate, Tokenizer

    tokenizer = Tokenizer.open(folder) if (folder / "tokenizer.json").is_file() else None
    chats = tokenizer is not None and spec.model.task == "chat"
    sequences = collect_sequences(
        tokenizer,
        ChatTemplate.open(folder, tokenizer.named_tokens) if tokenizer is not None and chats else None,
        prompts=spec.precision.calibration_prompts,
        tokenizer_vocab=tokenizer_vocab,
        max_context=spec.limits.max_context,
    )
    if not sequences:
        raise CompileError("precision.calibration_prompts: none of them has a token; give texts, or omit the key")
    return sequences
