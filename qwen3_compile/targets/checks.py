"""What every target is asked of a spec: whether there is one, and whether it has the number formats and shapes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qwen3_compile.problem import Problem
from qwen3_compile.targets import TARGETS, find_target
from qwen3_compile.targets.formats import heads_in_words
from qwen3_graphs.formats import INTEGERS, KINDS

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from qwen3_compile.spec.schema import Spec, TargetSection
    from qwen3_compile.targets import Target


def target_problems(spec: Spec) -> Iterator[Problem]:
    """Yield what the target of a spec cannot do."""
    section = spec.target
    target = find_target(section.backend, section.provider, section.plugins)
    if target is None:
        yield Problem(("target",), _no_target(section))
        return
    yield from _formats(spec, target)
    yield from _head_dim(spec, target)
    yield from target.problems(spec)


def _no_target(section: TargetSection) -> str:
    same = [target for target in TARGETS if target.backend == section.backend]
    known = "; ".join(f"{each.backend} on {each.provider} with plugins {each.plugins_in_words()}" for each in same)
    found = section.plugins if isinstance(section.plugins, str) else f"[{', '.join(section.plugins)}]"
    others = [each.name for each in TARGETS if each.takes(section.plugins)]
    hint = "" if any(target.takes(section.plugins) for target in same) else f" ({' or '.join(others)} takes that)"
    return (
        f"expected one of the targets {known}; found {section.backend} on {section.provider} with plugins {found}{hint}"
    )


def _formats(spec: Spec, target: Target) -> Iterator[Problem]:
    formats = target.formats
    for key in ("weights", "lm_head", "embedding", "activations", "kv_cache"):
        yield from _check_format(spec, target, key, getattr(formats, key))
    if spec.precision.group_size is not None and formats.group_sizes:  # else the integer format itself is refused
        yield from _check_format(spec, target, "group_size", formats.group_sizes)
    if spec.precision.fp8_scales is not None and formats.fp8_scales:  # else fp8 itself is refused
        yield from _check_format(spec, target, "fp8_scales", formats.fp8_scales)
    yield from _check_format(spec, target, "activation_quantization", formats.activation_quantization)
    if formats.quantized_int8_experts:
        yield from _quantized_int8_experts(spec, target)
    if formats.whole_expert_groups:
        yield from _whole_expert_groups(spec, target)
    if formats.even_four_bit_outputs:
        yield from _even_four_bit_outputs(spec, target)


def _check_format(spec: Spec, target: Target, key: str, allowed: Sequence[int | str]) -> Iterator[Problem]:
    found = getattr(spec.precision, key)
    if found in allowed:
        return
    field = "group_sizes" if key == "group_size" else key
    others = [
        other.name for other in TARGETS if other.provider == target.provider and found in getattr(other.formats, field)
    ]
    hint = f" (which {' or '.join(others)} does)" if others else ""
    kinds = " or ".join(map(str, allowed))
    yield Problem(("precision", key), f"{target.name} supports {kinds}, found {found!r}{hint}")


def _head_dim(spec: Spec, target: Target) -> Iterator[Problem]:
    width = spec.model.architecture.head_dim
    if width % 2 or (target.has_plan and spec.has_plugin("attention")):
        return  # reported by the checks of the model and of the plugins
    allowed = target.formats.head_dims_with(spec.precision.kv_cache)
    if width not in allowed:
        others = [other.name for other in TARGETS if width in other.formats.head_dims]
        hint = f" (which {' or '.join(others)} does)" if others else ""
        yield Problem(
            ("model", "architecture", "head_dim"),
            f"{target.name} supports {heads_in_words(allowed)}, found {width}{hint}",
        )


def _quantized_int8_experts(spec: Spec, target: Target) -> Iterator[Problem]:
    experts, kind = spec.model.architecture.num_experts, spec.precision.activation_quantization
    if experts and spec.precision.weights == "int8" and kind == "none":
        yield Problem(
            ("precision", "activation_quantization"),
            f"{target.name} always quantizes the activations of int8 experts: use int8, or int4 weights",
        )


def _whole_expert_groups(spec: Spec, target: Target) -> Iterator[Problem]:
    architecture, group = spec.model.architecture, spec.precision.group_size
    if not architecture.num_experts or spec.precision.weights not in INTEGERS or not isinstance(group, int):
        return
    for name in ("hidden_size", "moe_intermediate_size"):
        if (size := getattr(architecture, name)) % group:
            yield Problem(
                ("precision", "group_size"),
                f"{target.name} needs a divisor of {name} ({size}) for its experts, found {group}",
            )


def _even_four_bit_outputs(spec: Spec, target: Target) -> Iterator[Problem]:
    vocabulary, kind = spec.model.architecture.vocab_size, spec.precision.lm_head
    if spec.model.task != "embedding" and KINDS[kind].bits == 4 and vocabulary % 2:
        yield Problem(
            ("precision", "lm_head"),
            f"{target.name} needs an even vocab_size for {kind}, found {vocabulary}: use int8",
        )
