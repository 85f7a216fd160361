"""qwen3::Head: rows picked, normed, multiplied, and their largest logits."""

from __future__ import annotations

import numpy as np
import pytest
from linear_native import normalised, random_matrix
from onnxruntime.capi.onnxruntime_pybind11_state import InvalidArgument, RuntimeException
from operator_session import run_operator

TOP = ["values", "ids", "log_sum_exp"]


class Case:
    """A head of 300 rows, of which the last 20 were never trained, on five hidden states."""

    def __init__(self, fmt: str = "fp32", group_size: int = 0, n: int = 300, k: int = 128) -> None:
        rng = np.random.default_rng(3)
        self.matrix = random_matrix(rng, fmt, group_size, n, k)
        self.inputs: dict[str, np.ndarray | None] = {
            "x": rng.normal(size=(5, k)).astype(np.float32),
            "logits_rows": np.array([4, 0, 4], np.int32),
            "norm_weight": rng.normal(size=k).astype(np.float32),
            "codes": self.matrix.codes,
            "scales": self.matrix.scales,
        }
        self.attributes: dict[str, object] = {
            "format": fmt, "n": n, "k": k, "group_size": group_size,
            "epsilon": 1e-6, "precise": 1, "live_vocab": n - 20,
        }  # fmt: skip

    def expected(self) -> np.ndarray:
        rows = self.inputs["x"][self.inputs["logits_rows"]]
        return normalised(rows, self.inputs["norm_weight"], 1e-6) @ self.matrix.values.T


@pytest.mark.parametrize(("fmt", "group_size"), [("int4", 32), ("int8", 0), ("fp8", 128), ("bf16", 0), ("fp32", 0)])
def test_logits_of_the_rows_asked_for(fmt: str, group_size: int) -> None:
    case = Case(fmt, group_size)
    (logits,) = run_operator("Head", case.inputs, ["logits"], **case.attributes)
    assert logits.shape == (3, 300)
    np.testing.assert_allclose(logits[:, :280], case.expected()[:, :280], rtol=1e-4, atol=1e-4)
    assert (logits[:, 280:] == -np.inf).all()


@pytest.mark.parametrize(("fmt", "group_size"), [("int4", 32), ("int8", 0), ("fp32", 0)])
@pytest.mark.parametrize("k", [1, 20, 280])
def test_the_largest_logits_and_the_log_sum_exp(fmt: str, group_size: int, k: int) -> None:
    case = Case(fmt, group_size)
    values, ids, log_sum_exp = run_operator("Head", case.inputs, TOP, top_k=k, **case.attributes)
    expected = case.expected()[:, :280]
    order = np.argsort(-expected, axis=1)[:, :k]
    np.testing.assert_array_equal(ids, order)
    np.testing.assert_allclose(values, np.take_along_axis(expected, order, 1), rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(log_sum_exp, np.log(np.exp(expected).sum(1)), rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("outputs", [["logits"], TOP])
def test_no_rows_give_no_logits(outputs: list[str]) -> None:
    case = Case()
    case.inputs["logits_rows"] = np.zeros(0, np.int32)
    results = run_operator("Head", case.inputs, outputs, top_k=7 if outputs == TOP else 0, **case.attributes)
    assert [len(result) for result in results] == [0] * len(outputs)


@pytest.mark.parametrize(
    ("inputs", "attributes", "reason"),
    [
        ({"logits_rows": np.array([0, 5], np.int32)}, {}, "logits_rows names row 5, x has 5"),
        ({"logits_rows": np.array([-1], np.int32)}, {}, "logits_rows names row -1, x has 5"),
        ({"norm_weight": np.ones(64, np.float32)}, {}, r"norm_weight is float32 \[64\]"),
        ({"x": np.ones((5, 64), np.float32)}, {}, r"x is float32 \[5, 64\]"),
        ({}, {"top_k": 281}, "top_k is 281, expected 0 .all logits. to 280"),
        ({}, {"top_k": -1}, "top_k is -1"),
        ({}, {"live_vocab": 301}, "live_vocab is 301, expected 1 to 300"),
        ({}, {"top_k": 3}, "with top_k, the outputs are values, ids and log_sum_exp"),
    ],
)
def test_bad_inputs_are_refused(inputs: dict[str, np.ndarray], attributes: dict[str, int], reason: str) -> None:
    case = Case()
    with pytest.raises((InvalidArgument, RuntimeException), match=reason):
        run_operator("Head", case.inputs | inputs, ["logits"], **{**case.attributes, **attributes})
