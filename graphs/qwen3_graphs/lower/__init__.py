"""Lowerings: the semantic graph in the operators and weight layouts of one target."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qwen3_graphs.errors import LoweringError
from qwen3_graphs.lower import onnx, ort, ort_plugins, tensorrt
from qwen3_graphs.lower.tensorrt import plugin as tensorrt_plugin
from qwen3_graphs.lowered import Plugins

if TYPE_CHECKING:
    from collections.abc import Callable

    import onnx_ir as ir

    from qwen3_graphs.lowered import Limits, Lowered, Precision

TARGETS: dict[str, Callable[[ir.Model, Precision, Limits], Lowered]] = {
    "onnx": onnx.lower,
    "ort": ort.lower,
    "ort-cpu": ort_plugins.lower,
    "tensorrt": tensorrt.lower,
    "tensorrt-rtx": tensorrt.lower,
}


PLUGIN_TARGETS = ("tensorrt", "tensorrt-rtx")


def lower(
    semantic: ir.Model, target: str, precision: Precision, limits: Limits, plugins: Plugins | None = None
) -> Lowered:
    """Lower a semantic graph.

    Args:
        semantic: the graph of `qwen3_graphs.trace`, made for `limits.max_context` positions.
        target: a key of `TARGETS`.
        precision: number formats of the engine.
        limits: sizes the engine is built for.
        plugins: operators that are our TensorRT plugins; none by default.

    Returns:
        The target's graph without weights, and the recipe of each weight.

    Raises:
        LoweringError: the target is unknown or cannot compute the model in this precision.
    """
    if target not in TARGETS:
        raise LoweringError(f"unknown target {target!r}: expected one of {', '.join(sorted(TARGETS))}")
    if plugins is None or plugins == Plugins(block_size=plugins.block_size):
        return TARGETS[target](semantic, precision, limits)
    if target not in PLUGIN_TARGETS:
        raise LoweringError(f"target {target} has no plugins: leave them out, or ask for {' or '.join(PLUGIN_TARGETS)}")
    return tensorrt_plugin.lower(semantic, precision, limits, plugins)
