"""From a spec to a published engine, stage by stage, redoing only what changed."""

from __future__ import annotations

from qwen3_compile.pipeline.orchestrate import EngineInfo, build

__all__ = ["EngineInfo", "build"]
