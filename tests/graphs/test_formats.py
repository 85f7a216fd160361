"""A weight format's facts follow from one table."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING, cast, get_args

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qwen3_compile.errors import UnsupportedError
from qwen3_compile.pack.layouts import pack
from qwen3_compile.pack.layouts.ort_plugins import panels
from qwen3_compile.quantize import Float8, integers, quantize, quantize_integers, symmetric
from qwen3_compile.quantize.integers import SEARCHES
from qwen3_graphs.formats import INTEGERS, KINDS, ElementKind, WeightFormat, WeightKind
from qwen3_graphs.lower.ort_plugins.formats import MATRICES
from qwen3_plugins.layouts import CODE_BITS

if TYPE_CHECKING:
    from types import ModuleType

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
    assert set(INTEGERS) == SEARCHES.keys(), "SEARCHES of qwen3_compile/quantize/integers.py lacks a kind"


@pytest.mark.parametrize("positive", [True, False])
@pytest.mark.parametrize("fmt", [fmt for fmt in FORMATS if fmt.is_integer], ids=lambda fmt: fmt.name)
def test_every_integer_format_is_quantized(fmt: WeightFormat, positive: bool) -> None:
    weight = np.linspace(-1, 1, 64, dtype=np.float32).reshape(2, 32)
    stored = quantize_integers(weight, fmt, positive=positive)
    low, high = fmt.code_range
    assert np.abs(stored.dequantize() - weight).max() <= 1.5 / (high - low)


@pytest.mark.parametrize("code_range", [(-8, 7), (1, 15), (0, 255), None])
def test_a_zero_point_needs_codes_from_zero_in_four_bits(code_range: tuple[int, int] | None) -> None:
    with pytest.raises(ValueError, match="expected codes from 0 to at most 15 with a zero point, found"):
        ElementKind(4, "INT4", ("per-group",), code_range, zero_point=True)


@pytest.mark.parametrize(
    ("module", "table", "positive"),
    [(integers, "SEARCHES", False), (symmetric, "_TARGETS", False), (symmetric, "_POSITIVE_TARGETS", True)],
)
def test_a_kind_that_a_table_lacks_is_refused_with_the_place_to_add_it(
    monkeypatch: pytest.MonkeyPatch, module: ModuleType, table: str, positive: bool
) -> None:
    monkeypatch.setattr(module, table, {kind: row for kind, row in vars(module)[table].items() if kind != "int8"})
    place = f" {table} of {module.__name__.replace('.', '/')}.py"
    with pytest.raises(UnsupportedError, match=f"cannot quantize to int8: .*{place}"):
        quantize_integers(np.ones((1, 32), np.float32), WeightFormat("int8"), positive=positive)


def test_panels_hold_what_the_lowering_for_our_operators_takes() -> None:
    taken = {fmt.kind for fmt in MATRICES}
    assert taken <= {*panels.KINDS}, "qwen3_compile/pack/layouts/ort_plugins/panels.py lacks a kind"
    assert {*panels.KINDS} == CODE_BITS.keys(), "CODE_BITS of plugins/qwen3_plugins/layouts.py differs"


def test_a_layout_without_a_kind_names_the_file() -> None:
    with pytest.raises(UnsupportedError, match=r"found fp8: kinds of layouts .* qwen3_compile/pack/layouts"):
        pack("nbit_rows", (np.ones((1, 32), np.float32),), WeightFormat("fp8"))
    with pytest.raises(UnsupportedError, match=r"found nib4: .*/layouts/ort_plugins/panels\.py"):
        pack("panels", (np.ones((1, 32), np.float32),), WeightFormat(cast("WeightKind", "nib4")))


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
    with pytest.raises(ValueError, match="fp16 has no integer codes: expected one of int8, "):
        _ = WeightFormat("fp16").code_range


def test_the_table_needs_neither_torch_nor_onnx_nor_numpy() -> None:
    program = "import sys, qwen3_graphs.formats; print({'torch', 'onnx', 'onnx_ir', 'numpy'} & set(sys.modules))"
    assert subprocess.check_output([sys.executable, "-c", program], text=True).strip() == "set()"
