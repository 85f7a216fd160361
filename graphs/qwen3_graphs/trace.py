"""Trace the eager model to its semantic ONNX graph, without weights.

Every decoder layer is the same code, so one layer is exported and repeated with its values and parameters
renamed: 94 layers cost little more than one. Parameters become initialisers with a name, type and shape whose
bytes stay in the checkpoint.
"""

from __future__ import annotations

import ast
import contextlib
import logging
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import onnx_ir as ir
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode

from qwen3_graphs import names, schemas, semantic_ops
from qwen3_graphs.model import Batch, DecoderLayer, Embedding, Head, Output

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from qwen3_graphs.architecture import Architecture

CHECKPOINT = "checkpoint"
"""Location of the external data of initialisers: bytes that the build has yet to stream."""

_SCOPES = "pkg.torch.onnx.name_scopes"  # where torch.onnx records the module that a node comes from

# The dimensions of a step that vary, with the sizes to trace at: distinct, and none of them 0 or 1, which
# torch.export would take for constants.
_TRACED_SIZES = {"T": 11, "B": 3, "B+1": 4, "M": 6, "R": 5, "blocks": 7, "block": 8}

Dims = tuple[int | str, ...]


def trace(architecture: Architecture, *, output: Output = "logits", max_context: int) -> ir.Model:
    """Build the semantic graph that `docs/architecture.md` describes.

    Args:
        architecture: dimensions of the model.
        output: `logits` float32 [R, vocab], or `hidden` float32 [R, hidden] after the final norm.
        max_context: rows of the position tables, in tokens.

    Returns:
        A model whose initialisers are external tensors at `CHECKPOINT`, without bytes.
    """
    pieces = trace_pieces(architecture, output, max_context)
    steps = _step_inputs()
    rope = [
        _initializer(name, (max_context, architecture.head_dim // 2), ir.DataType.FLOAT)
        for name in ("rope.cos", "rope.sin")
    ]
    graph = ir.Graph(
        list(steps.values()),
        [],
        nodes=[],
        initializers=rope,
        opset_imports={"": schemas.OPSET, schemas.DOMAIN: schemas.VERSION},
        name="qwen3",
    )
    batch = [steps[name] for name in Batch._fields]

    (hidden,) = _append(graph, pieces.embedding, [steps["input_ids"]], "embedding", lambda _: names.EMBEDDING)
    new_caches = []
    for index in range(architecture.num_hidden_layers):
        cache = _input(f"kv.{index}", ir.DataType.FLOAT, _cache_dims(architecture))
        graph.inputs.append(cache)
        inputs = [hidden, *rope, cache, *batch]
        hidden, new_cache = _append(graph, pieces.layer, inputs, f"layers.{index}", names.layer_prefix(index).__add__)
        new_cache.name = f"kv_out.{index}"
        new_caches.append(new_cache)
    inputs = [hidden, steps["logits_rows"]]
    (result,) = _append(graph, pieces.head, inputs, "head", lambda name: names.head_name(architecture, name))
    result.name = output
    graph.outputs.extend([result, *new_caches])
    return ir.Model(graph, ir_version=11, producer_name="qwen3-compile")


@dataclass(frozen=True)
class Pieces:
    """The exported graphs of the modules that make up a model, each under its own local names."""

    embedding: ir.Graph
    layer: ir.Graph
    head: ir.Graph


def trace_pieces(architecture: Architecture, output: Output, max_context: int) -> Pieces:
    """Export the embedding, one decoder layer and the head."""

    def embedding(make: Callable[..., Any]) -> tuple[Any, ...]:
        return (make(torch.int64, "T"),)

    def layer(make: Callable[..., Any]) -> tuple[Any, ...]:
        table = (torch.float32, max_context, architecture.head_dim // 2)
        return (
            make(torch.float32, "T", architecture.hidden_size),
            (make(*table), make(*table)),
            make(torch.float32, *_cache_dims(architecture)),
            Batch(make(torch.int32, "B+1"), make(torch.int32, "B"), make(torch.int32, "B", "M")),
        )

    def head(make: Callable[..., Any]) -> tuple[Any, ...]:
        return make(torch.float32, "T", architecture.hidden_size), make(torch.int32, "R")

    return Pieces(
        export(lambda: Embedding(architecture), embedding),
        export(lambda: DecoderLayer(architecture), layer),
        export(lambda: Head(architecture, output), head),
    )


def export(module: Callable[[], nn.Module], arguments: Callable[[Callable[..., Any]], tuple[Any, ...]]) -> ir.Graph:
    """Export a module that is never given memory.

    Args:
        module: makes the module, under a mode in which tensors have a shape and no bytes.
        arguments: builds the arguments of `forward` from a function (dtype, *dims) -> leaf; a dimension written
            as text varies.

    Returns:
        The ONNX graph, its varying dimensions written as in `arguments`.
    """
    named: list[tuple[int | str, ...]] = []

    def tensor(dtype: torch.dtype, *dims: int | str) -> Tensor:
        named.append(dims)
        return torch.empty([_TRACED_SIZES.get(dim, dim) for dim in dims], dtype=dtype)  # type: ignore[misc,call-overload]

    def variation(_: torch.dtype, *dims: int | str) -> dict[int, Any]:
        return {axis: torch.export.Dim.DYNAMIC for axis, dim in enumerate(dims) if isinstance(dim, str)}

    with FakeTensorMode(), _quiet():
        program = torch.export.export(module(), arguments(tensor), dynamic_shapes=arguments(variation), strict=False)
        exported = torch.onnx.export(
            program,
            dynamo=True,
            opset_version=schemas.OPSET,
            optimize=False,
            verbose=False,
            custom_translation_table=semantic_ops.translations(),
        )
    graph: ir.Graph = exported.model.graph
    _describe(graph, named)
    return graph


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep the exporter's warnings, which are about itself and optional packages, from the user."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "torch.export")]
    levels = [logger.level for logger in loggers]
    try:
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def _describe(graph: ir.Graph, named: Sequence[Dims]) -> None:
    """Write the varying dimensions by name, and give the values that the exporter left untyped their type."""
    spelling = {
        str(traced): dim
        for value, dims in zip(graph.inputs, named, strict=True)
        for traced, dim in zip(value.shape or (), dims, strict=True)
    }
    for value in graph.inputs:
        value.shape = _spell(value.shape, spelling)
    for node in graph:
        for value in node.outputs:
            if value.shape is None:  # the Sigmoid inside silu
                value.shape, value.type = node.inputs[0].shape, node.inputs[0].type
            else:
                value.shape = _spell(value.shape, spelling)


def _spell(shape: ir.Shape, spelling: Mapping[str, int | str]) -> ir.Shape:
    return ir.Shape([dim if isinstance(dim, int) else spelling[str(dim)] for dim in shape])


def _append(
    graph: ir.Graph, piece: ir.Graph, inputs: Sequence[ir.Value], place: str, parameter: Callable[[str], str]
) -> list[ir.Value]:
    """Copy a piece's nodes to the end of the graph.

    Args:
        graph: receives the nodes and initialisers.
        piece: an exported module.
        inputs: the graph's values for the piece's inputs.
        place: what the names of its values begin with.
        parameter: gives a local parameter's name in the checkpoint.

    Returns:
        The graph's values of the piece's outputs.
    """
    values = dict(zip(piece.inputs, inputs, strict=True))
    for local in piece.initializers.values():
        name = parameter(local.name)
        if name not in graph.initializers:
            graph.register_initializer(_initializer(name, local.shape.numpy(), local.dtype))
        values[local] = graph.initializers[name]
    taken: dict[str, int] = {}
    for node in piece:
        module = ast.literal_eval(node.metadata_props[_SCOPES])[-2]
        name = ".".join(part for part in (place, module, node.op_type.lower()) if part)
        taken[name] = count = taken.get(name, -1) + 1
        name = f"{name}_{count}" if count else name
        outputs = [
            ir.Value(name=f"{name}.{index}" if index else name, shape=value.shape, type=value.type)
            for index, value in enumerate(node.outputs)
        ]
        values.update(zip(node.outputs, outputs, strict=True))
        attributes = sorted(node.attributes.values(), key=lambda attribute: attribute.name)
        copied = [None if value is None else values[value] for value in node.inputs]
        graph.append(ir.Node(node.domain, node.op_type, copied, attributes, outputs=outputs, name=name))
    return [values[value] for value in piece.outputs]


def _cache_dims(architecture: Architecture) -> Dims:
    return "blocks", 2, architecture.num_key_value_heads, "block", architecture.head_dim


def _step_inputs() -> dict[str, ir.Value]:
    integer = ir.DataType.INT32
    values = (
        _input("input_ids", ir.DataType.INT64, ("T",)),
        _input("query_start", integer, ("B+1",)),
        _input("context_len", integer, ("B",)),
        _input("block_table", integer, ("B", "M")),
        _input("logits_rows", integer, ("R",)),
    )
    return {str(value.name): value for value in values}


def _input(name: str, dtype: ir.DataType, dims: Dims) -> ir.Value:
    return ir.Value(name=name, shape=ir.Shape(dims), type=ir.TensorType(dtype))


def _initializer(name: str, dims: Dims, dtype: ir.DataType) -> ir.Value:
    """Declare a tensor whose bytes are elsewhere."""
    shape = ir.Shape(dims)
    absent = ir.ExternalTensor(CHECKPOINT, 0, 0, dtype, shape=shape, name=name)
    return ir.Value(name=name, shape=shape, type=ir.TensorType(dtype), const_value=absent)
