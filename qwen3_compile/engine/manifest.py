"""Writes the manifest: what the runtime must know, and what a locked build needs to do it again."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Literal

from qwen3_compile.targets import target_of
from qwen3_runtime.engine_files import MANIFEST
from qwen3_runtime.manifest import SCHEMA_VERSION

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from qwen3_compile.checkpoint.protocol import Checkpoint
    from qwen3_compile.engine.tokens import Tokens
    from qwen3_compile.spec import Spec
    from qwen3_runtime.manifest import FileEntry


CACHE_DTYPES = {"fp32": "float32", "fp16": "float16", "bf16": "bfloat16", "int8": "int8"}


def manifest_document(
    spec: Spec,
    *,
    source: Mapping[str, Any],
    tools: Mapping[str, str],
    tokens: Tokens,
    files: Mapping[str, FileEntry],
    verified: bool,
    capabilities: Sequence[str] | None = None,
) -> dict[str, Any]:
    """The manifest as JSON-able values; it holds no time, and no path but a source that the spec names.

    Args:
        spec: what was built.
        source: from `source_record`.
        tools: version by distribution.
        tokens: facts about the tokenizer.
        files: every file of the engine but the manifest.
        verified: whether the engine was validated and is within its accuracy limits.
        capabilities: GPU architectures of a TensorRT plan; the spec may have left them to the machine.
    """
    architecture = spec.graph_architecture()
    resolved = spec.resolved()
    chat = resolved["chat"]
    if chat is not None:
        # A mode that the model lacks has no sampling.
        chat = {**chat, "sampling": {mode: values for mode, values in chat["sampling"].items() if values is not None}}
    target = resolved["target"] | ({} if capabilities is None else {"compute_capabilities": list(capabilities)})
    target |= target_of(spec.target).manifest_fields(spec)
    return {
        "schema_version": SCHEMA_VERSION,
        "name": spec.name,
        "verified": verified,
        "spec": resolved,
        "source": dict(source),
        "tools": dict(tools),
        "target": {key: value for key, value in target.items() if value is not None},
        "io": {
            "task": spec.model.task,
            "output": output_of(spec),
            "vocab_size": architecture.vocab_size,
            "tokenizer_vocab_size": tokens.tokenizer_vocab_size,
            "hidden_size": architecture.hidden_size,
            "layers": architecture.num_hidden_layers,
            "kv_heads": architecture.num_key_value_heads,
            "head_dim": architecture.head_dim,
            "cache_dtype": CACHE_DTYPES[spec.precision.kv_cache],
            **resolved["limits"],
        },
        "chat": chat,
        "eos_token_ids": list(tokens.eos_token_ids),
        "pad_token_id": tokens.pad_token_id,
        "files": {name: asdict(entry) for name, entry in files.items()},
    }


def output_of(spec: Spec) -> Literal["logits", "hidden"]:
    """What a step gives: `hidden` states of an embedding model, else `logits`."""
    return "hidden" if spec.model.task == "embedding" else "logits"


def source_record(checkpoint: Checkpoint) -> dict[str, Any]:
    """Identity of the weights: where from, which revision, and the hash of every file (computed on the first call)."""
    return {
        "uri": checkpoint.uri,
        "revision": checkpoint.revision,
        "files": [asdict(file) for file in sorted(checkpoint.files(), key=lambda file: file.name)],
    }


def write_manifest(document: Mapping[str, Any], folder: Path) -> None:
    """Write `manifest.json`: the same values give the same bytes."""
    text = json.dumps(document, sort_keys=True, indent=1, ensure_ascii=False, allow_nan=False)
    (folder / MANIFEST).write_text(text + "\n", encoding="utf-8")
