"""E4M3 values [N, K] as a checkpoint has them, with scales by row, for MatMulBlockQuantizedFp8Weight."""

from __future__ import annotations

from typing import TYPE_CHECKING

import ml_dtypes
import numpy as np

from qwen3_compile.quantize import as_float8

if TYPE_CHECKING:
    from qwen3_compile.pack.layouts.core.rows import Array, Source
    from qwen3_graphs.formats import WeightFormat


def pack(sources: tuple[Source, ...], fmt: WeightFormat) -> tuple[Array, ...]:
    """Store a matrix: E4M3 [N, K], and the scales that each row sees, float32 [N, ceil(K / 128)] or [N, 1]."""
    (source,) = sources
    stored = as_float8(source, fmt)
    scales = np.ascontiguousarray(stored.row_scales(), np.float32).reshape(len(stored.codes), -1)
    return stored.codes.view(ml_dtypes.float8_e4m3fn), scales
