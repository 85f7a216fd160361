"""Lowerings: the semantic graph in the operators and weight layouts of one target, a folder each.

A folder's `graph` has `lower(semantic, precision, limits)`; TensorRT's also has `lower_with_plugins`. Its `formats`
says which weights its operators compute: the lowering refuses others, and a target offers no others to a spec. What two
lowerings need stands in `core`. A `graph` is imported when it is first asked for.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from qwen3_graphs.errors import LoweringError

if TYPE_CHECKING:
    import onnx_ir as ir

    from qwen3_graphs.lowered import Limits, Lowered, Plugins, Precision

LOWERINGS = ("onnx", "ort", "ort_plugins", "tensorrt")


def lower(
    semantic: ir.Model, lowering: str, precision: Precision, limits: Limits, plugins: Plugins | None = None
) -> Lowered:
    """Lower a semantic graph.

    Args:
        semantic: the graph of `qwen3_graphs.trace`, made for `limits.max_context` positions.
        lowering: one of `LOWERINGS`.
        precision: number formats of the engine.
        limits: sizes the engine is built for.
        plugins: operators that are our plugins, where a lowering has the choice; none by default.

    Returns:
        The target's graph without weights, and the recipe of each weight.

    Raises:
        LoweringError: the lowering is unknown or cannot compute the model in this precision.
    """
    if lowering not in LOWERINGS:
        raise LoweringError(f"unknown lowering {lowering!r}: expected one of {', '.join(LOWERINGS)}")
    graph = import_module(f"{__name__}.{lowering}.graph")
    if plugins is None or not (plugins.attention or plugins.moe):
        lowered: Lowered = graph.lower(semantic, precision, limits)
    elif hasattr(graph, "lower_with_plugins"):
        lowered = graph.lower_with_plugins(semantic, precision, limits, plugins)
    else:
        raise LoweringError(f"lowering {lowering} has no choice of plugins: omit them")
    return lowered
