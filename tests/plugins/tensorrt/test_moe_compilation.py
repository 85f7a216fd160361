"""The grouped products of every weight format, compiled ahead of time without a GPU.

Covers: SM80, 89, 90, 100 and 120: no spills, shared memory within the GPU's, weights fetched ahead
Reference: limits of each GPU; `docs/gpu-kernels.md` has the table
"""

from __future__ import annotations

import re

import pytest

from qwen3_plugins.tensorrt.compile import TABLE_CAPABILITIES, compile_kernel, problems
from qwen3_plugins.tensorrt.kernels.moe import Experts, moe_kernels

UNITS = {80: "mma.sync", 89: "mma.sync", 90: "wgmma.mma_async", 100: "tcgen05.mma", 120: "mma.sync"}
"""The instruction of each GPU's matrix units for 64 rows; 16 rows are `mma.sync` everywhere."""


@pytest.mark.parametrize("capability", TABLE_CAPABILITIES)
@pytest.mark.parametrize(
    ("weights", "group", "tile", "pieces"),
    [
        ("fp8", 0, "decode", {16}),
        ("fp8", 0, "prefill", {16}),
        ("int4", 128, "decode", {16}),
        # 32 inputs a step: their 16 bytes are shared by two threads.
        ("int4", 128, "prefill", {8, 16}),
        ("int4", 32, "decode", {8, 16}),
    ],
)
def test_products_fit_their_gpu_and_fetch_weights_ahead(capability, weights, group, tile, pieces) -> None:
    moe = Experts(128, 8, True, 2048, 768, "bf16", weights, group)
    for kernel in moe_kernels(moe, tile):
        if kernel.name not in ("moe_gate_up", "moe_down"):
            continue
        made = compile_kernel(kernel, capability)
        assert problems(made) == []
        assert (UNITS[capability] if tile == "prefill" else "mma.sync") in made.ptx
        copies = re.findall(r"cp\.async\.c[ag]\.shared\.global.*?,\s*(0x[0-9a-f]+|\d+)[,;]", made.ptx)
        assert len(copies) >= 8
        assert {int(size, 0) for size in copies} <= pieces
        # Subnormal FP8 codes pass through subnormal float32 values, which must not be flushed to zero.
        assert ".ftz" not in made.ptx


def test_a_model_with_an_odd_number_of_experts_compiles() -> None:
    """Qwen3-Coder-480B: 160 experts."""
    moe = Experts(160, 8, True, 6144, 2560, "bf16", "int4", 128)
    for kernel in moe_kernels(moe, "decode"):
        assert problems(compile_kernel(kernel, 90)) == []
