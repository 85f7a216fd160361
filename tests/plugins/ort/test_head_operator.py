"""qwen3::Head: rows picked, normed, multiplied, and their largest logits.

Reference: float64 NumPy
"""

from __future__ import annotations

import numpy as np
import pytest
from linear_native import normalized, random_matrix
from onnxruntime.capi.onnxruntime_pybind11_state import InvalidArgument, InvalidGraph, RuntimeException
from operator_session import run_operator

OUTPUTS = ["logits", "values", "ids", "log_sum_exp"]


class Case:
    """A head of 300 rows, of which the last 20 were never trained, on five hidden states."""

    def __init__(self, fmt: str = "fp32", group_size: int = 0, n: int = 300, k: int = 128) -> None:
        rng = np.random.default_rng(3)
        self.matrix = random_matrix(rng, fmt, group_size, n, k)
        self.inputs: dict[str, np.ndarray | None] = {
            "x": rng.normal(size=(5, k)).astype(np.float32),
            "logits_rows": np.array([4, 0, 4], np.int32),
            "live_vocab": np.array(n - 20, np.int32),
            "top_k": np.array(0, np.int32),
            "norm_weight": rng.normal(size=k).astype(np.float32),
            "codes": self.matrix.codes,
            "scales": self.matrix.scales,
        }
        self.attributes: dict[str, object] = {
            "format": fmt, "n": n, "k": k, "group_size": group_size,
            "epsilon": 1e-6, "precise": 1,
        }  # fmt: skip

    def run(self, **inputs: object) -> list[np.ndarray]:
        changed = {name: np.asarray(value, getattr(value, "dtype", np.int32)) for name, value in inputs.items()}
        return run_operator("Head", self.inputs | changed, OUTPUTS, **self.attributes)

    def expected(self) -> np.ndarray:
        rows = self.inputs["x"][self.inputs["logits_rows"]]
        return normalized(rows, self.inputs["norm_weight"], 1e-6) @ self.matrix.values.T


@pytest.mark.parametrize(
    ("fmt", "group_size"), [("int4", 32), ("uint4", 32), ("int8", 0), ("fp8", 128), ("bf16", 0), ("fp32", 0)]
)
def test_logits_of_the_rows_asked_for(fmt: str, group_size: int) -> None:
    case = Case(fmt, group_size)
    logits, *top = case.run()
    assert logits.shape == (3, 300)
    np.testing.assert_allclose(logits[:, :280], case.expected()[:, :280], rtol=1e-4, atol=1e-4)
    assert (logits[:, 280:] == -np.inf).all()
    assert [array.shape for array in top] == [(3, 0), (3, 0), (0,)]


@pytest.mark.parametrize(("fmt", "group_size"), [("int4", 32), ("uint4", 32), ("int8", 0), ("fp32", 0)])
@pytest.mark.parametrize("k", [1, 20, 280])
def test_the_largest_logits_and_the_log_sum_exp(fmt: str, group_size: int, k: int) -> None:
    case = Case(fmt, group_size)
    logits, values, ids, log_sum_exp = case.run(top_k=k)
    np.testing.assert_array_equal(logits, case.run()[0])
    expected = case.expected()[:, :280]
    order = np.argsort(-expected, axis=1)[:, :k]
    np.testing.assert_array_equal(ids, order)
    np.testing.assert_allclose(values, np.take_along_axis(expected, order, 1), rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(log_sum_exp, np.log(np.exp(expected).sum(1)), rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("k", [0, 7])
def test_no_rows_give_no_logits(k: int) -> None:
    results = Case().run(logits_rows=[], top_k=k)
    assert [result.shape for result in results] == [(0, 300), (0, k), (0, k), (0,)]


@pytest.mark.parametrize(
    ("inputs", "reason"),
    [
        ({"logits_rows": [0, 5]}, "logits_rows names row 5, x has 5"),
        ({"logits_rows": [-1]}, "logits_rows names row -1, x has 5"),
        ({"norm_weight": np.ones(64, np.float32)}, r"norm_weight is float32 \[64\]"),
        ({"x": np.ones((5, 64), np.float32)}, r"x is float32 \[5, 64\]"),
        ({"top_k": 281}, "top_k is 281, expected 0 to 280"),
        ({"top_k": -1}, "top_k is -1, expected 0 to 280"),
        ({"top_k": [1]}, r"top_k is int32 \[1\], expected shape \[\]"),
        ({"top_k": np.array(1, np.int64)}, r"tensor\(int64\)"),
        ({"live_vocab": 301}, "live_vocab is 301, expected 1 to 300"),
        ({"live_vocab": 0}, "live_vocab is 0, expected 1 to 300"),
        ({"live_vocab": 3, "top_k": 4}, "top_k is 4, expected 0 to 3"),
    ],
)
def test_bad_inputs_are_refused(inputs: dict[str, object], reason: str) -> None:
    with pytest.raises((InvalidArgument, RuntimeException, InvalidGraph), match=reason):
        Case().run(**inputs)
