"""The stage that only TensorRT has: the plan of the graph, from the cache where the same one was built before."""

from __future__ import annotations

import json
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qwen3_compile.engine.files import check_space
from qwen3_compile.pipeline.fingerprint import code_fingerprint, digest, tool_versions

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from qwen3_compile.pipeline.cache import Cache
    from qwen3_compile.pipeline.progress import Progress
    from qwen3_compile.spec import Spec
    from qwen3_compile.tensorrt import PlanFacts
    from qwen3_runtime.manifest import FileEntry

PLAN = "model.plan"
_PLANS, _FACTS = "plan", "plan-facts"  # two entries of the cache under one key
CACHED = "from the cache"


def engine_plan(
    spec: Spec,
    capabilities: Sequence[str],
    folder: Path,
    files: Mapping[str, FileEntry],
    cache: Cache,
    progress: Progress,
) -> PlanFacts:
    """Write `model.plan` from the `model.onnx` and `weights.bin` of `folder`.

    Args:
        spec: what is built.
        capabilities: architectures to build for.
        folder: the engine in the making.
        files: identities of its files.
        cache: may hold the same plan.
        progress: told how it goes.

    Raises:
        CompileError: TensorRT refuses the graph, or the disk is too small.
    """
    from qwen3_compile.tensorrt import PlanRequest, build_plan, profiles_of

    plugins = spec.target.plugins != "none"
    request = PlanRequest(spec.target.backend, tuple(capabilities), profiles_of(spec), plugins)
    inputs = {
        "files": {name: files[name].sha256 for name in ("model.onnx", "weights.bin")},
        "request": asdict(request),
        "code": code_fingerprint("qwen3_compile.tensorrt", *(("qwen3_plugins.tensorrt",) if plugins else ())),
        "tools": tool_versions((spec.target.backend, *(("triton",) if plugins else ()))),
    }
    key = digest(inputs)
    progress.begin("plan")
    check_space(folder, 2 * files["weights.bin"].size)  # the plan holds the weights again, and so does the cache
    with tempfile.TemporaryDirectory() as scratch:
        notes = Path(scratch) / "facts.json"
        found = cache.fetch(_FACTS, key, notes) and cache.fetch(_PLANS, key, folder / PLAN)
        if found:
            facts = read_facts(json.loads(notes.read_bytes()))
        else:
            facts = build_plan(folder / "model.onnx", folder / PLAN, request)
            notes.unlink(missing_ok=True)
            notes.write_text(json.dumps(asdict(facts)), encoding="utf-8")
            _keep(cache, key, {_PLANS: folder / PLAN, _FACTS: notes}, progress)
    took = CACHED if found else f"built in {facts.seconds:.1f} s"
    warned = f", {len(facts.warnings)} warnings" if facts.warnings else ""
    progress.end(f"{facts.size / 1e6:.1f} MB for compute capability {', '.join(capabilities)}{warned}, {took}")
    return facts


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
        f"Layers that it made of the graph: {counted}.",
        f"It warned: {'; '.join(facts.warnings)}." if facts.warnings else "It warned of nothing.",
    )


def _keep(cache: Cache, key: str, entries: Mapping[str, Path], progress: Progress) -> None:
    """Store a plan and its facts; a cache that cannot be written costs time in the next build."""
    try:
        for stage, path in entries.items():
            cache.store(stage, key, path)
    except OSError as error:
        progress.note(f"not cached: {error}")
