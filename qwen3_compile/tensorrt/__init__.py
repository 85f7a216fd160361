"""TensorRT plans from lowered graphs, by the one interface that `tensorrt` and `tensorrt_rtx` share."""

from __future__ import annotations

from qwen3_compile.tensorrt.plan_builder import PlanFacts, PlanRequest, build_plan
from qwen3_compile.tensorrt.profiles import PlanProfile, profiles_of

__all__ = ["PlanFacts", "PlanProfile", "PlanRequest", "build_plan", "profiles_of"]
