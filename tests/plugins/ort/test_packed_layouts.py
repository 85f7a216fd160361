"""The bytes of packed matrices, read back as `qwen3_plugins.layouts` describes them, and what packers refuse.

Reference: the layout's description, bit by bit
"""

from __future__ import annotations

import numpy as np
import pytest
from linear_native import random_matrix

from qwen3_plugins import layouts


@pytest.mark.parametrize("group_size", [32, 64, 128])
def test_uint4_codes_scales_and_zero_points_lie_where_they_are_said_to(group_size: int) -> None:
    rng = np.random.default_rng(group_size)
    n, k = 21, 256
    codes = rng.integers(0, 16, (n, k), dtype=np.uint8)
    zeros = rng.integers(0, 16, (n, k // group_size), dtype=np.uint8)
    scales = rng.normal(size=zeros.shape).astype(np.float16)
    blob, packed = layouts.pack_uint4(codes, scales, zeros)
    panels = blob.reshape(2, k // 8, 64)
    for row, column in zip(rng.integers(0, n, 200), rng.integers(0, k, 200), strict=True):
        panel, c = divmod(row, 16)
        byte = panels[panel, column // 8, 4 * c + column % 4]
        assert (byte >> 4 if column % 8 >= 4 else byte & 15) == codes[row, column]
        record = packed[panel, column // group_size]
        assert record[:32].view(np.float16)[c] == scales[row, column // group_size]
        two = record[32 + c // 2]
        assert (two >> 4 if c % 2 else two & 15) == zeros[row, column // group_size]
    filled = packed[1, :, 2 * (n - 16) : 32]
    assert not filled.any(), "rows beyond the matrix have scales of zero"


@pytest.mark.parametrize(
    ("fmt", "group_size"),
    [("int4", 32), ("uint4", 32), ("uint4", 128), ("int8", 64), ("int8", 0), ("fp8", 128), ("fp8", 0), ("bf16", 0)],
)
@pytest.mark.parametrize(("n", "k"), [(16, 128), (50, 300)])
def test_types_and_shapes_are_those_that_packers_make(fmt: str, group_size: int, n: int, k: int) -> None:
    matrix = random_matrix(np.random.default_rng(0), fmt, group_size, n, k)
    padded, panels = layouts.padded_inputs(fmt, k, group_size), -(-n // layouts.PANEL)
    assert matrix.codes.size == panels * layouts.PANEL * padded * layouts.CODE_BITS[fmt] // 8
    found = None if matrix.scales is None else (matrix.scales.dtype, matrix.scales.shape)
    assert layouts.scale_array(fmt, group_size, panels, padded) == found


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"codes": np.full((4, 64), 16, np.uint8)}, r"codes reach from 16 to 16, expected 0\.\.15"),
        ({"codes": np.full((4, 64), -1, np.int8)}, r"codes reach from -1 to -1, expected 0\.\.15"),
        ({"zero_points": np.full((4, 2), 16, np.uint8)}, r"zero points reach from 16 to 16, expected 0\.\.15"),
        ({"zero_points": np.full((4, 2), -1, np.int8)}, r"zero points reach from -1 to -1, expected 0\.\.15"),
        (
            {"zero_points": np.zeros((4, 1), np.uint8)},
            r"zero points are \(4, 1\), scales \(4, 2\): expected one for each",
        ),
        ({"codes": np.zeros((4, 96), np.uint8)}, "do not make groups of 32, 64 or 128"),
        ({"scales": np.full((4, 2), 1e6)}, "scales hold NaN, infinity or a value that float16 cannot hold"),
        ({"scales": np.full((4, 2), np.nan)}, "scales hold NaN"),
    ],
)
def test_uint4_out_of_range_is_refused(change: dict[str, np.ndarray], message: str) -> None:
    parts = {
        "codes": np.zeros((4, 64), np.uint8),
        "scales": np.ones((4, 2), np.float32),
        "zero_points": np.zeros((4, 2), np.uint8),
    }
    with pytest.raises(ValueError, match=message):
        layouts.pack_uint4(**{**parts, **change})
