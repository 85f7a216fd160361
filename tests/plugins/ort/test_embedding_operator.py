"""qwen3::Embedding reads rows of every packed layout.

Reference: the matrix that was packed
"""

from __future__ import annotations

import numpy as np
import pytest
from linear_native import random_matrix
from onnxruntime.capi.onnxruntime_pybind11_state import InvalidArgument
from operator_session import run_operator


def embed(ids: list[int], fmt: str, group_size: int, n: int, k: int) -> tuple[np.ndarray, np.ndarray]:
    matrix = random_matrix(np.random.default_rng(0), fmt, group_size, n, k)
    inputs = {"ids": np.array(ids, np.int64), "codes": matrix.codes, "scales": matrix.scales}
    (out,) = run_operator("Embedding", inputs, ["out"], format=fmt, n=n, k=k, group_size=group_size)
    return out, matrix.values


@pytest.mark.parametrize(
    ("fmt", "group_size"),
    [("int4", 32), ("int4", 128), ("uint4", 32), ("uint4", 64), ("uint4", 128), ("int8", 64), ("int8", 0),
     ("fp8", 128), ("fp8", 0), ("fp16", 0), ("bf16", 0), ("fp32", 0)],
)  # fmt: skip
@pytest.mark.parametrize(("n", "k"), [(50, 256), (16, 128), (200, 100)])
def test_rows_are_those_of_the_matrix(fmt: str, group_size: int, n: int, k: int) -> None:
    ids = [0, n - 1, 7, 7, *np.random.default_rng(1).integers(0, n, 40).tolist()]
    out, values = embed(ids, fmt, group_size, n, k)
    np.testing.assert_allclose(out, values[ids], rtol=1e-6, atol=0)


def test_no_ids_give_no_rows() -> None:
    assert embed([], "int4", 32, 20, 64)[0].shape == (0, 64)


@pytest.mark.parametrize("bad", [-1, 20, 2**40])
def test_an_id_outside_of_the_table_is_refused(bad: int) -> None:
    with pytest.raises(InvalidArgument, match=f"id {bad} at position 1 is not a row of the table of 20"):
        embed([3, bad], "int4", 32, 20, 64)


@pytest.mark.parametrize(("fmt", "group_size"), [("int4", 32), ("uint4", 32), ("int8", 0), ("fp8", 128)])
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_scale_that_is_no_number_is_refused_where_its_row_is_read(fmt: str, group_size: int, bad: float) -> None:
    matrix = random_matrix(np.random.default_rng(0), fmt, group_size, 40, 128)
    scales = matrix.scales.reshape(3, -1)  # a panel of 16 rows each
    if fmt == "uint4":
        scales[1, 40:].view(np.float16)[14] = bad  # of the second group, which has 40 bytes as the first
    else:
        scales[1] = bad
    inputs = {"codes": matrix.codes, "scales": matrix.scales}
    shape = {"format": fmt, "n": 40, "k": 128, "group_size": group_size}
    ids = np.array([3, 15, 32], np.int64)
    (out,) = run_operator("Embedding", {"ids": ids, **inputs}, ["out"], **shape)
    assert np.isfinite(out).all()
    with pytest.raises(InvalidArgument, match="scales hold NaN or infinity"):
        run_operator("Embedding", {"ids": np.append(ids, 16), **inputs}, ["out"], **shape)
