"""The mixture-of-experts kernels of the released models' shapes: what the compile table shows and the tests compile."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qwen3_plugins.tensorrt.kernels.moe import Experts, moe_kernels

if TYPE_CHECKING:
    from collections.abc import Iterator

    from qwen3_plugins.tensorrt.kernels.kernel import Kernel

_MODELS = {
    "qwen3-30b-a3b": (128, 2048, 768),
    "qwen3-coder-480b": (160, 6144, 2560),
}
"""Experts, hidden_size and moe_intermediate_size from each model's config.json; all send a token to 8 experts."""

_FORMATS = (("fp16", "fp16", 0), ("bf16", "fp8", 0), ("bf16", "int4", 128), ("fp16", "int4", 32))


def table(capability: int) -> Iterator[tuple[str, Kernel]]:  # noqa: ARG001 - the same kernels for all
    """Every weight format at the sizes of the smallest model, int4 at those of the largest; both tiles.

    The routing kernels depend on neither format nor tile: they come once for a model and type.
    """
    for model, (experts, hidden_size, inner_size) in _MODELS.items():
        seen: set[str] = set()
        for dtype, weights, group in _FORMATS:
            if model != "qwen3-30b-a3b" and group != 128:
                continue
            moe = Experts(experts, 8, True, hidden_size, inner_size, dtype, weights, group)
            for tile in ("decode", "prefill"):
                for kernel in moe_kernels(moe, tile):
                    product = kernel.name in ("moe_gate_up", "moe_down")
                    label = f"{weights}{group or ''}-{tile}" if product else ""
                    variant = "-".join(filter(None, (model, dtype, label)))
                    if f"{variant}.{kernel.name}" not in seen:
                        seen.add(f"{variant}.{kernel.name}")
                        yield variant, kernel
