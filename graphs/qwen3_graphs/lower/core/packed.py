"""From a semantic graph to one with the same contract: packed steps over a paged cache (see `docs/architecture.md`)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import onnx_ir as ir

from qwen3_graphs.formats import onnx_type
from qwen3_graphs.lower.core.step import Step, result, tensor, walk
from qwen3_graphs.lower.core.writer import GraphWriter
from qwen3_graphs.lowered import Lowered

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from qwen3_graphs.lower.core.step import Handlers
    from qwen3_graphs.lowered import Precision


@dataclass
class PackedStep(Step):
    """The graph being written: its inputs, the caches included, and its cache outputs.

    Attributes:
        block_size: tokens of a cache block.
        inputs: of the contract, in order, by name.
        cache_outputs: `kv_out.{i}`, layer after layer.
    """

    block_size: int
    inputs: dict[str, ir.Value] = field(default_factory=dict)
    cache_outputs: list[ir.Value] = field(default_factory=list)

    def cache_out(self, value: ir.Value, cache: ir.Value) -> None:
        """Declare the output that is `cache` after the step."""
        value.type, value.shape = cache.type, cache.shape
        self.cache_outputs.append(value)


def lower_packed(
    semantic: ir.Model,
    precision: Precision,
    handlers: Handlers[PackedStep],
    opset_imports: Mapping[str, int],
    *,
    block_size: int,
    functions: Iterable[ir.Function] = (),
) -> Lowered:
    """Rewrite a semantic graph operator by operator.

    Args:
        semantic: the graph of `qwen3_graphs.trace`.
        precision: number formats; caches have the type `kv_cache`.
        handlers: see `walk`.
        opset_imports: the operator sets of the lowered graph.
        block_size: tokens of a cache block, which TensorRT wants to know.
        functions: model-local functions of the lowered graph.

    Returns:
        The lowered graph and its recipes, equal bytes for equal arguments.

    Raises:
        LoweringError: the graph holds an operator of the semantic domain that has no handler.
    """
    step = PackedStep(GraphWriter(), precision, block_size)
    for value in semantic.graph.inputs:
        step.inputs[str(value.name)] = step.values[value] = _input(value, precision, block_size)
    walk(step, semantic, handlers)
    graph = ir.Graph(
        list(step.inputs.values()),
        [result(step, semantic), *step.cache_outputs],
        nodes=step.writer.nodes,
        initializers=step.writer.initializers,
        opset_imports=dict(opset_imports),
        name="qwen3",
    )
    model = ir.Model(graph, ir_version=10, producer_name="qwen3-compile", functions=list(functions))
    return Lowered(model, tuple(step.writer.recipes))


def _input(value: ir.Value, precision: Precision, block_size: int) -> ir.Value:
    """Return an input of the contract; caches take the type and the block length that they are stored in."""
    name, shape = str(value.name), value.shape
    assert shape is not None  # noqa: S101 - the tracer gives every input a shape
    sizes = [size if isinstance(size, int) else str(size.value) for size in shape]
    if not name.startswith("kv."):
        assert value.dtype is not None  # noqa: S101 - and a type
        return tensor(name, value.dtype, *sizes)
    sizes[3] = block_size
    return tensor(name, ir.DataType[onnx_type(precision.kv_cache)], *sizes)
