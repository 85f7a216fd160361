"""The walk from a semantic graph to a lowered one, node by node, for targets that lower each operator by itself.

Standard operators are kept as they are; a target supplies one function for each semantic operator, and for each
standard one that it writes in its own way.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeVar, cast

import onnx_ir as ir

from qwen3_graphs import interface, schemas
from qwen3_graphs.errors import LoweringError
from qwen3_graphs.formats import onnx_type
from qwen3_graphs.lower.core import weights
from qwen3_graphs.lowered import Lowered

if TYPE_CHECKING:
    from collections.abc import Iterable

    from qwen3_graphs.interface import StepInterface, StepModel, StepTensor
    from qwen3_graphs.lower.core.writer import GraphWriter
    from qwen3_graphs.lowered import Precision

AnyStepGraph = TypeVar("AnyStepGraph", bound="StepGraph")
Handlers = Mapping[str, Callable[[AnyStepGraph, ir.Node, ir.Value], ir.Value]]


@dataclass
class StepGraph:
    """The graph being written, whatever its interface.

    Attributes:
        writer: receives nodes and weights.
        precision: number formats asked for.
        interface: the graph's inputs and outputs.
        inputs: those inputs by name, in order, caches among them.
        cache_outputs: outputs that are caches after the step, in order.
        values: what stands for each value of the semantic graph.
        shared: values that a target computes once and uses in every layer, by a name of its choice.
    """

    writer: GraphWriter
    precision: Precision
    interface: StepInterface
    inputs: dict[str, ir.Value] = field(init=False)
    cache_outputs: list[ir.Value] = field(default_factory=list, init=False)
    values: dict[ir.Value, ir.Value] = field(default_factory=dict, kw_only=True)
    shared: dict[str, ir.Value] = field(default_factory=dict, kw_only=True)

    def __post_init__(self) -> None:
        """Declare the inputs."""
        self.inputs = graph_inputs(self.interface)

    def add_cache_outputs(self, *values: ir.Value) -> None:
        """Declare outputs that are caches after the step; their names are the interface's."""
        declared = {each.name: each for each in self.interface.outputs}
        for value in values:
            set_type_and_shape(value, declared[str(value.name)])
            self.cache_outputs.append(value)

    def once(self, name: str, make: Callable[[], ir.Value]) -> ir.Value:
        """Return the value called `name`, made at its first use."""
        if name not in self.shared:
            self.shared[name] = make()
        return self.shared[name]


def walk(step: AnyStepGraph, semantic: ir.Model, handlers: Handlers[AnyStepGraph]) -> None:
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


def _write_result(step: StepGraph, semantic: ir.Model) -> ir.Value:
    """Write the graph's result: in float32, with the name and shape that the interface declares."""
    declared = step.interface.result
    found = step.values[semantic.graph.outputs[0]]
    if step.precision.activations != "fp32":
        _rename(found, f"{declared.name}.{step.precision.activations}")
        found = step.writer.op("Cast", found, name=declared.name, to=ir.DataType.FLOAT)
    found.name = declared.name
    return set_type_and_shape(found, declared)


def finish(
    step: StepGraph, semantic: ir.Model, opset_imports: Mapping[str, int], functions: Iterable[ir.Function]
) -> Lowered:
    """Return what was written, as a model with the step's interface."""
    graph = ir.Graph(
        list(step.inputs.values()),
        [_write_result(step, semantic), *step.cache_outputs],
        nodes=step.writer.nodes,
        initializers=step.writer.initializers,
        opset_imports=dict(opset_imports),
        name="qwen3",
    )
    model = ir.Model(graph, ir_version=10, producer_name="qwen3-compile", functions=list(functions))
    return Lowered(model, tuple(step.writer.recipes))


def step_model(semantic: ir.Model, precision: Precision) -> StepModel:
    """What the interface of a lowered graph depends on."""
    declared = {each.name for each in interface.PACKED}
    caches = [value for value in semantic.graph.inputs if value.name not in declared]
    output = semantic.graph.outputs[0]
    return interface.StepModel(
        layers=len(caches),
        kv_heads=_size(caches[0], 2),
        head_dim=_size(caches[0], 4),
        cache=cast("interface.Element", onnx_type(precision.kv_cache)),
        result=str(output.name),
        width=_size(output, 1),
    )


def _size(value: ir.Value, axis: int) -> int:
    size = None if value.shape is None else value.shape[axis]
    assert isinstance(size, int)  # noqa: S101 - the tracer gives it
    return size


def graph_inputs(declared: StepInterface) -> dict[str, ir.Value]:
    """Return the inputs of a graph by name, in order."""
    return {each.name: set_type_and_shape(ir.Value(name=each.name), each) for each in declared.inputs}


def set_type_and_shape(value: ir.Value, declared: StepTensor) -> ir.Value:
    """Give a value the type and shape that are declared for it, and return it."""
    value.type = ir.TensorType(ir.DataType[declared.element])
    value.shape = ir.Shape(list(declared.shape))
    return value


def _copy(step: StepGraph, node: ir.Node) -> None:
    """Repeat a standard node on lowered inputs; a checkpoint tensor among them keeps its layout."""
    inputs = [None if value is None else _lower_input(step, value) for value in node.inputs]
    names = [str(value.name) for value in node.outputs]
    copies = [ir.Value(name=name) for name in names]
    step.writer.nodes.append(
        ir.Node(node.domain, node.op_type, inputs, node.attributes.values(), outputs=copies, name=node.name or names[0])
    )
    step.values.update(zip(node.outputs, copies, strict=True))


def _lower_input(step: StepGraph, value: ir.Value) -> ir.Value:
    if value in step.values:
        return step.values[value]
    if value.const_value is not None and not isinstance(value.const_value, ir.ExternalTensor):
        return step.writer.constant(str(value.name), value.const_value.numpy())
    return weights.add_vector(step.writer, value, step.precision.activations)


def _rename(value: ir.Value, name: str) -> None:
    """Rename a value and the node that computes it."""
    producer = value.producer()
    assert producer is not None  # noqa: S101 - a result is computed
    producer.name = value.name = name
