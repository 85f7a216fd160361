"""From a semantic graph, packed, to a graph that runs a padded step (see `docs/architecture.md`).

Standard operators work on rows and are kept as they are: a padded row computes something that nobody reads.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import onnx_ir as ir

from qwen3_graphs import interface
from qwen3_graphs.lower.core.step import StepGraph, finish, step_model, walk
from qwen3_graphs.lower.core.writer import GraphWriter

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from qwen3_graphs.lower.core.step import Handlers
    from qwen3_graphs.lowered import Lowered, Precision

CACHE_TYPES = {"fp32": ir.DataType.FLOAT, "fp16": ir.DataType.FLOAT16, "bf16": ir.DataType.BFLOAT16}


@dataclass
class PaddedGraph(StepGraph):
    """The graph being written, and what it computes of a step's shape.

    Attributes:
        batch: int64 [1], B.
        length: int64 [1], S.
        rows: int64 [B*S], the tokens of `input_ids`.
    """

    batch: ir.Value = field(init=False)
    length: ir.Value = field(init=False)
    rows: ir.Value = field(init=False)

    def __post_init__(self) -> None:
        """Write what gives the step's shape."""
        super().__post_init__()
        input_ids = self.inputs["input_ids"]
        self.batch = self.writer.op("Shape", self.query_len, name="step.batch")
        if len(input_ids.shape or ()) == 1:
            self.rows = input_ids
            rows = self.writer.op("Shape", input_ids, name="step.rows")
            self.length = self.writer.op("Div", rows, self.batch, name="step.length")
        else:
            self.length = self.writer.op("Shape", input_ids, name="step.length", start=1)
            self.rows = self.writer.op("Reshape", input_ids, self.writer.integers(-1), name="step.rows")

    @property
    def query_len(self) -> ir.Value:
        """New tokens of each sequence, int32 [B]."""
        return self.inputs["query_len"]

    @property
    def context_len(self) -> ir.Value:
        """Tokens of each sequence that are in its cache, int32 [B]."""
        return self.inputs["context_len"]

    def cache(self, layer: str) -> tuple[ir.Value, ir.Value]:
        """Return the caches of a layer, keys and values, [B, kv_heads, C, head_dim] each."""
        return self.inputs[f"{layer}.key"], self.inputs[f"{layer}.value"]

    def batched_shape(self, *widths: int) -> ir.Value:
        """Return the shape [B, S, *widths], int64."""
        name = f"step.shape_{'_'.join(map(str, widths))}"
        return self.once(
            name,
            lambda: self.writer.op("Concat", self.batch, self.length, self.writer.integers(*widths), name=name, axis=0),
        )

    def cache_output_names(self, layer: str) -> tuple[str, str]:
        """Return the names of a layer's cache outputs."""
        stem = layer.replace("kv.", "kv_out.", 1)
        return f"{stem}.key", f"{stem}.value"


def lower_padded(
    semantic: ir.Model,
    precision: Precision,
    handlers: Handlers[PaddedGraph],
    opset_imports: Mapping[str, int],
    *,
    capacity: int | None = None,
    functions: Iterable[ir.Function] = (),
) -> Lowered:
    """Rewrite a semantic graph for padded steps.

    Args:
        semantic: the graph of `qwen3_graphs.trace`.
        precision: number formats of weights and cache.
        handlers: see `walk`.
        opset_imports: the operator sets of the lowered graph.
        capacity: the length of every cache, for a target whose caches are of a fixed length; it takes `input_ids` as
            [B, S], so that B and S are dimensions of an input.
        functions: model-local functions of the lowered graph.

    Returns:
        The lowered graph and its recipes, equal bytes for equal arguments.

    Raises:
        LoweringError: the graph holds an operator of the semantic domain that has no handler.
    """
    model = step_model(semantic, precision)
    declared = interface.padded(model) if capacity is None else interface.padded_batch(model, capacity)
    step = PaddedGraph(GraphWriter(), precision, declared)
    rows = {"input_ids": step.rows, "logits_rows": step.inputs["logits_rows"]}
    for value in semantic.graph.inputs:
        if value.name in rows:
            step.values[value] = rows[value.name]
    walk(step, semantic, handlers)
    return finish(step, semantic, opset_imports, functions)
