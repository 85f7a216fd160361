"""What to try when an engine breaks its contract: more precision where the spec saves most of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

from qwen3_compile.errors import SpecError
from qwen3_compile.spec.cautions import cautions
from qwen3_compile.spec.load import spec_from_mapping
from qwen3_compile.spec.schema import INTEGER

if TYPE_CHECKING:
    from collections.abc import Iterator

    from qwen3_compile.spec import Spec

Change: TypeAlias = "dict[str, str | int | None]"

_FLOATS = ("fp16", "bf16")


def suggestions(spec: Spec) -> list[str]:
    """Changes that the target accepts, as `--set` takes them, the cheapest first; then what the limits cannot mean.

    Args:
        spec: what was built.
    """
    changes = [change for change in _finer(spec) if _accepted(spec, change)]
    shown = [
        " ".join(f"--set precision.{key}={'null' if value is None else value}" for key, value in change.items())
        for change in changes
    ]
    return ([f"try {', or '.join(shown)}"] if shown else []) + cautions(spec)


def _finer(spec: Spec) -> Iterator[Change]:
    precision = spec.precision
    if precision.lm_head == "int4":
        yield {"lm_head": "int8"}
    if precision.group_size not in (None, 32):
        yield {"group_size": 32}
    if precision.fp8_scales == "tensor":
        yield {"fp8_scales": "channel"}
    if precision.activation_quantization in ("int8", "fp8"):
        yield {"activation_quantization": "none"}
    if precision.kv_cache == "int8":
        yield {"kv_cache": "fp16"}
    if precision.weights == "int4":
        yield {"weights": "int8"}
    elif precision.weights in ("int8", "fp8"):
        yield from ({"weights": kind, **_unused(spec)} for kind in _FLOATS)
    if precision.activations == "fp16":
        yield {"activations": "bf16"}


def _unused(spec: Spec) -> Change:
    """What else to change once the weights are floats: keys that no format has a use for any more."""
    precision = spec.precision
    others = {precision.lm_head, precision.embedding}
    unused: Change = {}
    if precision.group_size is not None and not others & INTEGER:
        unused["group_size"] = None
    if precision.fp8_scales is not None and "fp8" not in others:
        unused["fp8_scales"] = None
    return unused


def _accepted(spec: Spec, change: Change) -> bool:
    """Whether the spec with this change is one that can be built."""
    document = spec.resolved()
    document["precision"] |= change
    try:
        spec_from_mapping(document, where=spec.name, base_dir=spec.base_dir)
    except SpecError:
        return False
    return True
