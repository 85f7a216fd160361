"""Distances between logits, against float64 formulas written out longhand.

Reference: float64 formulas
"""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from qwen3_compile.validate.metrics import compare_hidden, compare_logits, negative_log_likelihood


def softmax64(row):
    e = np.exp(np.float64(row) - np.float64(row).max())
    return e / e.sum()


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), rows=st.integers(1, 5), vocab=st.integers(2, 300), scale=st.floats(0.01, 30))
def test_divergence_is_that_of_the_two_distributions(seed, rows, vocab, scale):
    rng = np.random.default_rng(seed)
    reference = (rng.standard_normal((rows, vocab)) * scale).astype(np.float32)
    engine = reference + (rng.standard_normal((rows, vocab)) * 0.1 * scale).astype(np.float32)
    distance = compare_logits(reference, engine, vocab)
    for row in range(rows):
        p, q = softmax64(reference[row]), softmax64(engine[row])
        expected = np.sum(np.where(p > 0, p * (np.log(np.maximum(p, 1e-300)) - np.log(np.maximum(q, 1e-300))), 0))
        assert distance.kl[row] == pytest.approx(expected, rel=1e-3, abs=1e-6 + 1e-5 * scale)
        assert distance.max_error[row] == pytest.approx(np.abs(reference[row] - engine[row]).max())
        assert distance.top1[row] == (reference[row].argmax() == engine[row].argmax())


def test_divergence_agrees_with_torch():
    rng = np.random.default_rng(3)
    reference, engine = rng.standard_normal((2, 4, 1000)).astype(np.float32)
    log_p, log_q = (torch.log_softmax(torch.from_numpy(x).double(), -1) for x in (reference, engine))
    expected = torch.nn.functional.kl_div(log_q, log_p, log_target=True, reduction="none").sum(-1).numpy()
    np.testing.assert_allclose(compare_logits(reference, engine, 1000).kl, expected, rtol=1e-4)


def test_equal_logits_are_at_distance_zero_even_after_a_shift():
    logits = np.random.default_rng(0).standard_normal((3, 50)).astype(np.float32)
    distance = compare_logits(logits, logits + np.float32(2), 50)
    assert distance.kl.max() < 1e-6
    assert distance.top1.all()


def test_untrained_vocabulary_does_not_count():
    reference = np.zeros((1, 8), np.float32)
    engine = reference.copy()
    engine[0, 6:] = 1e4
    distance = compare_logits(reference, engine, 6)
    assert distance.kl[0] == 0
    assert distance.max_error[0] == 0


@pytest.mark.parametrize("poison", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("compare", [lambda a, b: compare_logits(a, b, 9), compare_hidden])
def test_a_row_that_is_not_finite_is_infinitely_far(poison, compare):
    reference = np.random.default_rng(1).standard_normal((3, 9)).astype(np.float32)
    engine = reference.copy()
    engine[1, 4] = poison
    distance = compare(reference, engine)
    assert np.isinf(distance.kl[1])
    assert np.isinf(distance.max_error[1])
    assert not distance.top1[1]
    assert distance.cosine[1] == -1
    assert np.isfinite(distance.kl[[0, 2]]).all()


def test_likelihood_of_targets():
    logits = np.random.default_rng(5).standard_normal((4, 30)).astype(np.float32)
    targets = np.array([0, 7, 29, 3])
    expected = torch.nn.functional.cross_entropy(torch.from_numpy(logits), torch.from_numpy(targets), reduction="none")
    np.testing.assert_allclose(negative_log_likelihood(logits, targets, 30), expected.numpy(), rtol=1e-5)


def test_rows_beyond_the_tokenizers_vocabulary_are_no_part_of_the_likelihood():
    """They were never trained, and whatever stands there is never sampled."""
    logits = np.random.default_rng(6).standard_normal((4, 40)).astype(np.float32)
    logits[:, 30:] = [50, -50, np.inf, np.nan] * 2 + [0, 9]
    targets = np.array([0, 7, 29, 3])
    expected = negative_log_likelihood(logits[:, :30], targets, 30)
    assert np.isfinite(expected).all()
    np.testing.assert_array_equal(negative_log_likelihood(logits, targets, 30), expected)


def test_cosine_of_hidden_states():
    a = np.array([[1, 0], [1, 1], [2, 0]], np.float32)
    b = np.array([[0, 1], [1, 1], [-1, 0]], np.float32)
    np.testing.assert_allclose(compare_hidden(a, b).cosine, [0, 1, -1], atol=1e-7)


def test_distances_of_hidden_states_are_those_of_each_row():
    rng = np.random.default_rng(8)
    reference, engine = rng.standard_normal((2, 3, 20)).astype(np.float32)
    distance = compare_hidden(reference, engine)
    for row in range(3):
        assert distance.max_error[row] == pytest.approx(max(abs(np.float64(reference[row]) - engine[row])), rel=1e-6)
        a, b = np.float64(reference[row]), np.float64(engine[row])
        assert distance.cosine[row] == pytest.approx(a @ b / np.sqrt((a @ a) * (b @ b)))
    assert distance.kl.tolist() == [0, 0, 0]
    assert distance.top1.all()


def test_each_row_is_compared_by_itself_however_large_another_is():
    logits = np.array([[1, 2, 3], [1000, 2000, 3000]], np.float32)
    engine = np.array([[3, 2, 1], [1000, 2000, 3000]], np.float32)
    expected = np.sum(softmax64(logits[0]) * np.log(softmax64(logits[0]) / softmax64(engine[0])))
    distance = compare_logits(logits, engine, 3)
    assert distance.kl == pytest.approx([expected, 0], rel=1e-5)
    assert distance.max_error.tolist() == [2, 0]


def test_an_angle_has_no_overflow():
    rows = np.array([[1e25, 1e25], [1e-25, 0]], np.float32)
    np.testing.assert_allclose(compare_hidden(rows, np.ones((2, 2), np.float32)).cosine, [1, 0.5**0.5], rtol=1e-6)
    np.testing.assert_allclose(compare_hidden(np.ones((2, 2), np.float32), rows).cosine, [1, 0.5**0.5], rtol=1e-6)
