"""From a semantic graph to one of the same packed interface (see `docs/architecture.md`)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from qwen3_graphs import interface
from qwen3_graphs.lower.core.step import StepGraph, finish, step_model, walk
from qwen3_graphs.lower.core.writer import GraphWriter

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    import onnx_ir as ir

    from qwen3_graphs.lower.core.step import Handlers
    from qwen3_graphs.lowered import Lowered, Precision


@dataclass
class PackedGraph(StepGraph):
    """The graph being written.

    Attributes:
        block_size: tokens of a cache block.
    """

    block_size: int


def lower_packed(
    semantic: ir.Model,
    precision: Precision,
    handlers: Handlers[PackedGraph],
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
    declared = interface.packed(step_model(semantic, precision), block_size)
    step = PackedGraph(GraphWriter(), precision, declared, block_size)
    for value in semantic.graph.inputs:
        step.values[value] = step.inputs[str(value.name)]
    walk(step, semantic, handlers)
    return finish(step, semantic, opset_imports, functions)
