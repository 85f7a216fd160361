"""Checks for TensorRT: what an architecture has, what is calibrated, what a matrix's shape allows."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qwen3_compile.spec.problems import Problem
from qwen3_compile.spec.support import (
    EXPERTS_CAPABILITY,
    FIRST_CAPABILITY,
    INTEGERS,
    SUPPORT,
    TENSORRT,
    at_least,
    has_formats,
)
from qwen3_plugins.tensorrt.kernels.attention import HEAD_DIMS
from qwen3_plugins.tensorrt.kernels.moe import INT4_GROUPS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from qwen3_compile.spec.schema import Spec

PLUGIN_CAPABILITIES = ("8.0", "8.6", "8.9", "9.0", "10.0", "10.3", "12.0", "12.1")
_KINDS = ("weights", "lm_head", "embedding", "activations", "kv_cache")
_MATRICES = ("weights", "lm_head", "embedding")


def tensorrt_problems(spec: Spec) -> Iterator[Problem]:
    """Yield what TensorRT would refuse, or what only TensorRT is asked."""
    if spec.target.backend not in TENSORRT:
        yield from _not_asked(spec)
        yield from _not_calibrated(spec)
        return
    if (spec.target.backend, spec.target.provider) not in SUPPORT:
        return  # reported where backends and providers are paired
    checks = (_capabilities, _formats, _one_float, _rounded_inputs, _scales_of_rows, _whole_groups, _kernels, _profiles)
    for check in checks:
        yield from check(spec)


def _not_calibrated(spec: Spec) -> Iterator[Problem]:
    if spec.precision.calibration_prompts is not None:
        yield Problem(
            ("precision", "calibration_prompts"),
            "only scales of rounded inputs are measured (TensorRT, activation_quantization fp8 or int8): leave it out",
        )


def _not_asked(spec: Spec) -> Iterator[Problem]:
    for key in ("compute_capabilities", "attention", "moe", "profiles"):
        if getattr(spec.target, key) is not None:
            yield Problem(
                ("target", key),
                f"only {' and '.join(TENSORRT)} have it, found backend {spec.target.backend}: leave it out",
            )


def _capabilities(spec: Spec) -> Iterator[Problem]:
    """The architectures that can be named, each once."""
    backend, given = spec.target.backend, spec.target.compute_capabilities or []
    key = ("target", "compute_capabilities")
    known = SUPPORT[backend, "cuda"].capabilities
    for capability in dict.fromkeys(given):
        if capability not in known:
            other = "tensorrt" if backend == "tensorrt-rtx" else "tensorrt-rtx"
            hint = f" (which backend {other} has)" if capability in SUPPORT[other, "cuda"].capabilities else ""
            yield Problem(key, f"backend {backend} builds for {', '.join(known)}, found {capability!r}{hint}")
        if given.count(capability) > 1:
            yield Problem(key, f"{capability} is named twice")
    if backend == "tensorrt" and len(given) > 1:
        yield Problem(
            key, f"backend tensorrt builds for one GPU, that of the machine, found {len(given)}: name one, or none"
        )
    if backend == "tensorrt-rtx" and not given:
        yield Problem(key, "expected at least one: backend tensorrt-rtx builds without a GPU to ask")


def _formats(spec: Spec) -> Iterator[Problem]:
    """The number formats that an architecture lacks."""
    named = _named(spec)
    for key in _KINDS:
        kind = getattr(spec.precision, key)
        lacking = [capability for capability in named if not has_formats(capability, [kind])]
        if lacking:
            yield Problem(
                ("precision", key),
                f"{kind} needs compute capability {FIRST_CAPABILITY[kind]}, target.compute_capabilities names "
                f"{', '.join(lacking)}: take them out, or another format",
            )


def _one_float(spec: Spec) -> Iterator[Problem]:
    """A network is strongly typed: whatever is not quantised has one type."""
    precision = spec.precision
    for key in ("kv_cache", *_MATRICES):
        kind = getattr(precision, key)
        if kind in ("fp16", "bf16") and kind != precision.activations:
            yield Problem(
                ("precision", key),
                f"expected {precision.activations} like the activations (TensorRT casts nothing), found {kind!r}",
            )


def _rounded_inputs(spec: Spec) -> Iterator[Problem]:
    """With rounded inputs, every quantised matrix has the format of its inputs."""
    precision, key = spec.precision, ("precision", "activation_quantization")
    rounding = precision.activation_quantization
    if rounding in (None, "none"):
        yield from _not_calibrated(spec)
        return
    if precision.weights != rounding:
        yield Problem(key, f"{rounding} inputs need {rounding} weights, found {precision.weights}: take none")
        return
    if precision.lm_head in ("fp8", *INTEGERS) and precision.lm_head != rounding:
        yield Problem(
            ("precision", "lm_head"),
            f"with {rounding} inputs expected {rounding} or {precision.activations}, found {precision.lm_head!r}",
        )


def _scales_of_rows(spec: Spec) -> Iterator[Problem]:
    precision = spec.precision
    rows = [key for key in ("weights", "lm_head") if getattr(precision, key) == "int8"]
    if rows and precision.group_size != "channel":
        yield Problem(
            ("precision", "group_size"),
            f"int8 ({', '.join(rows)}) has one scale a row with TensorRT, found groups of {precision.group_size}: take "
            + ("channel" if "int4" not in (precision.weights, precision.lm_head) else f"another format for {rows[0]}"),
        )


def _whole_groups(spec: Spec) -> Iterator[Problem]:
    group, architecture = spec.precision.group_size, spec.model.architecture
    if not isinstance(group, int):
        return
    inputs = {"hidden_size": architecture.hidden_size}
    if spec.precision.weights in INTEGERS:
        inputs["num_attention_heads * head_dim"] = architecture.num_attention_heads * architecture.head_dim
        widths = ["moe_intermediate_size"] if architecture.num_experts else []
        widths += ["intermediate_size"] if not architecture.num_experts or architecture.dense_layers() else []
        inputs |= {width: getattr(architecture, width) for width in widths}
    for name, size in inputs.items():
        if size % group:
            yield Problem(
                ("precision", "group_size"),
                f"backend {spec.target.backend} needs a divisor of {name} ({size}), found {group}",
            )


def _kernels(spec: Spec) -> Iterator[Problem]:
    target, precision = spec.target, spec.precision
    yield from _without_kernels(spec)
    if target.attention == "plugin" and (width := spec.model.architecture.head_dim) not in HEAD_DIMS:
        expected = " or ".join(map(str, HEAD_DIMS))
        yield Problem(("target", "attention"), f"the plugin has kernels for a head_dim of {expected}, found {width}")
    if target.moe == "plugin" and precision.weights == "int8":
        yield Problem(("target", "moe"), "the plugin has kernels for fp16, bf16, fp8 and int4, found weights int8")
    if target.moe == "plugin" and precision.weights == "int4" and precision.group_size not in INT4_GROUPS:
        found = f"the plugin has kernels for int4 in groups of 32 or 128, found {precision.group_size}"
        yield Problem(("precision", "group_size"), found)
    if target.moe == "plugin" and precision.activation_quantization not in (None, "none"):
        found = f"experts of the plugin keep their inputs, found {precision.activation_quantization!r}: take none"
        yield Problem(("precision", "activation_quantization"), found)
    if target.moe is not None and not spec.model.architecture.num_experts:
        yield Problem(("target", "moe"), f"a dense model has no experts, found {target.moe!r}: leave it out")


def _named(spec: Spec) -> list[str]:
    """The spec's architectures, without those that are refused because the backend does not know them."""
    known = SUPPORT[spec.target.backend, "cuda"].capabilities
    return [capability for capability in spec.target.compute_capabilities or [] if capability in known]


def _without_kernels(spec: Spec) -> Iterator[Problem]:
    """Architectures without the kernels that the engine is made of, unless a format is what they lack."""
    target = spec.target
    named = [capability for capability in _named(spec) if not _lacks_a_format(spec, [capability])]
    if "plugin" in (target.attention, target.moe):
        lacking = [capability for capability in named if capability not in PLUGIN_CAPABILITIES]
        needed = f"the plugins have kernels for {', '.join(PLUGIN_CAPABILITIES)}"
    elif target.moe is not None:
        lacking = [capability for capability in named if not at_least(capability, EXPERTS_CAPABILITY)]
        needed = f"a mixture of experts needs compute capability {EXPERTS_CAPABILITY}"
    else:
        return
    if lacking:
        yield Problem(("target", "compute_capabilities"), f"{needed}, found {', '.join(lacking)}: take it out")


def _lacks_a_format(spec: Spec, capabilities: list[str]) -> bool:
    """Whether these architectures are refused already, for a number format."""
    kinds = [getattr(spec.precision, key) for key in _KINDS]
    return not all(has_formats(capability, kinds) for capability in capabilities)


def _profiles(spec: Spec) -> Iterator[Problem]:
    profiles, limits = spec.target.profiles, spec.limits
    if profiles is None:
        return
    bounds = {"prefill_batch": "max_batch", "prefill_tokens": "max_step_tokens", "decode_batch": "max_batch"}
    for key, bound in bounds.items():
        if (found := getattr(profiles, key)) > (most := getattr(limits, bound)):
            yield Problem(("target", "profiles", key), f"expected at most limits.{bound} ({most}), found {found}")
