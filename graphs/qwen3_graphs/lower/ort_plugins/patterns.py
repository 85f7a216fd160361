"""Reading a semantic graph backwards: from a value to the operators that make it, each named by what it should be.

Whatever is read is remembered, so that a lowering can tell which operators it has understood; anything else is an
error that says what was expected and what was found.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from qwen3_graphs import schemas
from qwen3_graphs.errors import LoweringError

if TYPE_CHECKING:
    from collections.abc import Iterable

    import onnx_ir as ir


@dataclass(frozen=True)
class Norm:
    """An RMSNorm over the last axis: what it normalizes, its weight and its epsilon."""

    x: ir.Value
    weight: ir.Value
    epsilon: float


class Reader:
    """Follows values to their producers and remembers every node it was asked for."""

    def __init__(self, target: str) -> None:
        self._target = target
        self._read: set[ir.Node] = set()

    def take(self, node: ir.Node) -> tuple[ir.Value, ...]:
        """Mark a node as understood; returns its inputs, none of which is absent in a semantic graph."""
        self._read.add(node)
        inputs = tuple(value for value in node.inputs if value is not None)
        if len(inputs) != len(node.inputs):
            raise LoweringError(f"target {self._target}: {node.name} lacks an input")
        return inputs

    def semantic(self, value: ir.Value, op_type: str) -> ir.Node:
        """Return the semantic operator that makes a value."""
        return self._producer(value, op_type, schemas.DOMAIN)

    def linear(self, value: ir.Value) -> tuple[ir.Value, ir.Value]:
        """Return x and weight of the Linear that makes a value."""
        x, weight = self.take(self.semantic(value, "Linear"))
        return x, weight

    def norm(self, value: ir.Value) -> Norm:
        """Return the RMSNorm that makes a value."""
        node = self._producer(value, "RMSNormalization")
        x, weight = self.take(node)
        axis = node.attributes["axis"].as_int() if "axis" in node.attributes else -1
        if axis != -1:
            raise LoweringError(f"target {self._target}: {node.name} normalizes axis {axis}, expected the last")
        epsilon = node.attributes["epsilon"].as_float() if "epsilon" in node.attributes else 1e-5
        return Norm(x, weight, epsilon)

    def swiglu(self, value: ir.Value) -> tuple[ir.Value, ir.Value]:
        """Return gate and up of the gate * sigmoid(gate) * up that makes a value."""
        silu, up = self.take(self._producer(value, "Mul"))
        gate, sigmoid = self.take(self._producer(silu, "Mul"))
        (inner,) = self.take(self._producer(sigmoid, "Sigmoid"))
        if inner is not gate:
            raise LoweringError(f"target {self._target}: {silu.name} should be a SiLU, x * sigmoid(x)")
        return gate, up

    def gather(self, value: ir.Value, rows: ir.Value) -> ir.Value:
        """Return the matrix whose rows, those that the value `rows` names, a value holds."""
        node = self._producer(value, "Gather")
        matrix, index = self.take(node)
        axis = node.attributes["axis"].as_int() if "axis" in node.attributes else 0
        if index is not rows or axis != 0:
            raise LoweringError(f"target {self._target}: {node.name} should gather the rows {rows.name}")
        return matrix

    def check_all_read(self, nodes: Iterable[ir.Node]) -> None:
        """Refuse a graph with nodes that nobody asked for.

        Raises:
            LoweringError: naming the first.
        """
        for node in nodes:
            if node not in self._read:
                raise LoweringError(
                    f"target {self._target}: {_operator(node.domain, node.op_type)} ({node.name}) "
                    "is not part of any pattern that it fuses"
                )

    def _producer(self, value: ir.Value, op_type: str, domain: str = "") -> ir.Node:
        node = value.producer()
        if node is None or (node.domain, node.op_type) != (domain, op_type):
            found = "an input" if node is None else _operator(node.domain, node.op_type)
            raise LoweringError(
                f"target {self._target}: {value.name} should come from {_operator(domain, op_type)}, found {found}"
            )
        return node


def _operator(domain: str, op_type: str) -> str:
    return f"{domain}::{op_type}" if domain else op_type
