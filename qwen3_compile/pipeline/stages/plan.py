"""Build the TensorRT plan of the graph. Only TensorRT has this stage."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, ClassVar

from qwen3_compile.engine.files import check_space, file_entry
from qwen3_compile.pipeline.fingerprint import code_fingerprint, tool_versions
from qwen3_compile.pipeline.stage import Stage
from qwen3_runtime.engine_files import MODEL, PLAN, WEIGHTS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from qwen3_compile.spec import Spec
    from qwen3_compile.targets import Target
    from qwen3_compile.tensorrt import PlanFacts

_FACTS = "facts.json"  # in the build's scratch folder


class PlanStage(Stage):
    """Makes `model.plan` from the graph and its weights."""

    name: ClassVar[str] = "plan"

    @classmethod
    def expected(cls, spec: Spec, target: Target) -> bool:
        """For TensorRT."""
        return target.has_plan

    def prepare(self) -> None:
        """Refuse what the disk cannot hold: the plan has the weights again, and so does the cache."""
        from qwen3_compile.tensorrt import PlanRequest, profiles_of

        build, spec = self.build, self.build.spec
        self._capabilities = tuple(build.capabilities or ())
        self._plugins = spec.target.plugins != "none"
        self._request = PlanRequest(spec.target.backend, self._capabilities, profiles_of(spec), self._plugins)
        self._outcome = ""
        check_space(build.folder, 2 * build.files[WEIGHTS].size)

    def inputs(self) -> Mapping[str, Any]:
        """The graph, its weights, and what TensorRT is asked."""
        modules = ("qwen3_compile.tensorrt", *(("qwen3_plugins.tensorrt",) if self._plugins else ()))
        return {
            "files": {name: self.build.files[name].sha256 for name in (MODEL, WEIGHTS)},
            "request": asdict(self._request),
            "code": code_fingerprint(*modules),
            "tools": tool_versions((*self.build.target.tools, *(("triton",) if self._plugins else ()))),
        }

    def outputs(self) -> Mapping[str, Path]:
        """The plan, and what is known of it."""
        return {"plan-facts": self.build.scratch / _FACTS, "plan": self.build.folder / PLAN}

    def produce(self) -> None:
        """Build the plan.

        Raises:
            CompileError: TensorRT refuses the graph.
        """
        from qwen3_compile.tensorrt import build_plan

        folder = self.build.folder
        found = build_plan(folder / MODEL, folder / PLAN, self._request)
        (self.build.scratch / _FACTS).write_text(json.dumps(asdict(found)), encoding="utf-8")
        self._outcome = f", built in {found.seconds:.1f} s"

    def finish(self) -> str:
        """Read the facts; the report tells them."""
        build = self.build
        found = read_facts(json.loads((build.scratch / _FACTS).read_bytes()))
        build.plan, build.notes = found, plan_notes(build.spec, found, self._capabilities)
        build.files[PLAN] = file_entry(build.folder / PLAN)
        warned = f", {len(found.warnings)} warnings" if found.warnings else ""
        named = ", ".join(self._capabilities)
        return f"{found.size / 1e6:.1f} MB for compute capability {named}{warned}{self._outcome}"


def read_facts(data: dict[str, Any]) -> PlanFacts:
    """The facts that were kept beside a plan."""
    from qwen3_compile.tensorrt import PlanFacts

    return PlanFacts(**{**data, "warnings": tuple(data["warnings"])})


def plan_notes(spec: Spec, facts: PlanFacts, capabilities: Sequence[str]) -> tuple[str, ...]:
    """What the report says of a plan, one paragraph each; nothing that differs between two builds of the same plan."""
    version = tool_versions((spec.target.backend,)).get(spec.target.backend, "")
    counted = ", ".join(f"{count} {kind}" for kind, count in facts.layers.items())
    target = f"{spec.target.backend} {version} for compute capability {', '.join(capabilities)}"
    return (
        f"model.plan: {facts.size / 1e6:.1f} MB, built by {target}.",
        f"Layers of the plan: {counted}.",
        f"Warnings: {'; '.join(facts.warnings)}." if facts.warnings else "TensorRT gave no warnings.",
    )
