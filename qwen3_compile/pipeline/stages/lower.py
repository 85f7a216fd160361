"""Lower the semantic graph to the target's operators, and decide where every weight will lie.

The graph and its recipes are kept, so that a build whose graph is known imports neither ONNX nor PyTorch.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, ClassVar

from qwen3_compile.engine.files import file_entry
from qwen3_compile.errors import UnsupportedError
from qwen3_compile.pipeline.fingerprint import code_fingerprint, tool_versions
from qwen3_compile.pipeline.stage import Stage
from qwen3_compile.pipeline.stages.trace import SEMANTIC
from qwen3_graphs.lowered import recipe_from_json
from qwen3_runtime.engine_files import MODEL, WEIGHTS

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

_RECIPES = "recipes.json"  # in the build's scratch folder, as the graph until the engine's folder is there


class LowerStage(Stage):
    """Makes `model.onnx`, whose initializers are external data in `weights.bin`, and the recipe of each weight."""

    name: ClassVar[str] = "lower"

    def inputs(self) -> Mapping[str, Any]:
        """The semantic graph, the target, and all of the spec that a lowering sees."""
        build = self.build
        plugins = build.target.graph_plugins(build.spec)
        return {
            "semantic": file_entry(build.scratch / SEMANTIC).sha256,
            "target": build.target.name,
            "precision": asdict(build.spec.graph_precision()),
            "limits": asdict(build.spec.graph_limits()),
            "plugins": None if plugins is None else asdict(plugins),
            "pre_scaled": build.pre_scaled,
            "code": code_fingerprint(
                "qwen3_graphs.lower", "qwen3_graphs.serialize", "qwen3_compile.targets", "qwen3_compile.pack.stream"
            ),
            "tools": tool_versions(("ml-dtypes", "numpy", "onnx", "onnx-ir", "onnxscript")),
        }

    def outputs(self) -> Mapping[str, Path]:
        """The graph and the recipes, in the scratch folder."""
        return {"graph": self.build.scratch / MODEL, "recipes": self.build.scratch / _RECIPES}

    def produce(self) -> None:
        """Lower it.

        Raises:
            UnsupportedError: the target cannot compute the model in this precision.
        """
        import onnx_ir as ir

        from qwen3_compile.pack.stream import attach, place
        from qwen3_graphs.errors import LoweringError
        from qwen3_graphs.serialize import serialize

        build = self.build
        semantic = ir.load(build.scratch / SEMANTIC)
        try:
            lowered = build.target.lower(semantic, build.spec, pre_scaled=build.pre_scaled)
        except LoweringError as error:
            raise UnsupportedError(str(error)) from error
        placement = place(lowered.recipes)
        attach(lowered.model, placement, (slot for recipe in lowered.recipes for slot in recipe.outputs), WEIGHTS)
        (build.scratch / MODEL).write_bytes(serialize(lowered.model))
        document = {
            "operators": lowered.model.graph.num_nodes(),
            "size": placement.size,
            "recipes": [asdict(recipe) for recipe in lowered.recipes],
        }
        (build.scratch / _RECIPES).write_text(json.dumps(document), encoding="utf-8")

    def finish(self) -> str:
        """Read the recipes, and count the operators."""
        build = self.build
        document = json.loads((build.scratch / _RECIPES).read_bytes())
        build.recipes = tuple(recipe_from_json(recipe) for recipe in document["recipes"])
        build.weights_size = document["size"]
        return f"{document['operators']} operators for {build.target.name}"
