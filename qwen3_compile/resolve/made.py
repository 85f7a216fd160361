"""A spec made from a checkpoint's own files, as text with comments: what `specs init` writes and `build` reads."""

from __future__ import annotations

import json
import re
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, get_args

from qwen3_compile.spec.rope_scaling import own_scaling
from qwen3_compile.spec.schema import ArchitectureSection, GroupSize
from qwen3_compile.spec.size import parameter_counts

if TYPE_CHECKING:
    from collections.abc import Iterator

    from qwen3_compile.resolve.identity import Identity

_HEAD = """\
# {name}: made by `qwen3-compile specs init`. Every key is explained in docs/spec.md.
#
# Sources
#   [config]    the checkpoint's config.json: the build refuses another one
#   [files]     {task_from}
#   [generation] its generation_config.json
#   [default]   chosen by qwen3-compile for CPUs: change it to what you want to ship
"""
_EXPERTS = ("num_experts", "num_experts_per_tok", "moe_intermediate_size", "norm_topk_prob")
_GROUP_SIZE = 32


def spec_name(name: str) -> str:
    """The checkpoint's name as the name of an engine: other characters than a spec's `name` may have become `-`."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", name).lstrip("._-")[:100] or "model"


def made_spec(identity: Identity, *, source: str | None = None) -> str:
    """The text of a spec for a checkpoint.

    Args:
        identity: the checkpoint.
        source: what `model.source` says instead of the identity's own.
    """
    return "\n".join(_lines(identity, source or identity.source)) + "\n"


def _lines(identity: Identity, source: str) -> Iterator[str]:
    yield _HEAD.format(name=spec_name(identity.name), task_from=f"the task is read from {identity.task_from}")
    yield from ("schema_version: 2", f"name: {_scalar(spec_name(identity.name))}", "model:")
    yield f"  source: {_scalar(source)}"
    also = "; a reranker's files say the same: write reranker if it is one" if identity.task == "chat" else ""
    yield _noted(f"  task: {identity.task}", "files", f"{identity.task_from}{also}")
    yield "  architecture:"
    for key, value in _dimensions(identity):
        yield _noted(f"    {key}: {json.dumps(value)}", "config")
    yield from _scaling(identity)
    yield from _precision(identity)
    yield from ("target:", _noted("  backend: ort", "default"))
    yield from _limits(identity)
    yield from _chat(identity)
    yield from _accuracy(identity)


def _dimensions(identity: Identity) -> Iterator[tuple[str, Any]]:
    """What the checkpoint states; of layers without experts, however it says which they are, their list."""
    a = identity.architecture
    stated = asdict(a)
    for key in ArchitectureSection.model_fields:
        if key in stated and (a.is_moe or key not in _EXPERTS):
            yield key, stated[key]
    if a.dense_layers:
        yield "mlp_only_layers", list(a.dense_layers)


def _scaling(identity: Identity) -> Iterator[str]:
    own = own_scaling(identity.architecture)
    if own is not None:
        yield f"# [config] RoPE is scaled ({own['type']}, factor {own['factor']:g}): the build uses this scaling;"
        yield "#          a section rope_scaling here would replace it"


def _precision(identity: Identity) -> Iterator[str]:
    stored = identity.stored
    yield "precision:"
    if stored.weights == "fp8":
        yield _noted("  weights: fp8", "config", "as they are stored: no weight is quantized again")
        yield _noted(f"  fp8_scales: {stored.fp8_scales}", "config")
        head = "bf16"
    elif _has_groups(identity):
        origin = "default" if stored.weights is None else "config"
        yield _noted(f"  weights: {stored.weights or 'int4'}", origin, "or int8: larger, and closer to the checkpoint")
        offered = stored.group_size in get_args(GroupSize)
        yield _noted(
            f"  group_size: {stored.group_size if offered else _GROUP_SIZE}", "config" if offered else "default"
        )
        head = "int8"
    else:
        yield _noted(
            "  weights: fp16", "default", f"the width of a matrix is not a multiple of {_GROUP_SIZE}: no integer groups"
        )
        head = "fp16"
    if identity.task != "embedding":
        yield _noted(f"  lm_head: {head}", "default")
    yield _noted(f"  embedding: {head}", "default")


def _has_groups(identity: Identity) -> bool:
    a = identity.architecture
    mlps = [a.moe_intermediate_size] if a.is_moe else []
    mlps += [a.intermediate_size] if a.dense_layers or not a.is_moe else []
    return all(width % _GROUP_SIZE == 0 for width in (a.hidden_size, a.num_attention_heads * a.head_dim, *mlps))


def _limits(identity: Identity) -> Iterator[str]:
    generates = identity.task in ("chat", "completion")
    trained = identity.architecture.max_position_embeddings
    parameters = parameter_counts(identity.architecture, has_head=identity.task != "embedding")[0]
    batch = 4 if parameters < 2.5e9 else 2 if parameters < 1e10 else 1
    yield "limits:"
    yield _noted(f"  max_context: {min(trained, 16384 if generates else 8192)}", "default", f"trained: {trained}")
    yield _noted(f"  max_batch: {batch}", "default")


def _chat(identity: Identity) -> Iterator[str]:
    if identity.thinking is None:
        if identity.task == "completion":
            yield from ("chat:", "  sampling:")
            yield _noted("    non_thinking: {temperature: 0.0, top_p: 1.0, top_k: 0}", "default", "greedy")
        return
    yield "chat:"
    yield _noted(f"  thinking: {identity.thinking}", "files", "what the chat template writes")
    if identity.sampling:
        mode = "non_thinking" if identity.thinking == "never" else "thinking"
        values = ", ".join(f"{key}: {json.dumps(value)}" for key, value in identity.sampling.items())
        yield "  sampling:"
        yield _noted(f"    {mode}: {{{values}}}", "generation")


def _accuracy(identity: Identity) -> Iterator[str]:
    rounded = identity.stored.weights != "fp8" and _has_groups(identity)
    yield "accuracy:"
    if identity.task == "embedding":
        yield _noted(f"  min_cosine: {0.95 if rounded else 0.99}", "default")
        return
    kl, agreement, ratio = (0.1, 0.85, 1.1) if rounded else (0.01, 0.97, 1.01)
    yield _noted(f"  max_kl: {kl}", "default", "the build fails above this limit")
    yield _noted(f"  min_top1_agreement: {agreement}", "default")
    yield _noted(f"  max_perplexity_ratio: {ratio}", "default")


def _scalar(text: str) -> str:
    """A string as YAML: plain where nothing else could be meant."""
    plain = re.fullmatch(r"[A-Za-z./][\w./@:-]*", text) and text.lower() not in ("true", "false", "null")
    return text if plain and not text.endswith(":") else json.dumps(text, ensure_ascii=False)


def _noted(line: str, origin: str, remark: str = "") -> str:
    return f"{line:<43} # [{origin}] {remark}".rstrip()
