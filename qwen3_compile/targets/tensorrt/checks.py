"""Checks for TensorRT: what an architecture has, what is calibrated, what a matrix's shape allows."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qwen3_compile.problem import Problem
from qwen3_compile.targets.target import not_calibrated
from qwen3_compile.targets.tensorrt.capabilities import EXPERTS, PLUGINS, at_least, has_formats
from qwen3_graphs.formats import INTEGERS
from qwen3_graphs.lower.tensorrt.formats import MATRICES
from qwen3_plugins.tensorrt.bindings.capabilities import FIRST_WITH_FORMAT
from qwen3_plugins.tensorrt.kernels.attention import HEAD_DIMS
from qwen3_plugins.tensorrt.kernels.moe import GROUP_SIZES

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from qwen3_compile.spec import Spec

_KINDS = ("weights", "lm_head", "embedding", "activations", "kv_cache")
_MATRICES = ("weights", "lm_head", "embedding")


def tensorrt_problems(spec: Spec, known: Sequence[str]) -> Iterator[Problem]:
    """Yield what TensorRT would refuse. `known` are the compute capabilities that the target builds for."""
    named = [capability for capability in spec.target.compute_capabilities or [] if capability in known]
    yield from _formats(spec, named)
    for check in (_one_float, _quantized_activations, _per_channel, _whole_groups, _plugins, _profiles):
        yield from check(spec)
    yield from _without_kernels(spec, named)


def _formats(spec: Spec, named: Sequence[str]) -> Iterator[Problem]:
    """The number formats that an architecture lacks."""
    for key in _KINDS:
        kind = getattr(spec.precision, key)
        lacking = [capability for capability in named if not has_formats(capability, [kind])]
        if lacking:
            yield Problem(
                ("precision", key),
                f"{kind} needs compute capability {FIRST_WITH_FORMAT[kind]}, target.compute_capabilities names "
                f"{', '.join(lacking)}: remove them, or choose another format",
            )


def _one_float(spec: Spec) -> Iterator[Problem]:
    """A network is strongly typed: whatever is not quantized has one type."""
    precision = spec.precision
    for key in ("kv_cache", *_MATRICES):
        kind = getattr(precision, key)
        if kind in ("fp16", "bf16") and kind != precision.activations:
            yield Problem(
                ("precision", key),
                f"expected {precision.activations} like the activations (TensorRT inserts no casts), found {kind!r}",
            )


def _quantized_activations(spec: Spec) -> Iterator[Problem]:
    """A matrix with quantized activations has their format itself."""
    precision, key = spec.precision, ("precision", "activation_quantization")
    kind = precision.activation_quantization
    if kind in (None, "none"):
        yield from not_calibrated(spec)
        return
    if precision.weights != kind:
        yield Problem(key, f"{kind} activations need {kind} weights, found {precision.weights}: use none")
        return
    if precision.lm_head in ("fp8", *INTEGERS) and precision.lm_head != kind:
        yield Problem(
            ("precision", "lm_head"),
            f"with {kind} activations expected {kind} or {precision.activations}, found {precision.lm_head!r}",
        )


def _per_channel(spec: Spec) -> Iterator[Problem]:
    precision = spec.precision
    rows = [key for key in ("weights", "lm_head") if getattr(precision, key) == "int8"]
    if rows and precision.group_size != "channel":
        yield Problem(
            ("precision", "group_size"),
            f"int8 ({', '.join(rows)}) is per-channel with TensorRT, found groups of {precision.group_size}: use "
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
                f"{spec.target.backend} needs a divisor of {name} ({size}), found {group}",
            )


def _plugins(spec: Spec) -> Iterator[Problem]:
    precision, experts = spec.precision, spec.model.architecture.num_experts
    if spec.has_plugin("attention") and (width := spec.model.architecture.head_dim) not in HEAD_DIMS:
        expected = " or ".join(map(str, HEAD_DIMS))
        yield Problem(
            ("target", "plugins"), f"the attention plugin has kernels for a head_dim of {expected}, found {width}"
        )
    if not experts:
        if isinstance(spec.target.plugins, list) and "moe" in spec.target.plugins:
            yield Problem(("target", "plugins"), "a dense model has no experts, found 'moe': omit it")
        return
    if not spec.has_plugin("moe"):
        return
    sizes = GROUP_SIZES.get(precision.weights)
    if sizes is None and precision.weights in {fmt.kind for fmt in MATRICES}:
        known = f"the moe plugin has kernels for {', '.join(GROUP_SIZES)}"
        yield Problem(("target", "plugins"), f"{known}, found weights {precision.weights}")
    if precision.weights in INTEGERS and sizes and precision.group_size not in sizes:
        expected = " or ".join(map(str, sizes))
        known = f"the moe plugin has kernels for {precision.weights} in groups of {expected}"
        yield Problem(("precision", "group_size"), f"{known}, found {precision.group_size}")
    if precision.activation_quantization not in (None, "none"):
        found = f"the moe plugin does not quantize activations, found {precision.activation_quantization!r}: use none"
        yield Problem(("precision", "activation_quantization"), found)


def _without_kernels(spec: Spec, named: Sequence[str]) -> Iterator[Problem]:
    """Architectures without the kernels that the engine is made of, unless a format is what they lack."""
    named = [capability for capability in named if not _lacks_a_format(spec, [capability])]
    if spec.has_plugin("attention") or spec.has_plugin("moe"):
        lacking = [capability for capability in named if capability not in PLUGINS]
        needed = f"the plugins have kernels for {', '.join(PLUGINS)}"
    elif spec.model.architecture.num_experts:
        lacking = [capability for capability in named if not at_least(capability, EXPERTS)]
        needed = f"a mixture of experts needs compute capability {EXPERTS}"
    else:
        return
    if lacking:
        yield Problem(("target", "compute_capabilities"), f"{needed}, found {', '.join(lacking)}: remove it")


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
