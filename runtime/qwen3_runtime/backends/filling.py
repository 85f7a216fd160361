"""Fills the inputs of a step, by the names under which `qwen3_graphs.interface` declares them.

A new input of packed steps is a line here; of padded ones, a line in `qwen3_runtime.backends.padding`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from qwen3_runtime.backends.elements import ELEMENTS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from numpy.typing import NDArray

    from qwen3_graphs.interface import StepInput
    from qwen3_runtime.manifest import ModelConfig
    from qwen3_runtime.step import Step

Source = TypeVar("Source")

PACKED: dict[str, Callable[[Step], Any]] = {
    "input_ids": lambda step: step.input_ids,
    "query_start": lambda step: step.query_start,
    "context_len": lambda step: step.context_len,
    "block_table": lambda step: step.block_table,
    "logits_rows": lambda step: step.logits_rows,
    "top_k": lambda step: step.top_k,
}
"""What fills each input of a packed step."""

CONSTANTS: dict[str, Callable[[ModelConfig], Any]] = {"live_vocab": lambda model: model.tokenizer_vocab_size}
"""What fills the inputs that never change."""


def fill(
    inputs: Iterable[StepInput], fills: Mapping[str, Callable[[Source], Any]], source: Source
) -> dict[str, NDArray[Any]]:
    """The arrays of some inputs, contiguous and of the declared type.

    Args:
        inputs: each must have a function in `fills`.
        fills: makes the values of an input, by its name.
        source: what the functions are given.
    """
    return {each.name: np.asarray(fills[each.name](source), ELEMENTS[each.element].dtype, order="C") for each in inputs}
