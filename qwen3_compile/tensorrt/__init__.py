"""TensorRT plans from lowered graphs, by the one interface that `tensorrt` and `tensorrt_rtx` share."""

from __future__ import annotations

from qwen3_compile.tensorrt.plan_builder import PlanFacts, PlanRequest, build_plan
from qwen3_compile.tensorrt.profiles import Profile, profiles_of

__all__ = ["PlanFacts", "PlanRequest", "Profile", "build_plan", "profiles_of"]
