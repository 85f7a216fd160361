"""What to try when an engine misses its accuracy limits: more precision where the spec saves most of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

from qwen3_compile.errors import SpecError
from qwen3_compile.spec.cautions import cautions
from qwen3_compile.spec.load import spec_from_mapping
from qwen3_graphs.formats import INTEGERS, KINDS

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from qwen3_compile.accuracy_limits import Verdict
    from qwen3_compile.spec import Spec

Change: TypeAlias = "dict[str, str | int | None]"

_FLOATS = ("fp16", "bf16")
_FAR_RATIO = 100.0  # times the limit: no finer grid of integers wins as much
_BEST_FIGURES = {
    "max_kl": 0.0,
    "max_logit_error": 0.0,
    "min_top1_agreement": 1.0,
    "min_cosine": 1.0,
    "max_perplexity_ratio": 1.0,
}
_HALF_PRECISION_KL_NATS = 1e-7  # nats; the tiny model has 2.7e-7 with weights in fp32 and its cache in fp16


def suggestions(spec: Spec, verdicts: Sequence[Verdict] = ()) -> list[str]:
    """Changes that the target accepts, as `--set` takes them, the cheapest first; then what the limits cannot mean.

    Args:
        spec: what was built.
        verdicts: what validation found; a limit that is missed by far is told what floats can do for it.
    """
    far = [verdict for verdict in verdicts if _is_far(verdict)]
    halves = spec.precision.activations != "fp32" or spec.precision.kv_cache != "fp32"
    below = [
        verdict for verdict in far if halves and verdict.key == "max_kl" and verdict.limit < _HALF_PRECISION_KL_NATS
    ]
    changes = [change for change in (_floats(spec) if far else _finer(spec)) if not below and _is_valid(spec, change)]
    shown = [
        " ".join(f"--set precision.{key}={'null' if value is None else value}" for key, value in change.items())
        for change in changes
    ]
    closest = [
        f"accuracy.{verdict.key}={verdict.limit:g} is closer than rounding allows, even with float weights: relax it"
        for verdict in (far if not shown else ())
    ]
    return ([f"try {', or '.join(shown)}"] if shown else closest) + cautions(spec)


def _is_far(verdict: Verdict) -> bool:
    """Whether a figure is more than `_FAR_RATIO` times as far from the best there is as its limit is."""
    if verdict.passed is not False or verdict.measured is None or verdict.key not in _BEST_FIGURES:
        return False
    best = _BEST_FIGURES[verdict.key]
    return abs(verdict.measured - best) > _FAR_RATIO * abs(verdict.limit - best)


def _floats(spec: Spec) -> Iterator[Change]:
    """All weights in floats, and nothing rounded to integers on the way."""
    precision = spec.precision
    held = (precision.weights, precision.lm_head, precision.embedding)
    rest: Change = {"group_size": None, "fp8_scales": None, "activation_quantization": "none"}
    rest = {key: value for key, value in rest.items() if getattr(precision, key) != value}
    if precision.kv_cache == "int8":
        rest["kv_cache"] = "fp16"
    for kind in ("fp16", "fp32"):
        if rest or any(bits not in (kind, "fp32") for bits in held):
            yield {"weights": kind, "lm_head": kind, "embedding": kind, **rest}


def _finer(spec: Spec) -> Iterator[Change]:
    precision = spec.precision
    if KINDS[precision.lm_head].bits == 4:
        yield {"lm_head": "int8"}
    if precision.group_size not in (None, 32):
        yield {"group_size": 32}
    if precision.fp8_scales == "tensor":
        yield {"fp8_scales": "channel"}
    if precision.activation_quantization in ("int8", "fp8"):
        yield {"activation_quantization": "none"}
    if precision.kv_cache == "int8":
        yield {"kv_cache": "fp16"}
    if KINDS[precision.weights].bits == 4:
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
    if precision.group_size is not None and not others & {*INTEGERS}:
        unused["group_size"] = None
    if precision.fp8_scales is not None and "fp8" not in others:
        unused["fp8_scales"] = None
    return unused


def _is_valid(spec: Spec, change: Change) -> bool:
    """Whether the spec with this change is one that can be built."""
    document = spec.resolved()
    document["precision"] |= change
    try:
        spec_from_mapping(document, where=spec.name, base_dir=spec.base_dir)
    except SpecError:
        return False
    return True
