"""What a step of an engine takes and gives: the name, type and shape of each tensor, declared once.

Lowerings write graphs with these inputs and outputs; the runtime holds an engine to them, and fills and feeds the
inputs. So a new input is one entry here and the code that fills it (`qwen3_runtime.backends.filling`).

| interface | graph | steps |
|---|---|---|
| `packed` | semantic; TensorRT with our attention plugin | packed, over a paged cache |
| `packed_plugins` | our operators for ONNX Runtime | the same; a cache in place, a head that finds the largest logits |
| `padded` | standard operators; ONNX Runtime's own | sequences padded to one length, each with a cache of its own |
| `padded_batch` | TensorRT's own layers | the same; ids as [B, S], caches of a fixed length |

This module imports the standard library alone, so that the runtime can use it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Element = Literal["FLOAT", "FLOAT16", "BFLOAT16", "INT8", "INT32", "INT64"]
"""ONNX's name of an element type."""

FilledBy = Literal["tokens", "lengths", "block_table", "rows", "constant", "cache"]
"""Who fills an input: the new tokens of a step, where they stand, their cache blocks, what is wanted of the output; a
number that never changes; or the cache, which stays where it is from step to step."""

DIMENSIONS = {
    "T": "new tokens",
    "B": "sequences",
    "B+1": "starts of sequences and their end",
    "S": "tokens in the longest sequence",
    "B*S": "tokens and padding",
    "M": "cache blocks for a sequence",
    "R": "rows of output",
    "C": "tokens of a cache",
    "blocks": "cache blocks",
    "block": "tokens of a cache block",
    "top_k": "largest logits of a row",
    "summed": "sums over the logits of a row",
}
"""The dimensions that steps choose, in words."""


@dataclass(frozen=True)
class StepTensor:
    """An input or output.

    Attributes:
        name: in the graph.
        element: its type.
        shape: sizes, and names of `DIMENSIONS`.
    """

    name: str
    element: Element
    shape: tuple[int | str, ...]


@dataclass(frozen=True)
class StepInput(StepTensor):
    """An input, and who fills it."""

    filled_by: FilledBy


@dataclass(frozen=True)
class StepInterface:
    """All inputs and outputs of a step, in the graph's order.

    Attributes:
        inputs: the caches among them.
        outputs: the result first; caches that are also outputs are the memory of their inputs.
    """

    inputs: tuple[StepInput, ...]
    outputs: tuple[StepTensor, ...]

    @property
    def result(self) -> StepTensor:
        """The output that every interface has: `logits` or `hidden`."""
        return self.outputs[0]

    @property
    def width(self) -> int:
        """Columns of the result."""
        return int(self.result.shape[-1])

    @property
    def caches(self) -> tuple[StepInput, ...]:
        """The inputs that are the cache."""
        return tuple(each for each in self.inputs if each.filled_by == "cache")

    @property
    def constants(self) -> tuple[StepInput, ...]:
        """The inputs that never change."""
        return tuple(each for each in self.inputs if each.filled_by == "constant")

    @property
    def fed(self) -> tuple[StepInput, ...]:
        """The inputs that are filled anew in every step."""
        return tuple(each for each in self.inputs if each.filled_by not in ("cache", "constant"))

    @property
    def written(self) -> dict[str, StepTensor]:
        """Outputs that are the memory of a cache, by the name of its input."""
        outputs = {each.name: each for each in self.outputs}
        names = {each.name: each.name.replace("kv", "kv_out", 1) for each in self.caches}
        return {name: outputs[output] for name, output in names.items() if output in outputs}

    @property
    def results(self) -> tuple[StepTensor, ...]:
        """Outputs that are no caches."""
        caches = {each.name for each in self.written.values()}
        return tuple(each for each in self.outputs if each.name not in caches)


@dataclass(frozen=True)
class StepModel:
    """What of a model an interface depends on.

    Attributes:
        layers: each has a cache.
        kv_heads: heads of keys and values.
        head_dim: width of a head.
        cache: element type of keys and values.
        result: `logits` or `hidden`.
        width: columns of the result.
    """

    layers: int
    kv_heads: int
    head_dim: int
    cache: Element
    result: str
    width: int


PACKED = (
    StepInput("input_ids", "INT64", ("T",), "tokens"),
    StepInput("query_start", "INT32", ("B+1",), "lengths"),
    StepInput("context_len", "INT32", ("B",), "lengths"),
    StepInput("block_table", "INT32", ("B", "M"), "block_table"),
    StepInput("logits_rows", "INT32", ("R",), "rows"),
)
"""A packed step; docs/architecture.md says what each input means."""

PADDED = (
    StepInput("input_ids", "INT64", ("B", "S"), "tokens"),
    StepInput("query_len", "INT32", ("B",), "lengths"),
    StepInput("context_len", "INT32", ("B",), "lengths"),
    StepInput("logits_rows", "INT64", ("R",), "rows"),
)
"""A padded step."""

HEAD_INPUTS = (StepInput("live_vocab", "INT32", (), "constant"), StepInput("top_k", "INT32", (), "rows"))
"""What a head that finds the largest logits takes beside the rest."""

LARGEST_OUTPUTS = (
    StepTensor("top_values", "FLOAT", ("R", "top_k")),
    StepTensor("top_ids", "INT32", ("R", "top_k")),
    StepTensor("log_sum_exp", "FLOAT", ("summed",)),
)
"""What it gives beside the logits."""


def packed(model: StepModel, block_size: int | str = "block") -> StepInterface:
    """Packed steps over a paged cache.

    Args:
        model: sizes and types.
        block_size: tokens of a cache block, where they are fixed.
    """
    shape = ("blocks", 2, model.kv_heads, block_size, model.head_dim)
    caches = _caches(model, [str(layer) for layer in range(model.layers)], shape)
    return StepInterface((*PACKED, *caches), (_result(model), *_written(caches)))


def packed_plugins(model: StepModel) -> StepInterface:
    """Packed steps of our operators for ONNX Runtime; an int8 cache has its scales in a tensor beside it."""
    rows = ("blocks", 2, model.kv_heads, "block")
    layers = [str(layer) for layer in range(model.layers)]
    caches = _caches(model, layers, (*rows, model.head_dim))
    scales = [StepInput(f"kv_scales.{layer}", "FLOAT", rows, "cache") for layer in layers if model.cache == "INT8"]
    head, largest = (HEAD_INPUTS, LARGEST_OUTPUTS) if model.result == "logits" else ((), ())
    return StepInterface((*PACKED, *caches, *head, *scales), (_result(model), *largest))


def padded(model: StepModel) -> StepInterface:
    """Padded steps, what is of one token [B, S, ...] as rows [B*S, ...], over caches as long as the caller likes."""
    return _padded(model, tuple(_as_rows(each) for each in PADDED), "C")


def padded_batch(model: StepModel, capacity: int) -> StepInterface:
    """Padded steps over caches of `capacity` tokens."""
    return _padded(model, PADDED, capacity)


def _padded(model: StepModel, inputs: tuple[StepInput, ...], capacity: int | str) -> StepInterface:
    parts = [f"{layer}.{part}" for layer in range(model.layers) for part in ("key", "value")]
    caches = _caches(model, parts, ("B", model.kv_heads, capacity, model.head_dim))
    return StepInterface((*inputs, *caches), (_result(model), *_written(caches)))


def _as_rows(each: StepInput) -> StepInput:
    if each.shape[:2] != ("B", "S"):
        return each
    return StepInput(each.name, each.element, ("B*S", *each.shape[2:]), each.filled_by)


def _caches(model: StepModel, names: list[str], shape: tuple[int | str, ...]) -> tuple[StepInput, ...]:
    return tuple(StepInput(f"kv.{name}", model.cache, shape, "cache") for name in names)


def _written(caches: tuple[StepInput, ...]) -> tuple[StepTensor, ...]:
    return tuple(StepTensor(each.name.replace("kv", "kv_out", 1), each.element, each.shape) for each in caches)


def _result(model: StepModel) -> StepTensor:
    return StepTensor(model.result, "FLOAT", ("R", model.width))
