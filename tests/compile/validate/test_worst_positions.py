"""The positions furthest from the reference, against numpy in float64.

Reference: NumPy in float64
"""

import numpy as np
import pytest

from qwen3_compile.validate.metrics import compare_logits
from qwen3_compile.validate.worst import GUESSES_PER_POSITION, KEPT_POSITIONS, Furthest, guesses


@pytest.mark.parametrize("seed", range(5))
def test_the_worst_of_all_runs_are_kept_once_each_at_their_worst_mode(seed):
    rng = np.random.default_rng(seed)
    reference = {case: rng.normal(size=(20, 30)).astype(np.float32) for case in ("a", "b")}
    furthest, expected = Furthest(), {}
    for mode in ("prefill", "decode"):
        for case, rows in reference.items():
            engine = rows + rng.normal(size=rows.shape).astype(np.float32)
            kl = compare_logits(rows, engine, 30).kl
            for at in range(0, 20, 7):
                part = slice(at, at + 7)
                furthest.offer(case, mode, at, kl[part], (rows[part], engine[part]))
            for position, value in enumerate(kl):
                if value > expected.get((case, position), (0,))[0]:
                    expected[case, position] = (value, mode, engine[position])
    found = furthest.positions({}, None)
    worst = sorted(expected, key=lambda key: -expected[key][0])[:KEPT_POSITIONS]
    assert [(entry.case, entry.position) for entry in found] == worst
    for entry in found:
        value, mode, engine = expected[entry.case, entry.position]
        assert (entry.value, entry.mode) == (pytest.approx(value), mode)
        for given, row in ((entry.engine, engine), (entry.reference, reference[entry.case][entry.position])):
            weights = np.exp(row.astype(np.float64) - row.max())
            best = np.argsort(-weights)[:GUESSES_PER_POSITION]
            assert [guess.token for guess in given] == best.tolist()
            assert [guess.probability for guess in given] == pytest.approx(weights[best] / weights.sum(), rel=1e-5)


def test_equal_runs_are_told_apart_by_nothing_but_their_order():
    rows = np.eye(8, dtype=np.float32)
    furthest = Furthest()
    for mode in ("prefill", "decode"):
        furthest.offer("a", mode, 0, np.full(8, 0.5), (rows, rows))
    assert [(entry.mode, entry.position) for entry in furthest.positions({}, None)] == [
        ("prefill", i) for i in range(5)
    ]


def test_a_row_that_is_not_finite_is_the_worst_and_guesses_nothing():
    rows = np.zeros((2, 4), np.float32)
    engine = np.array([[0, 0, 0, 1], [0, np.nan, 0, 0]], np.float32)
    furthest = Furthest()
    furthest.offer("a", "prefill", 3, compare_logits(rows, engine, 4).kl, (rows, engine))
    first = furthest.positions({}, None)[0]
    assert (first.position, first.value, first.engine) == (4, np.inf, [])
    assert guesses(engine[0])[0].token == 3


def test_hidden_states_have_positions_and_no_guesses():
    furthest = Furthest()
    furthest.offer("a", "prefill", 0, np.array([0.1, 0.3]), None)
    assert [(entry.position, entry.reference) for entry in furthest.positions({}, None)] == [(1, []), (0, [])]
