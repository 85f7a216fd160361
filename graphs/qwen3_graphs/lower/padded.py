"""The walk from a semantic graph, packed, to a graph that runs a padded step (see `docs/architecture.md`).

Standard operators work on rows and are kept as they are: a padded row computes something that nobody reads. A
target supplies one function for each semantic operator.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import onnx_ir as ir

from qwen3_graphs import schemas
from qwen3_graphs.errors import LoweringError
from qwen3_graphs.lower import weights
from qwen3_graphs.lower.writer import GraphWriter
from qwen3_graphs.lowered import Lowered

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from qwen3_graphs.lowered import Precision

Handler = Callable[["PaddedStep", ir.Node, ir.Value], ir.Value]

CACHE_TYPES = {"fp32": ir.DataType.FLOAT, "fp16": ir.DataType.FLOAT16, "bf16": ir.DataType.BFLOAT16}

# The placeholder type of a batch: every name below is a dimension of the contract.
_BATCH, _LENGTH, _CAPACITY, _ROWS = "B", "S", "C", "R"


@dataclass
class PaddedStep:
    """The graph being written: its inputs, what is computed once for all layers, and the caches so far.

    Attributes:
        writer: receives nodes and weights.
        precision: number formats asked for.
        input_ids: int64 [B*S], or [B, S].
        rows: int64 [B*S], the same as rows.
        query_len: int32 [B].
        context_len: int32 [B].
        logits_rows: int64 [R].
        batch: int64 [1], B.
        length: int64 [1], S.
        capacity: tokens that a cache holds; a name where the caller decides.
        values: what stands for each value of the semantic graph.
        cache_inputs: `kv.{i}.key` and `kv.{i}.value`, layer after layer.
        cache_outputs: `kv_out.{i}.key` and `kv_out.{i}.value`.
        shared: values that a target computes once and uses in every layer, by a name of its choice.
    """

    writer: GraphWriter
    precision: Precision
    input_ids: ir.Value
    rows: ir.Value
    query_len: ir.Value
    context_len: ir.Value
    logits_rows: ir.Value
    batch: ir.Value
    length: ir.Value
    capacity: int | str = _CAPACITY
    values: dict[ir.Value, ir.Value] = field(default_factory=dict)
    cache_inputs: list[ir.Value] = field(default_factory=list)
    cache_outputs: list[ir.Value] = field(default_factory=list)
    shared: dict[str, ir.Value] = field(default_factory=dict)

    def once(self, name: str, make: Callable[[], ir.Value]) -> ir.Value:
        """Return the value called `name`, made at its first use."""
        if name not in self.shared:
            self.shared[name] = make()
        return self.shared[name]

    def cache(self, layer: str, kv_heads: int, head_dim: int) -> tuple[ir.Value, ir.Value]:
        """Declare and return the cache inputs of a layer, [B, kv_heads, C, head_dim] each."""
        pair = tuple(
            _tensor(f"{layer}.{part}", CACHE_TYPES[self.precision.kv_cache], _BATCH, kv_heads, self.capacity, head_dim)
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
    handlers: Mapping[str, Handler],
    opset_imports: Mapping[str, int],
    *,
    capacity: int | None = None,
    functions: Iterable[ir.Function] = (),
) -> Lowered:
    """Rewrite a semantic graph for padded steps.

    Args:
        semantic: the graph of `qwen3_graphs.trace`.
        precision: number formats of weights and cache.
        handlers: for each semantic operator (and each standard one that a target writes in its own way), a function of
            the step, the semantic node and its first input lowered; it writes nodes and returns what stands for the
            node's first output.
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
    for node in semantic.graph:
        if node.domain != schemas.DOMAIN and node.op_type not in handlers:
            _copy(step, node)
            continue
        if node.op_type not in handlers:
            raise LoweringError(f"the semantic graph holds {node.domain}::{node.op_type}, which has no lowering")
        first = node.inputs[0]
        assert first is not None  # noqa: S101 - every operator with a handler has a first input
        values[node.outputs[0]] = handlers[node.op_type](step, node, values[first])
    return _finish(semantic, step, opset_imports, functions)


def _start(precision: Precision) -> PaddedStep:
    writer = GraphWriter()
    input_ids = _tensor("input_ids", ir.DataType.INT64, "B*S")
    query_len, context_len, logits_rows = _lengths_and_rows()
    batch = writer.op("Shape", query_len, name="step.batch")
    rows = writer.op("Shape", input_ids, name="step.rows")
    length = writer.op("Div", rows, batch, name="step.length")
    return PaddedStep(writer, precision, input_ids, input_ids, query_len, context_len, logits_rows, batch, length)


def _start_fixed(precision: Precision, capacity: int) -> PaddedStep:
    writer = GraphWriter()
    input_ids = _tensor("input_ids", ir.DataType.INT64, _BATCH, _LENGTH)
    query_len, context_len, logits_rows = _lengths_and_rows()
    batch = writer.op("Shape", query_len, name="step.batch")
    length = writer.op("Shape", input_ids, name="step.length", start=1)
    rows = writer.op("Reshape", input_ids, writer.integers(-1), name="step.rows")
    return PaddedStep(writer, precision, input_ids, rows, query_len, context_len, logits_rows, batch, length, capacity)


def _lengths_and_rows() -> tuple[ir.Value, ir.Value, ir.Value]:
    return (
        _tensor("query_len", ir.DataType.INT32, _BATCH),
        _tensor("context_len", ir.DataType.INT32, _BATCH),
        _tensor("logits_rows", ir.DataType.INT64, _ROWS),
    )


def _copy(step: PaddedStep, node: ir.Node) -> None:
    """Repeat a standard node on lowered inputs; a checkpoint tensor among them keeps its layout."""
    inputs = [None if value is None else _lowered(step, value) for value in node.inputs]
    names = [str(value.name) for value in node.outputs]
    copies = [ir.Value(name=name) for name in names]
    step.writer.nodes.append(
        ir.Node(node.domain, node.op_type, inputs, node.attributes.values(), outputs=copies, name=node.name or names[0])
    )
    step.values.update(zip(node.outputs, copies, strict=True))


def _lowered(step: PaddedStep, value: ir.Value) -> ir.Value:
    if value in step.values:
        return step.values[value]
    if value.const_value is not None and not isinstance(value.const_value, ir.ExternalTensor):
        return step.writer.constant(str(value.name), value.const_value.numpy())
    return weights.vector(step.writer, value)


def _finish(
    semantic: ir.Model, step: PaddedStep, opset_imports: Mapping[str, int], functions: Iterable[ir.Function]
) -> Lowered:
    semantic_output = semantic.graph.outputs[0]
    result = _wide_result(step, step.values[semantic_output], str(semantic_output.name))
    width = semantic_output.shape[-1] if semantic_output.shape is not None else None
    result.type, result.shape = ir.TensorType(ir.DataType.FLOAT), ir.Shape([_ROWS, width])
    graph = ir.Graph(
        [step.input_ids, step.query_len, step.context_len, step.logits_rows, *step.cache_inputs],
        [result, *step.cache_outputs],
        nodes=step.writer.nodes,
        initializers=step.writer.initializers,
        opset_imports=dict(opset_imports),
        name="qwen3",
    )
    model = ir.Model(graph, ir_version=10, producer_name="qwen3-compile", functions=list(functions))
    return Lowered(model, tuple(step.writer.recipes))


def _wide_result(step: PaddedStep, result: ir.Value, name: str) -> ir.Value:
    """Return the graph's result in float32, called `name`."""
    if step.precision.activations == "fp32":
        result.name = name
        return result
    producer = result.producer()
    assert producer is not None  # noqa: S101 - a result is computed
    producer.name = result.name = f"{name}.{step.precision.activations}"
    return step.writer.op("Cast", result, name=name, to=ir.DataType.FLOAT)


def _tensor(name: str, dtype: ir.DataType, *shape: int | str) -> ir.Value:
    return ir.Value(name=name, type=ir.TensorType(dtype), shape=ir.Shape(list(shape)))
