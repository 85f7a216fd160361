"""Writing a lowered graph: nodes in order, shared constants, and weights that are recipes instead of bytes."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import onnx_ir as ir

from qwen3_graphs.lowered import TensorSlot, WeightRecipe

if TYPE_CHECKING:
    from collections.abc import Sequence

    from qwen3_graphs.formats import WeightFormat

Attribute: TypeAlias = int | float | str | list[int] | ir.DataType | ir.Graph
Sources: TypeAlias = tuple[tuple[str, ...], ...]


class GraphWriter:
    """Collects the nodes, constants and weights of a graph.

    The same constant or weight asked for twice is one initializer, so that tied matrices and shapes are shared.
    """

    def __init__(self, parent: GraphWriter | None = None) -> None:
        self.nodes: list[ir.Node] = []
        self.initializers: list[ir.Value] = [] if parent is None else parent.initializers
        self.recipes: list[WeightRecipe] = [] if parent is None else parent.recipes
        self._taken: set[str] = set() if parent is None else parent._taken
        self._constants: dict[str, ir.Value] = {} if parent is None else parent._constants
        self._weights: dict[object, tuple[ir.Value, ...]] = {} if parent is None else parent._weights

    def body(self) -> GraphWriter:
        """Return a writer of a subgraph: nodes of its own, constants and weights of the graph around it."""
        return GraphWriter(self)

    def op(
        self, op_type: str, *inputs: ir.Value | None, name: str, domain: str = "", **attributes: Attribute
    ) -> ir.Value:
        """Add a node with one output, called `name`."""
        return self.op_with_outputs(op_type, *inputs, names=(name,), domain=domain, **attributes)[0]

    def op_with_outputs(
        self,
        op_type: str,
        *inputs: ir.Value | None,
        names: Sequence[str],
        domain: str = "",
        **attributes: Attribute,
    ) -> Sequence[ir.Value]:
        """Add a node whose outputs, and itself after the first of them, are called `names`.

        An input that is None is absent; at the end it is left out.
        """
        while inputs and inputs[-1] is None:
            inputs = inputs[:-1]
        outputs = [ir.Value(name=name) for name in names]
        node = ir.node(op_type, inputs, attributes=attributes, domain=domain, outputs=outputs, name=names[0])
        self.nodes.append(node)
        return node.outputs

    def integers(self, *values: int) -> ir.Value:
        """Return the constant int64 [n]."""
        return self._constant("int64." + "_".join(map(str, values)), np.array(values, np.int64))

    def integer(self, value: int) -> ir.Value:
        """Return the constant int64 scalar."""
        return self._constant(f"int64.scalar.{value}", np.array(value, np.int64))

    def constant(self, name: str, array: np.ndarray[Any, Any]) -> ir.Value:
        """Return a small constant; `name` must say its value and its type."""
        return self._constant(name, array)

    def add_weight(
        self, layout: str, fmt: WeightFormat, sources: Sources, slots: Sequence[TensorSlot]
    ) -> tuple[ir.Value, ...]:
        """Return the initializers `slots`, and note the recipe by which the build makes their bytes."""
        key = (layout, fmt, sources)
        if key not in self._weights:
            slots = [_distinct(slot, fmt, self._taken) for slot in slots]
            self._taken.update(slot.name for slot in slots)
            self.recipes.append(WeightRecipe(layout, fmt, sources, tuple(slots)))
            self._weights[key] = tuple(
                ir.Value(name=slot.name, type=ir.TensorType(ir.DataType[slot.dtype]), shape=ir.Shape(list(slot.shape)))
                for slot in slots
            )
            self.initializers.extend(self._weights[key])
        return self._weights[key]

    def _constant(self, name: str, array: np.ndarray[Any, Any]) -> ir.Value:
        full_name = f"constant.{name}"
        if full_name not in self._constants:
            tensor = ir.tensor(array, name=full_name)
            value = ir.Value(
                name=full_name, type=ir.TensorType(tensor.dtype), shape=ir.Shape(list(array.shape)), const_value=tensor
            )
            self._constants[full_name] = value
            self.initializers.append(value)
        return self._constants[full_name]


def _distinct(slot: TensorSlot, fmt: WeightFormat, taken: set[str]) -> TensorSlot:
    """Name a second form of a checkpoint tensor, such as the tied head in another format, by its format too."""
    if slot.name not in taken:
        return slot
    return replace(slot, name=f"{slot.name}.{fmt.name}")
