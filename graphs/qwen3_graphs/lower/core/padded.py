"""From a semantic graph, packed, to a graph that runs a padded step (see `docs/architecture.md`).

Standard operators work on rows and are kept as they are: a padded row computes something that nobody reads.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import onnx_ir as ir

from qwen3_graphs.lower.core.step import Step, result, tensor, walk
from qwen3_graphs.lower.core.writer import GraphWriter
from qwen3_graphs.lowered import Lowered

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from qwen3_graphs.lower.core.step import Handlers
    from qwen3_graphs.lowered import Precision

CACHE_TYPES = {"fp32": ir.DataType.FLOAT, "fp16": ir.DataType.FLOAT16, "bf16": ir.DataType.BFLOAT16}

# The placeholder type of a batch: every name below is a dimension of the contract.
_BATCH, _LENGTH, _CAPACITY, _ROWS = "B", "S", "C", "R"


@dataclass
class PaddedStep(Step):
    """The graph being written: its inputs, and the caches so far.

    Attributes:
        input_ids: int64 [B*S], or [B, S].
        rows: int64 [B*S], the same as rows.
        query_len: int32 [B].
        context_len: int32 [B].
        logits_rows: int64 [R].
        batch: int64 [1], B.
        length: int64 [1], S.
        capacity: tokens that a cache holds; a name where the caller decides.
        cache_inputs: `kv.{i}.key` and `kv.{i}.value`, layer after layer.
        cache_outputs: `kv_out.{i}.key` and `kv_out.{i}.value`.
    """

    input_ids: ir.Value
    rows: ir.Value
    query_len: ir.Value
    context_len: ir.Value
    logits_rows: ir.Value
    batch: ir.Value
    length: ir.Value
    capacity: int | str = _CAPACITY
    cache_inputs: list[ir.Value] = field(default_factory=list)
    cache_outputs: list[ir.Value] = field(default_factory=list)

    def cache(self, layer: str, kv_heads: int, head_dim: int) -> tuple[ir.Value, ir.Value]:
        """Declare and return the cache inputs of a layer, [B, kv_heads, C, head_dim] each."""
        pair = tuple(
            tensor(f"{layer}.{part}", CACHE_TYPES[self.precision.kv_cache], _BATCH, kv_heads, self.capacity, head_dim)
            for part in ("key", "value")
        )
        self.cache_inputs.extend(pair)
        return pair[0], pair[1]

    def rows_of(self, *widths: int) -> ir.Value:
        """Return the shape [B, S, *widths], int64."""
        name = f"step.shape_{'_'.join(map(str, widths))}"
        return self.once(
            name,
            lambda: self.writer.op("Concat", self.batch, self.length, self.writer.integers(*widths), name=name, axis=0),
        )

    def cache_out_names(self, layer: str) -> tuple[str, str]:
        """Return the names of a layer's cache outputs."""
        stem = layer.replace("kv.", "kv_out.", 1)
        return f"{stem}.key", f"{stem}.value"

    def cache_out(self, *values: ir.Value) -> None:
        """Declare a layer's cache outputs, of the type and shape of its inputs."""
        for value, source in zip(values, self.cache_inputs[-2:], strict=True):
            value.type, value.shape = source.type, source.shape
            self.cache_outputs.append(value)


def lower_padded(
    semantic: ir.Model,
    precision: Precision,
    handlers: Handlers[PaddedStep],
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
    step = _start(precision) if capacity is None else _start_fixed(precision, capacity)
    values = step.values
    for value in semantic.graph.inputs:
        if value.name in ("input_ids", "logits_rows"):
            values[value] = step.rows if value.name == "input_ids" else step.logits_rows
    walk(step, semantic, handlers)
    return _finish(semantic, step, opset_imports, functions)


def _start(precision: Precision) -> PaddedStep:
    writer = GraphWriter()
    input_ids = tensor("input_ids", ir.DataType.INT64, "B*S")
    query_len, context_len, logits_rows = _lengths_and_rows()
    batch = writer.op("Shape", query_len, name="step.batch")
    rows = writer.op("Shape", input_ids, name="step.rows")
    length = writer.op("Div", rows, batch, name="step.length")
    return PaddedStep(writer, precision, input_ids, input_ids, query_len, context_len, logits_rows, batch, length)


def _start_fixed(precision: Precision, capacity: int) -> PaddedStep:
    writer = GraphWriter()
    input_ids = tensor("input_ids", ir.DataType.INT64, _BATCH, _LENGTH)
    query_len, context_len, logits_rows = _lengths_and_rows()
    batch = writer.op("Shape", query_len, name="step.batch")
    length = writer.op("Shape", input_ids, name="step.length", start=1)
    rows = writer.op("Reshape", input_ids, writer.integers(-1), name="step.rows")
    return PaddedStep(writer, precision, input_ids, rows, query_len, context_len, logits_rows, batch, length, capacity)


def _lengths_and_rows() -> tuple[ir.Value, ir.Value, ir.Value]:
    return (
        tensor("query_len", ir.DataType.INT32, _BATCH),
        tensor("context_len", ir.DataType.INT32, _BATCH),
        tensor("logits_rows", ir.DataType.INT64, _ROWS),
    )


def _finish(
    semantic: ir.Model, step: PaddedStep, opset_imports: Mapping[str, int], functions: Iterable[ir.Function]
) -> Lowered:
    graph = ir.Graph(
        [step.input_ids, step.query_len, step.context_len, step.logits_rows, *step.cache_inputs],
        [result(step, semantic), *step.cache_outputs],
        nodes=step.writer.nodes,
        initializers=step.writer.initializers,
        opset_imports=dict(opset_imports),
        name="qwen3",
    )
    model = ir.Model(graph, ir_version=10, producer_name="qwen3-compile", functions=list(functions))
    return Lowered(model, tuple(step.writer.recipes))
