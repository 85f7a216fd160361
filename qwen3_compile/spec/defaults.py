"""Defaults that depend on other keys, filled into the plain values before they are validated.

Nothing here judges: values of a wrong type pass through untouched, and the schema reports them.
"""

from __future__ import annotations

from typing import Any

from qwen3_compile.targets import TARGETS, Target, default_target, find_target
from qwen3_graphs.formats import INTEGERS

SAMPLING = {  # Qwen's model cards
    "thinking": {"temperature": 0.6, "top_p": 0.95},
    "non_thinking": {"temperature": 0.7, "top_p": 0.8},
}
ABSENT = {"thinking": "never", "non_thinking": "always"}  # the `chat.thinking` under which a mode does not exist
MAX_BATCH = 4  # sequences a step
MAX_TOKENS = 32768  # Qwen's suggested output length
THINKING_BUDGET = 8192  # the example of the Qwen3 report
LEAST_THINKING_CONTEXT = 128  # below this many new tokens no budget leaves room for an answer


def fill_defaults(data: object) -> object:
    """Return a copy of a spec's plain values with every dependent default filled in."""
    if not isinstance(data, dict):
        return data
    filled = dict(data)
    task = _get(data, "model", "task") or "chat"
    tied = _get(data, "model", "architecture", "tie_word_embeddings") is True
    section = data.get("target")
    if section is None:
        section = {}
    given = section if isinstance(section, dict) else {}
    target, given = _target(given)
    if isinstance(precision := data.get("precision"), dict):
        filled["precision"] = _precision(precision, target, tied=tied)
    if isinstance(limits := data.get("limits"), dict):
        filled["limits"] = _limits(limits)
    if isinstance(section, dict):
        filled["target"] = target.fill(given, filled)
    if task in ("chat", "completion"):
        chat = data.get("chat")
        if chat is None:
            chat = {}
        if isinstance(chat, dict):
            filled["chat"] = _chat(chat, task, _get(data, "limits", "max_context"))
    return filled


def _target(section: dict[str, Any]) -> tuple[Target, dict[str, Any]]:
    """The target that a section means, as far as it means one, and the section with the keys that name it."""
    backend = section.get("backend") or TARGETS[0].backend
    first = default_target(backend, section.get("provider"))
    filled = {"backend": backend, "provider": first.provider} | section
    if filled.get("plugins") is None:
        filled["plugins"] = first.plugins[0]
    return find_target(backend, filled["provider"], filled["plugins"]) or first, filled


def _precision(section: dict[str, Any], target: Target, *, tied: bool) -> dict[str, Any]:
    if "weights" not in section:
        return section
    weights = section["weights"]
    activations = section.get("activations", target.activations)
    filled = {"lm_head": weights, "activations": activations, "kv_cache": target.kv_cache or activations} | section
    embedding = target.embedding(activations=activations, lm_head=filled["lm_head"], weights=weights, tied=tied)
    filled.setdefault("embedding", embedding)
    kinds = [filled[key] for key in ("weights", "lm_head", "embedding")]
    if filled.get("group_size") is None:
        has_groups = any(kind in INTEGERS for kind in kinds)
        filled["group_size"] = target.group_size(kinds) if has_groups else None
    if filled.get("fp8_scales") is None:
        filled["fp8_scales"] = target.fp8_scales if "fp8" in kinds else None
    if filled.get("activation_quantization") is None:
        filled["activation_quantization"] = "int8" if target.quantizes_activations(kinds[:2]) else "none"
    return filled


def _limits(section: dict[str, Any]) -> dict[str, Any]:
    return {"max_batch": MAX_BATCH, "max_step_tokens": _least(512, section.get("max_context"))} | section


def _chat(section: dict[str, Any], task: object, max_context: object) -> dict[str, Any]:
    filled = {"thinking": "never" if task == "completion" else "hybrid"} | section
    filled.setdefault("max_tokens", _least(MAX_TOKENS, max_context))
    thinking = filled["thinking"]
    if "thinking_budget" not in filled:
        filled["thinking_budget"] = None if thinking == "never" else _budget(filled["max_tokens"])
    if isinstance(sampling := filled.get("sampling", {}), dict):
        filled["sampling"] = sampling | {mode: _mode(sampling, mode, thinking) for mode in SAMPLING}
    return filled


def _mode(sampling: dict[str, Any], mode: str, thinking: object) -> object:
    given = sampling.get(mode, None if thinking == ABSENT[mode] else {})
    return SAMPLING[mode] | given if isinstance(given, dict) else given


def _budget(max_tokens: object) -> int | None:
    if not isinstance(max_tokens, int) or max_tokens < LEAST_THINKING_CONTEXT:
        return None
    return min(THINKING_BUDGET, max_tokens // 2)


def _least(default: int, bound: object) -> int:
    return min(default, bound) if isinstance(bound, int) and bound > 0 else default


def _get(data: object, *path: str) -> object:
    for key in path:
        data = data.get(key) if isinstance(data, dict) else None
    return data
