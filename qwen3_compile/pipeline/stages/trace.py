"""Trace the eager model into the semantic graph, which every target is lowered from."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any, ClassVar

from qwen3_compile.engine.manifest import output_of
from qwen3_compile.pipeline.fingerprint import code_fingerprint, tool_versions
from qwen3_compile.pipeline.stage import Stage

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

SEMANTIC = "semantic.onnx"  # in the build's scratch folder


class TraceStage(Stage):
    """Makes the semantic graph, a file without weights."""

    name: ClassVar[str] = "trace"

    def inputs(self) -> Mapping[str, Any]:
        """The model's dimensions, and what traces it."""
        spec = self.build.spec
        return {
            "architecture": asdict(spec.graph_architecture()),
            "output": output_of(spec),
            "max_context": spec.limits.max_context,
            "code": code_fingerprint("qwen3_graphs.trace", "qwen3_graphs.serialize"),
            "tools": tool_versions(("numpy", "onnx", "onnx-ir", "onnxscript", "torch")),
        }

    def outputs(self) -> Mapping[str, Path]:
        """The graph, in the scratch folder."""
        return {"trace": self.build.scratch / SEMANTIC}

    def produce(self) -> None:
        """Trace it."""
        from qwen3_graphs.serialize import serialize
        from qwen3_graphs.trace import trace

        spec = self.build.spec
        semantic = trace(spec.graph_architecture(), output=output_of(spec), max_context=spec.limits.max_context)
        (self.build.scratch / SEMANTIC).write_bytes(serialize(semantic))

    def finish(self) -> str:
        """How large it is."""
        return f"{self.build.spec.model.architecture.num_hidden_layers} layers"
