"""Checks across keys: each names one key, what it needs and what it found."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qwen3_compile.problem import Problem
from qwen3_compile.spec.defaults import ABSENT
from qwen3_compile.spec.schema import RopeScalingSection
from qwen3_compile.spec.source import HubSource, SyntheticSource, parse_source
from qwen3_compile.targets.checks import target_problems
from qwen3_graphs.formats import INTEGERS, KINDS
from qwen3_runtime.request import ANSWER_RESERVE

if TYPE_CHECKING:
    from collections.abc import Iterator

    from qwen3_compile.spec.schema import ChatSection, Spec

STOP_SENTENCE_TOKENS = 24  # what the runtime feeds when the thinking budget is spent


def cross_problems(spec: Spec) -> list[Problem]:
    """Return every way in which the keys of a spec, each valid alone, do not hold together."""
    model = (_model, _heads, _experts, _dense_layers)
    checks = (*model, _precision, target_problems, _rope_scaling, _context, _step, _chat, _accuracy)
    return [problem for check in checks for problem in check(spec)]


def _model(spec: Spec) -> Iterator[Problem]:
    if spec.model.tokenizer is not None and isinstance(parse_source(spec.model.tokenizer), SyntheticSource):
        yield Problem(
            ("model", "tokenizer"), "expected a path or hf://org/name@revision: synthetic sources have no tokenizer"
        )
    if spec.model.task == "chat" and isinstance(parse_source(spec.model.source), HubSource):
        name = spec.model.source.lower()
        if name.split("@")[0].endswith("-base"):
            yield Problem(
                ("model", "task"), f"expected completion for a base model ({spec.model.source}), found 'chat'"
            )


def _heads(spec: Spec) -> Iterator[Problem]:
    architecture = spec.model.architecture
    heads, kv_heads = architecture.num_attention_heads, architecture.num_key_value_heads
    if heads % kv_heads:
        yield _at("num_key_value_heads", f"expected a divisor of num_attention_heads ({heads}), found {kv_heads}")
    if architecture.head_dim % 2:
        yield _at(
            "head_dim", f"expected an even number (rotary embedding pairs dimensions), found {architecture.head_dim}"
        )


def _experts(spec: Spec) -> Iterator[Problem]:
    architecture = spec.model.architecture
    keys = ("num_experts", "num_experts_per_tok", "moe_intermediate_size")
    missing = [key for key in keys if not getattr(architecture, key)]
    given = [key for key in keys if key not in missing]
    if given and missing:
        yield _at(given[0], f"a mixture of experts also needs {' and '.join(missing)}, more than 0")
    elif architecture.num_experts_per_tok > architecture.num_experts:
        yield _at(
            "num_experts_per_tok",
            f"expected at most num_experts ({architecture.num_experts}), found {architecture.num_experts_per_tok}",
        )


def _dense_layers(spec: Spec) -> Iterator[Problem]:
    architecture = spec.model.architecture
    for key in ("mlp_only_layers", "decoder_sparse_step"):
        if getattr(architecture, key) is not None and not architecture.num_experts:
            yield _at(key, f"a model without experts has none, found {getattr(architecture, key)}: omit it")
    for layer in architecture.mlp_only_layers or []:
        if layer >= architecture.num_hidden_layers:
            yield _at("mlp_only_layers", f"expected layers below {architecture.num_hidden_layers}, found {layer}")
    if architecture.num_experts and len(architecture.dense_layers()) == architecture.num_hidden_layers:
        yield _at("num_experts", "no layer has experts (mlp_only_layers, decoder_sparse_step): omit the experts")


def _precision(spec: Spec) -> Iterator[Problem]:
    precision = spec.precision
    kinds = {key: getattr(precision, key) for key in ("weights", "lm_head", "embedding")}
    if precision.group_size and not set(kinds.values()) & {*INTEGERS}:
        yield Problem(
            ("precision", "group_size"),
            f"only integer formats have groups, found {precision.group_size} for {precision.weights}: omit it",
        )
    if precision.fp8_scales and "fp8" not in kinds.values():
        yield Problem(
            ("precision", "fp8_scales"),
            f"no format is fp8, found {precision.fp8_scales!r} for {precision.weights}: omit it",
        )
    grouped = [key for key, kind in kinds.items() if KINDS[kind].granularities == ("per-group",)]
    if grouped and precision.group_size == "channel":
        found = f"{kinds[grouped[0]]} ({', '.join(grouped)}) needs 32, 64 or 128, found 'channel'"
        yield Problem(("precision", "group_size"), found)


def _rope_scaling(spec: Spec) -> Iterator[Problem]:
    """What each kind of scaling needs, and what it has no use for."""
    if (scaling := spec.rope_scaling) is None:
        return
    needed = {"yarn": ("factor", "original_max_position_embeddings"), "linear": ("factor",), "default": ()}
    options = ("attention_factor", "beta_fast", "beta_slow", "truncate") if scaling.type == "yarn" else ()
    for key in RopeScalingSection.model_fields:
        found = getattr(scaling, key)
        if key in needed[scaling.type] and found is None:
            yield Problem(("rope_scaling", key), f"type {scaling.type} needs it, found null")
        elif key not in ("type", *needed[scaling.type], *options) and found is not None:
            yield Problem(("rope_scaling", key), f"type {scaling.type} has none, found {found}: omit it")


def _context(spec: Spec) -> Iterator[Problem]:
    trained = spec.model.architecture.max_position_embeddings
    reach, reason = trained, f"max_position_embeddings ({trained}); longer needs rope_scaling"
    scaling = spec.rope_scaling
    if scaling is not None and scaling.factor is not None and scaling.type != "default":
        original = scaling.original_max_position_embeddings or trained
        reach = int(scaling.factor * original)
        named = "original_max_position_embeddings" if scaling.type == "yarn" else "max_position_embeddings"
        reason = f"factor * {named} ({reach})"
        if original > trained:
            yield Problem(
                ("rope_scaling", "original_max_position_embeddings"),
                f"expected at most max_position_embeddings ({trained}), found {original}",
            )
    if spec.limits.max_context > reach:
        yield Problem(("limits", "max_context"), f"expected at most {reason}, found {spec.limits.max_context}")


def _step(spec: Spec) -> Iterator[Problem]:
    limits, key = spec.limits, ("limits", "max_step_tokens")
    if limits.max_step_tokens > limits.max_context:
        yield Problem(key, f"expected at most max_context ({limits.max_context}), found {limits.max_step_tokens}")
    if limits.max_step_tokens < limits.max_batch:
        yield Problem(
            key,
            f"expected at least max_batch ({limits.max_batch}), one token per sequence, found {limits.max_step_tokens}",
        )


def _chat(spec: Spec) -> Iterator[Problem]:
    task, chat = spec.model.task, spec.chat
    if chat is None:
        return
    if task in ("embedding", "reranker"):
        yield Problem(("chat",), f"task {task} generates no text: omit the section")
        return
    if task == "completion" and chat.thinking != "never":
        yield Problem(("chat", "thinking"), f"task completion never thinks, found {chat.thinking!r}")
    if chat.max_tokens > spec.limits.max_context:
        yield Problem(
            ("chat", "max_tokens"),
            f"expected at most limits.max_context ({spec.limits.max_context}), found {chat.max_tokens}",
        )
    yield from _budget(chat)
    yield from _modes(chat)


def _budget(chat: ChatSection) -> Iterator[Problem]:
    key = ("chat", "thinking_budget")
    if chat.thinking_budget is None:
        return
    if chat.thinking == "never":
        yield Problem(key, f"a model that never thinks has no budget, found {chat.thinking_budget}: omit it")
        return
    room = chat.max_tokens - STOP_SENTENCE_TOKENS - ANSWER_RESERVE
    if chat.thinking_budget > room:
        yield Problem(
            key,
            f"expected at most {room}: max_tokens ({chat.max_tokens}) less {STOP_SENTENCE_TOKENS} for the stop "
            f"sentence and {ANSWER_RESERVE} for an answer, found {chat.thinking_budget}",
        )


def _modes(chat: ChatSection) -> Iterator[Problem]:
    for mode, absent in ABSENT.items():
        given = getattr(chat.sampling, mode) is not None
        if chat.thinking == absent and given:
            yield Problem(("chat", "sampling", mode), f"chat.thinking is {absent!r}: omit it")
        if chat.thinking != absent and not given:
            yield Problem(("chat", "sampling", mode), f"required with chat.thinking {chat.thinking!r}, found null")


def _accuracy(spec: Spec) -> Iterator[Problem]:
    if spec.model.task != "embedding":
        return
    for key in ("max_kl", "min_top1_agreement", "max_perplexity_ratio", "min_greedy_tokens"):
        if getattr(spec.accuracy, key) is not None:
            yield Problem(("accuracy", key), "an embedding model has no probabilities to compare: omit it")


def _at(key: str, message: str) -> Problem:
    return Problem(("model", "architecture", key), message)
