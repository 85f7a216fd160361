"""Checks for backend `ort` on CUDA: one type for all that is not quantised, and what its experts take."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qwen3_compile.spec.problems import Problem
from qwen3_compile.spec.support import FLOATS, INTEGERS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from qwen3_compile.spec.schema import Spec

_EXPERT_GROUPS = (64, 128)


def cuda_problems(spec: Spec) -> Iterator[Problem]:
    """Yield what ONNX Runtime's CUDA operators would refuse."""
    if (spec.target.backend, spec.target.provider) != ("ort", "cuda"):
        return
    yield from _one_float(spec)
    if spec.model.architecture.num_experts:
        yield from _experts(spec)


def _one_float(spec: Spec) -> Iterator[Problem]:
    precision = spec.precision
    if precision.activations == "fp32":
        return  # reported where formats and providers are paired
    for key in ("kv_cache", "weights", "lm_head", "embedding"):
        kind = getattr(precision, key)
        if kind in FLOATS and kind != precision.activations:
            yield Problem(
                ("precision", key),
                f"expected {precision.activations} like the activations (ONNX Runtime's CUDA operators take one type), "
                f"found {kind!r}",
            )


def _experts(spec: Spec) -> Iterator[Problem]:
    precision = spec.precision
    if precision.weights == "fp8":
        yield Problem(
            ("precision", "weights"),
            "onnxruntime-gpu 1.31 is released without fp8 experts: take int8, int4, fp16 or bf16, found 'fp8'",
        )
    if precision.weights in INTEGERS and precision.group_size not in _EXPERT_GROUPS:
        yield Problem(
            ("precision", "group_size"),
            f"backend ort on cuda computes experts in groups of 64 or 128, found {precision.group_size!r}",
        )
    if not spec.model.architecture.norm_topk_prob:
        yield Problem(
            ("model", "architecture", "norm_topk_prob"),
            "backend ort on cuda renormalises the experts' weights: expected true, found false",
        )
