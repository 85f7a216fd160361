"""What a lowering hands to the build: a graph without weights, and the recipe of every weight it wants.

A lowering decides *which* operators and layouts a target wants; it never sees a weight's value. The build
streams each recipe from the checkpoint, through the packer that its layout names, into one file.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from qwen3_graphs.formats import WeightFormat

if TYPE_CHECKING:
    from collections.abc import Mapping

    import onnx_ir as ir

    from qwen3_graphs.formats import CacheKind, FloatKind


@dataclass(frozen=True)
class Precision:
    """The number formats of an engine.

    Attributes:
        weights: projections and experts.
        lm_head: the output matrix [vocab, hidden].
        embedding: the input matrix [vocab, hidden]; where it is tied to the head and the formats agree, both
            share the same bytes.
        activations: type of everything between matrices. Norm weights and the router take it too.
        kv_cache: type of the stored keys and values.
        quantized_activations: whether the inputs of quantized matrices are quantized as well (W8A8). On CPU those of
            integer matrices become int8 in groups, which is several times as fast for many tokens at once; for
            TensorRT, those of int8 and fp8 matrices the same kind, with one calibrated scale each. Otherwise inputs
            stay as they are: weight-only quantization.
        pre_scaled: matrices, by canonical name, whose inputs are multiplied by the checkpoint's `….pre_quant_scale`
            [K] beside them (AWQ).
    """

    weights: WeightFormat
    lm_head: WeightFormat
    embedding: WeightFormat
    activations: FloatKind
    kv_cache: CacheKind
    quantized_activations: bool = True
    pre_scaled: tuple[str, ...] = ()


@dataclass(frozen=True)
class Limits:
    """The sizes an engine is built for: tokens of context a sequence, sequences a step, new tokens a step."""

    max_context: int
    max_batch: int
    max_step_tokens: int


@dataclass(frozen=True)
class Plugins:
    """Which operators of a TensorRT engine are our plugins, where TensorRT's own layers are the default.

    Attributes:
        attention: `Qwen3Attention`: packed steps over a paged cache, the interface of the semantic graph.
        moe: `Qwen3MoE`: only the chosen experts of a token are computed.
        block_size: tokens of a cache block, for `attention`.
    """

    attention: bool = False
    moe: bool = False
    block_size: int = 32


@dataclass(frozen=True)
class TensorSlot:
    """One initializer of the lowered graph: its name, its ONNX type and its shape, but not its bytes."""

    name: str
    dtype: str  # name of an onnx_ir.DataType, for example "FLOAT", "UINT8", "FLOAT16"
    shape: tuple[int, ...]


@dataclass(frozen=True)
class WeightRecipe:
    """How to make one or more initializers from checkpoint tensors.

    Attributes:
        layout: name of the packer (see `qwen3_compile.pack.layouts`).
        format: the number format that the packer writes.
        sources: checkpoint tensors by canonical name. The outer tuple is stacked along a new first axis, one
            entry at a time (the experts), so that memory is bounded by one entry; an inner tuple holds the
            matrices that make up that entry (for example gate and up).
        outputs: the initializers written, in the packer's order.
    """

    layout: str
    format: WeightFormat
    sources: tuple[tuple[str, ...], ...]
    outputs: tuple[TensorSlot, ...]


@dataclass(frozen=True)
class Lowered:
    """A target's graph, whose initializers are the outputs of `recipes` (data absent) and small constants."""

    model: ir.Model
    recipes: tuple[WeightRecipe, ...]


def recipe_from_json(values: Mapping[str, Any]) -> WeightRecipe:
    """The recipe whose `dataclasses.asdict` went through JSON."""
    return WeightRecipe(
        values["layout"],
        WeightFormat(**values["format"]),
        tuple(tuple(entry) for entry in values["sources"]),
        tuple(TensorSlot(slot["name"], slot["dtype"], tuple(slot["shape"])) for slot in values["outputs"]),
    )
