"""Greedy continuations: how far the engine's is the reference's own, and what the reference says after it.

Reference: a model whose next token follows from the last one by hand
"""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from qwen3_compile.validate import continuations, replay
from qwen3_compile.validate.cases import Case
from qwen3_compile.validate.continuations import compare_continuations, engine_continuations, greedy_tokens
from qwen3_compile.validate.report import Greedy

VOCABULARY, ROWS, STOP = 10, 12, 9
MANIFEST = SimpleNamespace(
    io=SimpleNamespace(tokenizer_vocab_size=VOCABULARY, max_context=20, max_step_tokens=4), eos_token_ids=(STOP,)
)


class CountingReference:
    """Says the next number after each token, mod 10; what it likes best is beyond the vocabulary."""

    architecture = None

    def __init__(self):
        self.asked = []

    def read_out(self, states):
        logits = np.zeros((len(states), ROWS), np.float32)
        logits[np.arange(len(states)), (states[:, 0].astype(int) + 1) % VOCABULARY] = 1
        logits[:, VOCABULARY + 1] = 2
        return logits

    def continue_greedily(self, sequences, counts, *, vocabulary, stops):
        assert vocabulary == VOCABULARY
        assert set(stops) == {STOP}
        self.asked += [(sequence.tolist(), count) for sequence, count in zip(sequences, counts, strict=True)]
        return [
            np.array([(sequence[-1] + 1 + step) % VOCABULARY for step in range(count)], dtype=np.int64)
            for sequence, count in zip(sequences, counts, strict=True)
        ]


class Letters:
    """Texts that are the tokens."""

    def decode(self, tokens):
        return "".join(map(str, tokens))


def compared(tokens, tokenizer=Letters(), prompt=(1, 2)):  # noqa: B008 - it has no state
    case, reference, told = Case("prompt 1", "prompt", np.array(prompt)), CountingReference(), []
    everything = np.array([*prompt, *tokens])
    (found,) = compare_continuations(
        [(case, np.array(tokens))],
        [everything[:, None].astype(np.float32)],
        reference,
        MANIFEST,
        tokenizer,
        told.append,
    )
    return found, reference.asked, told


@pytest.fixture(autouse=True)
def small_model(monkeypatch):
    """A model of a billion parameters in 16 bits, of which 4 readings are within the bound."""
    monkeypatch.setattr(continuations, "parameter_counts", lambda _architecture: (1_000_000_000, 1))
    monkeypatch.setattr(continuations, "REFERENCE_BYTES", 8e9)


def test_full_agreement_needs_no_more_of_the_reference():
    found, asked, told = compared([3, 4, 5])
    assert found == Greedy("prompt 1", 3, 3, prompt="12", same="345", engine="", reference="")
    assert (asked, told) == ([], [])


def test_the_first_other_token_ends_the_agreement_and_the_reference_goes_on_as_long_as_the_engine():
    found, asked, told = compared([3, 7, 8, 6])  # after the 7, another 8 agrees again and does not count
    assert found == Greedy("prompt 1", 1, 4, prompt="12", same="3", engine="786", reference="456")
    assert asked == [([1, 2, 3, 4], 2)]
    assert told == ["continuing with PyTorch from the first different token"]


def test_disagreement_from_the_first_token():
    found, asked, _ = compared([0])
    assert found == Greedy("prompt 1", 0, 1, prompt="12", same="", engine="0", reference="3")
    assert asked == [([1, 2, 3], 0)]


def test_the_reference_reads_no_more_than_the_bound():
    found, asked, _ = compared([0, *range(1, 9)])
    assert asked == [([1, 2, 3], 4)]
    assert found.reference == "34567"


def test_a_reference_that_ends_is_not_continued():
    found, asked, told = compared([0, 0, 0], prompt=(7, 8))
    assert found == Greedy("prompt 1", 0, 3, prompt="78", same="", engine="000", reference="9")
    assert (asked, told) == ([], [])


def test_without_a_tokenizer_there_are_counts_and_no_texts():
    found, asked, told = compared([3, 7], tokenizer=None)
    assert found == Greedy("prompt 1", 1, 2)
    assert (asked, told) == ([], [])


def test_several_continuations_keep_their_order():
    cases = [Case(f"prompt {number}", "prompt", np.array([number])) for number in (1, 2, 3)]
    tokens = [np.array([5, 5]), np.array([3, 4]), np.array([4, 0])]
    states = [np.concatenate([case.ids, each])[:, None] for case, each in zip(cases, tokens, strict=True)]
    found = compare_continuations(
        list(zip(cases, tokens, strict=True)), states, CountingReference(), MANIFEST, Letters(), lambda _: None
    )
    assert [(each.case, each.agreed, each.reference) for each in found] == [
        ("prompt 1", 0, "23"),
        ("prompt 2", 2, ""),
        ("prompt 3", 1, "5"),
    ]


@pytest.mark.parametrize(("asked", "expected"), [(None, 32), (0, 32), (32, 32), (40, 40)])
def test_at_least_as_many_tokens_are_compared_as_the_spec_asks_for(asked, expected):
    assert greedy_tokens(SimpleNamespace(accuracy=SimpleNamespace(min_greedy_tokens=asked))) == expected


def test_each_prompt_is_continued_within_the_context_and_to_a_stop(monkeypatch):
    calls, told = [], []

    def greedy(*arguments):
        calls.append((arguments[1].tolist(), *arguments[2:]))
        return [4, STOP]

    monkeypatch.setattr(replay, "greedy", greedy)
    engine = SimpleNamespace(manifest=MANIFEST, backend="backend")
    long, short = Case("prompt 1", "prompt", np.arange(15)), Case("prompt 2", "prompt", np.arange(3))
    others = [Case("random 5", "random", np.arange(5)), Case("text", "text", np.arange(5))]
    found = engine_continuations(engine, [long, short, *others], 8, told.append)
    stops = frozenset({STOP})
    assert calls == [(list(range(15)), 5, VOCABULARY, 4, stops), (list(range(3)), 8, VOCABULARY, 4, stops)]
    assert [case for case, _ in found] == [long, short]
    for _, tokens in found:
        assert tokens.dtype == np.int64
        assert tokens.tolist() == [4, STOP]
    assert told == ["continuing prompt 1 greedily", "continuing prompt 2 greedily"]
    assert [case for case, _ in engine_continuations(engine, others, 8, told.append)] == others[:1]
