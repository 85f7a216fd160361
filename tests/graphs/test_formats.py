"""A weight format's facts follow from one table."""

from __future__ import annotations

import subprocess
import sys
from typing import get_args

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qwen3_compile.quantize import Float8, quantize
from qwen3_compile.quantize.integers import SEARCHES
from qwen3_graphs.formats import INTEGERS, KINDS, WeightFormat, WeightKind

FORMATS = [
    *(WeightFormat(kind) for kind in KINDS if not KINDS[kind].granularities),
    *(WeightFormat(kind) for kind in KINDS if "per-channel" in KINDS[kind].granularities),
    *(WeightFormat(kind, 32) for kind in KINDS if "per-group" in KINDS[kind].granularities),
    *(WeightFormat(kind, 128) for kind in KINDS if "per-block" in KINDS[kind].granularities),
    *(WeightFormat(kind, per_tensor=True) for kind in KINDS if "per-tensor" in KINDS[kind].granularities),
]


def test_the_type_of_kinds_names_every_row_of_the_table() -> None:
    assert set(get_args(WeightKind)) == KINDS.keys()


def test_every_integer_kind_has_a_search_for_its_codes() -> None:
    assert set(INTEGERS) == SEARCHES.keys()


@pytest.mark.parametrize(
    ("fmt", "granularity", "name"),
    [
        (WeightFormat("bf16"), None, "bf16"),
        (WeightFormat("int8"), "per-channel", "int8"),
        (WeightFormat("int8", 64), "per-group", "int8_64"),
        (WeightFormat("int4", 32), "per-group", "int4_32"),
        (WeightFormat("fp8"), "per-channel", "fp8"),
        (WeightFormat("fp8", 128), "per-block", "fp8_128"),
        (WeightFormat("fp8", per_tensor=True), "per-tensor", "fp8"),
    ],
)
def test_what_shares_a_scale_and_what_a_format_is_called(fmt: WeightFormat, granularity: str | None, name: str) -> None:
    assert fmt.granularity == granularity
    assert fmt.name == name
    assert fmt.is_float == (granularity is None)


@given(
    fmt=st.sampled_from([fmt for fmt in FORMATS if not fmt.is_float]), rows=st.integers(1, 150), k=st.integers(1, 300)
)
def test_the_bytes_of_a_matrix_are_those_that_quantization_makes(fmt: WeightFormat, rows: int, k: int) -> None:
    stored = quantize(np.ones((rows, k), np.float32), fmt)
    size = fmt.matrix_bytes(rows, k)
    assert size.codes == rows * -(-stored.codes.shape[1] * fmt.bits // 8)
    assert size.scales == stored.scales.nbytes
    zero_points = None if isinstance(stored, Float8) else stored.zero_points
    assert size.zero_points == (0 if zero_points is None else rows * -(-zero_points.shape[1] * fmt.bits // 8))
    assert size.total == size.codes + size.scales + size.zero_points


def test_floating_point_formats_have_elements_alone() -> None:
    assert WeightFormat("fp16").matrix_bytes(3, 5).total == 30
    with pytest.raises(ValueError, match="fp16 has no integer codes: expected one of int8, int4"):
        _ = WeightFormat("fp16").code_range


def test_the_table_needs_neither_torch_nor_onnx_nor_numpy() -> None:
    program = "import sys, qwen3_graphs.formats; print({'torch', 'onnx', 'onnx_ir', 'numpy'} & set(sys.modules))"
    assert subprocess.check_output([sys.executable, "-c", program], text=True).strip() == "set()"
