"""Defaults that depend on other keys, filled into the plain values before they are validated.

Nothing here judges: values of a wrong type pass through untouched, and the schema reports them.
"""

from __future__ import annotations

from typing import Any, Final

from qwen3_compile.spec.support import RTX_CAPABILITIES, TENSORRT, has_formats

BACKEND: Final = "ort-cpu"  # of a spec without one
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
    backend = _get(data, "target", "backend") or BACKEND
    if isinstance(precision := data.get("precision"), dict):
        on_gpu = backend in TENSORRT or _get(data, "target", "provider") == "cuda"
        filled["precision"] = _precision(precision, tied=tied, backend=backend, on_gpu=on_gpu)
    if isinstance(limits := data.get("limits"), dict):
        filled["limits"] = _limits(limits)
    target = data.get("target")
    if target is None:
        target = {}
    if isinstance(target, dict):
        filled["target"] = _target({"backend": backend} | target, filled)
    if task in ("chat", "completion"):
        chat = data.get("chat")
        if chat is None:
            chat = {}
        if isinstance(chat, dict):
            filled["chat"] = _chat(chat, task, _get(data, "limits", "max_context"))
    return filled


def _precision(section: dict[str, Any], *, tied: bool, backend: object, on_gpu: bool) -> dict[str, Any]:
    if "weights" not in section:
        return section
    weights = section["weights"]
    activations = section.get("activations", "fp16" if on_gpu else "fp32")
    cache = "fp16" if backend == "ort-cpu" else activations
    filled = {"lm_head": weights, "activations": activations, "kv_cache": cache} | section
    filled.setdefault("embedding", activations if backend in TENSORRT else filled["lm_head"] if tied else weights)
    kinds = [filled[key] for key in ("weights", "lm_head", "embedding")]
    integer = [kind in ("int8", "int4") for kind in kinds]
    if filled.get("group_size") is None:
        tensorrt_size = 128 if "int4" in kinds else "channel"
        size = tensorrt_size if backend in TENSORRT else 32
        filled["group_size"] = size if any(integer) else None
    if filled.get("fp8_scales") is None:
        scales = "channel" if backend in TENSORRT else "block"
        filled["fp8_scales"] = scales if "fp8" in kinds else None
    if filled.get("activation_quantization") is None:
        rounded = any(integer[:2]) and not on_gpu and backend != "onnx"
        filled["activation_quantization"] = "int8" if rounded else "none"
    return filled


def _target(section: dict[str, Any], spec: dict[str, Any]) -> dict[str, Any]:
    """Fill in the target; `spec` gives the other sections, already filled."""
    tensorrt = section["backend"] in TENSORRT
    filled = {"provider": "cuda" if tensorrt else "cpu"} | section
    if not tensorrt:
        return filled
    if filled.get("compute_capabilities") is None:
        precision = spec.get("precision")
        kinds = list(precision.values()) if isinstance(precision, dict) else []
        every = RTX_CAPABILITIES if filled["backend"] == "tensorrt-rtx" else ()
        filled["compute_capabilities"] = [capability for capability in every if has_formats(capability, kinds)]
    if filled.get("attention") is None:
        filled["attention"] = "native"
    if filled.get("moe") is None and _get(spec, "model", "architecture", "num_experts"):
        filled["moe"] = "native"
    if isinstance(profiles := filled.get("profiles") or {}, dict):
        sizes = {
            "prefill_batch": 1,
            "prefill_tokens": _get(spec, "limits", "max_step_tokens"),
            "decode_batch": _get(spec, "limits", "max_batch") or MAX_BATCH,
        }
        filled["profiles"] = sizes | profiles
    return filled


def _limits(section: dict[str, Any]) -> dict[str, Any]:
    return {"max_step_tokens": _least(512, section.get("max_context"))} | section


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
