"""Target ort with plugins: the operators of our ONNX Runtime plugin, in the packed interface of the semantic graph.

A layer becomes four operators: queries, keys and values as one Linear with the norm inside; Attention; the output
projection with the residual; and MoE with norm and residual, or gate and up as one SwiGLU Linear and the down
projection with the residual. The head is one operator; beside the logits it gives the largest of each row, as many as
the input `top_k` asks for, so that a runtime need not look at the rest. Attention writes its cache in place, so there
are no outputs for caches. With quantized activations the inputs of integer matrices become int8 in groups.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import onnx_ir as ir

from qwen3_graphs import interface, schemas
from qwen3_graphs.errors import LoweringError
from qwen3_graphs.lower.core import weights
from qwen3_graphs.lower.core.step import graph_inputs, set_type_and_shape, step_model
from qwen3_graphs.lower.core.writer import GraphWriter
from qwen3_graphs.lower.ort_plugins import panels
from qwen3_graphs.lower.ort_plugins.formats import MATRICES
from qwen3_graphs.lower.ort_plugins.patterns import Norm, Reader
from qwen3_graphs.lowered import Lowered

if TYPE_CHECKING:
    from collections.abc import Sequence

    from qwen3_graphs.interface import StepInterface
    from qwen3_graphs.lower.core.writer import Attribute
    from qwen3_graphs.lower.ort_plugins.panels import Panels
    from qwen3_graphs.lowered import Limits, Precision

TARGET = "ort with plugins"
CACHE_TYPES = {"fp16": ir.DataType.FLOAT16, "int8": ir.DataType.INT8}


def lower(semantic: ir.Model, precision: Precision, limits: Limits) -> Lowered:
    """Lower to the plugin's operators; see `qwen3_graphs.lower.lower`."""
    del limits  # nothing in these operators depends on the sizes
    weights.check_formats(precision, TARGET, tuple(CACHE_TYPES), MATRICES)
    declared = interface.packed_plugins(step_model(semantic, precision))
    return _Lowering(semantic.graph, precision, declared).run()


class _Lowering:
    """Walks the semantic graph once; `values` holds what stands for those values that are computed as such."""

    def __init__(self, graph: ir.Graph, precision: Precision, declared: StepInterface) -> None:
        self.graph = graph
        self.precision = precision
        self.writer = GraphWriter()
        self.reader = Reader(TARGET)
        self.interface = declared
        self.inputs = graph_inputs(declared)
        self.values = {value: self.inputs[str(value.name)] for value in graph.inputs}

    def run(self) -> Lowered:
        handlers = {
            (schemas.DOMAIN, "Embedding"): self.lower_embedding,
            (schemas.DOMAIN, "Attention"): self.lower_attention,
            ("", "Add"): self.lower_residual,
        }
        for node in self.graph:
            handler = handlers.get((node.domain, node.op_type))
            if handler is not None:
                self.values[node.outputs[0]] = handler(node)
        output = self.graph.outputs[0]
        results = self.lower_head(output) if output.name == "logits" else [self.lower_hidden(output)]
        self.reader.check_all_read(self.graph)
        for result, each in zip(results, self.interface.outputs, strict=True):
            set_type_and_shape(result, each)
        graph = ir.Graph(
            list(self.inputs.values()),
            results,
            nodes=self.writer.nodes,
            initializers=self.writer.initializers,
            opset_imports={"": schemas.OPSET, schemas.DOMAIN: schemas.VERSION},
            name="qwen3",
        )
        return Lowered(ir.Model(graph, ir_version=10, producer_name="qwen3-compile"), tuple(self.writer.recipes))

    def lower_embedding(self, node: ir.Node) -> ir.Value:
        ids, table = self.reader.take(node)
        packed = panels.add_stacked_rows(self.writer, self.precision.embedding, [table])
        return self.add_op(
            "Embedding", self.lowered(ids), packed.codes, packed.scales, name=_name(node), **packed.attributes()
        )

    def lower_attention(self, node: ir.Node) -> ir.Value:
        inputs, name = self.reader.take(node), _name(node)
        projections = [self.reader.linear(value) for value in inputs[:3]]
        if len({x for x, _ in projections}) != 1:
            raise LoweringError(f"target {TARGET}: queries, keys and values of {name} should be made from one input")
        norm = self.reader.norm(projections[0][0])
        packed = panels.add_stacked_rows(self.writer, self.precision.weights, [matrix for _, matrix in projections])
        qkv = self.add_linear(self.lowered(norm.x), packed, f"{name}.qkv", norm=norm)
        tables = [weights.add_vector(self.writer, value) for value in inputs[3:7]]
        cache, *step = (self.lowered(value) for value in inputs[7:])
        attributes = {key: node.attributes[key] for key in ("num_heads", "kv_num_heads", "head_dim")}
        return self.add_op(
            "Attention",
            qkv,
            *tables,
            cache,
            self.cache_scales(cache),
            *step,
            name=name,
            **{key: attribute.as_int() for key, attribute in attributes.items()},
            epsilon=node.attributes["epsilon"].as_float(),
        )

    def cache_scales(self, cache: ir.Value) -> ir.Value | None:
        """Return the input that holds an int8 cache's scales, float32 [blocks, 2, kv_heads, block]."""
        return self.inputs.get(str(cache.name).replace("kv.", "kv_scales.", 1))

    def lower_residual(self, node: ir.Node) -> ir.Value:
        """Write a sum, of what the layer was given and of what a projection or a mixture of experts made of it."""
        stream, branch = self.reader.take(node)
        if stream not in self.values:
            stream, branch = branch, stream
        residual, name = self.lowered(stream), _name(node)
        producer = branch.producer()
        if producer is not None and producer.op_type == "MoE":
            return self.lower_moe(producer, residual, name)
        x, matrix = self.reader.linear(branch)
        inner = self.values.get(x) or self.lower_gate_up(x)
        return self.add_linear(
            inner, panels.add_stacked_rows(self.writer, self.precision.weights, [matrix]), name, residual=residual
        )

    def lower_gate_up(self, value: ir.Value) -> ir.Value:
        gate, up = self.reader.swiglu(value)
        (x, gate_matrix), (other, up_matrix) = self.reader.linear(gate), self.reader.linear(up)
        if x is not other:
            raise LoweringError(f"target {TARGET}: gate and up of {value.name} should be made from one input")
        norm = self.reader.norm(x)
        packed = panels.add_gate_up(self.writer, self.precision.weights, gate_matrix, up_matrix)
        return self.add_linear(self.lowered(norm.x), packed, str(value.name), norm=norm, activation="swiglu")

    def lower_moe(self, node: ir.Node, residual: ir.Value, name: str) -> ir.Value:
        x, router, *matrices = self.reader.take(node)
        norm = self.reader.norm(x)
        gate_up, down = panels.add_experts(self.writer, self.precision.weights, *matrices)
        routing = panels.add_stacked_rows(self.writer, weights.FLOAT32, [router])
        return self.add_op(
            "MoE",
            self.lowered(norm.x),
            weights.add_vector(self.writer, norm.weight),
            routing.codes,
            gate_up.codes,
            gate_up.scales,
            down.codes,
            down.scales,
            residual,
            name=name,
            hidden=down.n,
            intermediate=down.k,
            experts=routing.n,
            top_k=node.attributes["top_k"].as_int(),
            normalize=node.attributes["normalize"].as_int(),
            format=down.format.kind,
            group_size=down.format.group_size,
            epsilon=norm.epsilon,
            precise=int(not self.precision.quantized_activations),
        )

    def lower_head(self, output: ir.Value) -> Sequence[ir.Value]:
        """Write the head, whose two numbers are the runtime's to choose; returns logits and the largest of them."""
        x, matrix = self.reader.linear(output)
        norm = self.reader.norm(x)
        rows = self.input("logits_rows")
        packed = panels.add_stacked_rows(self.writer, self.precision.lm_head, [matrix])
        inputs = [
            self.lowered(self.reader.gather(norm.x, rows)),
            self.lowered(rows),
            *(self.inputs[each.name] for each in interface.HEAD_INPUTS),
            weights.add_vector(self.writer, norm.weight),
            packed.codes,
            packed.scales,
        ]
        return self.writer.op_with_outputs(
            "Head",
            *inputs,
            names=[each.name for each in self.interface.outputs],
            domain=schemas.DOMAIN,
            epsilon=norm.epsilon,
            precise=int(not self.precision.quantized_activations),
            **packed.attributes(),
        )

    def lower_hidden(self, output: ir.Value) -> ir.Value:
        """Write an embedding model's end: the rows asked for and the final norm, by standard operators."""
        norm = self.reader.norm(output)
        rows = self.input("logits_rows")
        states = self.lowered(self.reader.gather(norm.x, rows))
        picked = self.writer.op("Gather", states, self.lowered(rows), name=str(norm.x.name), axis=0)
        weight = weights.add_vector(self.writer, norm.weight)
        return self.writer.op("RMSNormalization", picked, weight, name=str(output.name), axis=-1, epsilon=norm.epsilon)

    def add_linear(
        self,
        x: ir.Value,
        matrix: Panels,
        name: str,
        *,
        norm: Norm | None = None,
        residual: ir.Value | None = None,
        activation: str = "none",
    ) -> ir.Value:
        inputs: Sequence[ir.Value | None] = [
            x,
            matrix.codes,
            matrix.scales,
            weights.add_vector(self.writer, norm.weight) if norm else None,
            residual,
        ]
        epsilon = {"epsilon": norm.epsilon} if norm else {}
        return self.add_op(
            "Linear",
            *inputs,
            name=name,
            activation=activation,
            precise=int(not self.precision.quantized_activations),
            **epsilon,
            **matrix.attributes(),
        )

    def add_op(self, op_type: str, *inputs: ir.Value | None, name: str, **attributes: Attribute) -> ir.Value:
        return self.writer.op(op_type, *inputs, name=name, domain=schemas.DOMAIN, **attributes)

    def input(self, name: str) -> ir.Value:
        """Return an input of the semantic graph."""
        return next(value for value in self.graph.inputs if value.name == name)

    def lowered(self, value: ir.Value) -> ir.Value:
        if value not in self.values:
            raise LoweringError(f"target {TARGET}: {value.name} is needed as such, but it is fused into what uses it")
        return self.values[value]


def _name(node: ir.Node) -> str:
    return str(node.outputs[0].name)
