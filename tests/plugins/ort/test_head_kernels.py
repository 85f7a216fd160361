"""The largest logits of a row, for every instruction set and number of threads.

Reference: float64 NumPy
"""

from __future__ import annotations

import ctypes

import numpy as np
import pytest
from paged_attention import INSTRUCTIONS, available_instructions, library

every_instruction_set = pytest.mark.parametrize("instructions", available_instructions())


def find_top(logits: np.ndarray, k: int, instructions: str, threads: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rows, width = logits.shape
    values, ids = np.empty((rows, k), np.float32), np.empty((rows, k), np.int32)
    log_sum_exp = np.empty(rows, np.float32)
    pointers = [ctypes.c_void_p(array.ctypes.data) for array in (logits, values, ids, log_sum_exp)]
    sizes = [ctypes.c_int64(size) for size in (rows, width, k)]
    library().qwen3_test_top(pointers[0], *sizes, *pointers[1:], INSTRUCTIONS[instructions], threads)
    return values, ids, log_sum_exp


def expected_top(logits: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    exact = logits.astype(np.float64)
    ids = np.argsort(-exact, axis=1, kind="stable")[:, :k]
    top = exact.max(1, keepdims=True)
    sums = np.log(np.exp(exact - top).sum(1)) + top[:, 0]
    return np.take_along_axis(logits, ids, 1), ids, sums


@every_instruction_set
@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize(
    ("rows", "width", "k"), [(1, 1, 1), (1, 151_669, 50), (3, 40_000, 1), (2, 17, 17), (1, 20_000, 3000), (4, 1000, 20)]
)
def test_top_of_random_logits(rows: int, width: int, k: int, threads: int, instructions: str) -> None:
    logits = np.random.default_rng(width).normal(scale=4, size=(rows, width)).astype(np.float32)
    values, ids, sums = find_top(logits, k, instructions, threads)
    expected = expected_top(logits, k)
    np.testing.assert_array_equal(values, expected[0])
    np.testing.assert_array_equal(ids, expected[1])
    np.testing.assert_allclose(sums, expected[2], rtol=0, atol=1e-5)


@every_instruction_set
@pytest.mark.parametrize("order", [1, -1])
def test_sorted_logits(instructions: str, order: int) -> None:
    logits = np.linspace(-300, 300, 50_000, dtype=np.float32)[None, ::order].copy()
    values, ids, sums = find_top(logits, 40, instructions, 2)
    np.testing.assert_array_equal(ids, expected_top(logits, 40)[1])
    np.testing.assert_allclose(sums, expected_top(logits, 40)[2], rtol=1e-6)
    assert values[0, 0] == 300


@every_instruction_set
@pytest.mark.parametrize("threads", [1, 3])
def test_equal_logits_come_in_the_order_of_their_ids(instructions: str, threads: int) -> None:
    logits = np.random.default_rng(0).integers(0, 4, (1, 60_000)).astype(np.float32)
    ids = find_top(logits, 30, instructions, threads)[1]
    np.testing.assert_array_equal(ids, expected_top(logits, 30)[1])


@every_instruction_set
def test_masked_logits_weigh_nothing(instructions: str) -> None:
    logits = np.full((1, 30_000), -np.inf, np.float32)
    logits[0, [5, 29_999]] = 1.0, 2.0
    values, ids, sums = find_top(logits, 3, instructions, 2)
    assert ids[0, :2].tolist() == [29_999, 5]
    assert values[0].tolist() == [2.0, 1.0, -np.inf]
    np.testing.assert_allclose(sums, np.log(np.exp(1.0) + np.exp(2.0)), rtol=1e-6)


@every_instruction_set
@pytest.mark.parametrize("bits", [0x7FC00000, 0xFFC00000, 0x7FC00001, 0x7FFFFFFF])
def test_a_logit_that_is_not_a_number_shows_in_the_sum(instructions: str, bits: int) -> None:
    logits = np.zeros((2, 30_000), np.float32)
    logits.view(np.uint32)[1, 12_345] = bits
    sums = find_top(logits, 3, instructions, 2)[2]
    assert np.isfinite(sums[0])
    assert np.isnan(sums[1])
