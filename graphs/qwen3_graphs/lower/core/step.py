"""The walk from a semantic graph to a lowered one, node by node, for targets that lower each operator by itself.

Standard operators are kept as they are; a target supplies one function for each semantic operator, and for each
standard one that it writes in its own way.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeVar

import onnx_ir as ir

from qwen3_graphs import schemas
from qwen3_graphs.errors import LoweringError
from qwen3_graphs.lower.core import weights

if TYPE_CHECKING:
    from qwen3_graphs.lower.core.writer import GraphWriter
    from qwen3_graphs.lowered import Precision

AnyStep = TypeVar("AnyStep", bound="Step")
Handlers = Mapping[str, Callable[[AnyStep, ir.Node, ir.Value], ir.Value]]


@dataclass
class Step:
    """The graph being written, whatever its contract.

    Attributes:
        writer: receives nodes and weights.
        precision: number formats asked for.
        values: what stands for each value of the semantic graph.
        shared: values that a target computes once and uses in every layer, by a name of its choice.
    """

    writer: GraphWriter
    precision: Precision
    values: dict[ir.Value, ir.Value] = field(default_factory=dict, kw_only=True)
    shared: dict[str, ir.Value] = field(default_factory=dict, kw_only=True)

    def once(self, name: str, make: Callable[[], ir.Value]) -> ir.Value:
        """Return the value called `name`, made at its first use."""
        if name not in self.shared:
            self.shared[name] = make()
        return self.shared[name]


def walk(step: AnyStep, semantic: ir.Model, handlers: Handlers[AnyStep]) -> None:
    """Write every node of a semantic graph.

    Args:
        step: its `values` hold what stands for the graph's inputs.
        semantic: the graph of `qwen3_graphs.trace`.
        handlers: for each operator a function of the step, the semantic node and its first input lowered; it writes
            nodes and returns what stands for the node's first output.

    Raises:
        LoweringError: the graph holds an operator of the semantic domain that has no handler.
    """
    for node in semantic.graph:
        if node.domain != schemas.DOMAIN and node.op_type not in handlers:
            _copy(step, node)
            continue
        if node.op_type not in handlers:
            raise LoweringError(f"the semantic graph holds {node.domain}::{node.op_type}, which has no lowering")
        first = node.inputs[0]
        assert first is not None  # noqa: S101 - every operator with a handler has a first input
        step.values[node.outputs[0]] = handlers[node.op_type](step, node, step.values[first])


def result(step: Step, semantic: ir.Model) -> ir.Value:
    """Return the graph's result, float32 [R, width], under its semantic name."""
    output = semantic.graph.outputs[0]
    found = _wide(step, step.values[output], str(output.name))
    width = output.shape[-1] if output.shape is not None else None
    found.type, found.shape = ir.TensorType(ir.DataType.FLOAT), ir.Shape(["R", width])
    return found


def tensor(name: str, dtype: ir.DataType, *shape: int | str) -> ir.Value:
    """Return an input of a lowered graph."""
    return ir.Value(name=name, type=ir.TensorType(dtype), shape=ir.Shape(list(shape)))


def _copy(step: Step, node: ir.Node) -> None:
    """Repeat a standard node on lowered inputs; a checkpoint tensor among them keeps its layout."""
    inputs = [None if value is None else _lowered(step, value) for value in node.inputs]
    names = [str(value.name) for value in node.outputs]
    copies = [ir.Value(name=name) for name in names]
    step.writer.nodes.append(
        ir.Node(node.domain, node.op_type, inputs, node.attributes.values(), outputs=copies, name=node.name or names[0])
    )
    step.values.update(zip(node.outputs, copies, strict=True))


def _lowered(step: Step, value: ir.Value) -> ir.Value:
    if value in step.values:
        return step.values[value]
    if value.const_value is not None and not isinstance(value.const_value, ir.ExternalTensor):
        return step.writer.constant(str(value.name), value.const_value.numpy())
    return weights.vector(step.writer, value, step.precision.activations)


def _wide(step: Step, found: ir.Value, name: str) -> ir.Value:
    """Return a value in float32, called `name`."""
    if step.precision.activations == "fp32":
        found.name = name
        return found
    producer = found.producer()
    assert producer is not None  # noqa: S101 - a result is computed
    producer.name = found.name = f"{name}.{step.precision.activations}"
    return step.writer.op("Cast", found, name=name, to=ir.DataType.FLOAT)
