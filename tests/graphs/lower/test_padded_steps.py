"""Every kind of padded step that a target declares valid gives what the eager model gives."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from lowered_engine import (
    CONTEXT,
    DENSE,
    MOE,
    UNNORMALISED,
    Engine,
    eager,
    engine,
    precision,
    reference,
    relative_error,
)

SEQUENCES = [np.random.default_rng(seed).integers(0, 90, CONTEXT) for seed in range(3)]

# Both sides sum in float32 in different orders; measured about 1e-6.
FLOAT32 = 1e-5
# The ort target rounds queries and outputs to fp16 where eager rounds keys and values alone: one part in 2048.
FLOAT16 = 3e-3


@dataclass
class Conversation:
    """Sequences that grow step by step over caches of their own."""

    engine: Engine
    context: list[int] = field(default_factory=lambda: [0, 0, 0])
    outputs: list[list[np.ndarray]] = field(default_factory=lambda: [[], [], []])

    def __post_init__(self) -> None:
        self.caches = self.engine.caches(3)

    def step(self, counts: dict[int, int], *, in_place: bool = True, pad_to: int = 0) -> None:
        """Feed so many further tokens of each sequence in one call."""
        chosen = list(counts)
        caches = {name: np.ascontiguousarray(array[chosen]) for name, array in self.caches.items()}
        tokens = [SEQUENCES[i][self.context[i] : self.context[i] + count] for i, count in counts.items()]
        answers = self.engine.call(tokens, [self.context[i] for i in chosen], caches, in_place=in_place, pad_to=pad_to)
        for name, array in caches.items():
            self.caches[name][chosen] = array
        for (i, count), answer in zip(counts.items(), answers, strict=True):
            self.context[i] += count
            self.outputs[i].append(answer)

    def error(self, dtype: torch.dtype = torch.float32) -> float:
        model = eager(self.engine.architecture, self.engine.formats)
        used = [i for i in range(3) if self.context[i]]
        expected = reference(model, [SEQUENCES[i][: self.context[i]] for i in used], dtype)
        return relative_error([np.concatenate(self.outputs[i]) for i in used], expected)


@pytest.fixture(scope="module", params=["ort", "onnx"])
def target(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module", params=[DENSE, MOE], ids=["dense", "moe"])
def opened(request: pytest.FixtureRequest, target: str) -> Engine:
    return engine(request.param, target, precision())


def test_a_ragged_prompt_batch_then_single_tokens(opened: Engine) -> None:
    conversation = Conversation(opened)
    conversation.step({0: 9, 1: 2, 2: 5})
    conversation.step({0: 1, 1: 1, 2: 1})
    conversation.step({2: 1, 0: 1})
    assert conversation.error() < FLOAT32


def test_chunks_of_one_sequence_with_a_past(opened: Engine) -> None:
    conversation = Conversation(opened)
    conversation.step({1: 7})
    conversation.step({1: 6})
    conversation.step({1: 1})
    assert conversation.error() < FLOAT32


def test_padding_longer_than_any_sequence_changes_nothing(opened: Engine) -> None:
    conversation = Conversation(opened)
    conversation.step({0: 3, 2: 6}, pad_to=11)
    conversation.step({2: 4}, pad_to=9)
    conversation.step({0: 1, 2: 1})
    assert conversation.error() < FLOAT32


def test_a_new_sequence_decodes_from_nothing_beside_old_ones(opened: Engine) -> None:
    conversation = Conversation(opened)
    conversation.step({0: 5})
    conversation.step({0: 1, 1: 1})
    conversation.step({0: 1, 1: 1, 2: 1})
    assert conversation.error() < FLOAT32


def test_the_cache_can_be_filled_to_its_last_row(opened: Engine) -> None:
    conversation = Conversation(opened)
    conversation.step({0: CONTEXT - 6, 1: 3})
    conversation.step({0: 5})
    conversation.step({0: 1, 1: 1})
    assert conversation.context[0] == CONTEXT
    assert conversation.error() < FLOAT32


def test_separate_cache_outputs_hold_the_same_as_shared_ones(opened: Engine) -> None:
    shared, separate = Conversation(opened), Conversation(opened)
    for conversation, in_place in ((shared, True), (separate, False)):
        conversation.step({0: 5, 1: 3}, in_place=in_place)
        conversation.step({0: 1, 1: 1}, in_place=in_place)
    for name, array in shared.caches.items():
        for i in (0, 1):
            held = slice(0, shared.context[i])
            np.testing.assert_array_equal(array[i, :, held], separate.caches[name][i, :, held])


def test_a_step_leaves_the_rows_behind_its_padding_alone(opened: Engine) -> None:
    conversation = Conversation(opened)
    conversation.step({0: 4, 1: 2})
    for array in conversation.caches.values():
        assert (array[:, :, 4:] == 50).all()
        assert (array[0, :, :4] != 50).any(axis=-1).all()


@pytest.mark.parametrize("target", ["ort"])
def test_ort_refuses_chunks_of_several_sequences_with_a_past(target: str) -> None:
    conversation = Conversation(engine(DENSE, target, precision()))
    conversation.step({0: 4, 1: 4})
    with pytest.raises(Exception, match="batch_size must be 1 when sequence_length > 1 and past context is given"):
        conversation.step({0: 2, 1: 2})


@settings(max_examples=8, deadline=None)
@given(st.lists(st.tuples(*[st.integers(0, 4)] * 3).filter(any), min_size=1, max_size=5))
def test_onnx_takes_any_mix_of_chunks(steps: list[tuple[int, int, int]]) -> None:
    conversation = Conversation(_any_mix())
    for counts in steps:
        conversation.step({i: count for i, count in enumerate(counts) if count})
    assert conversation.error() < FLOAT32


_opened: list[Engine] = []


def _any_mix() -> Engine:
    if not _opened:
        _opened.append(engine(MOE, "onnx", precision()))
    return _opened[0]


def test_a_half_precision_cache(target: str) -> None:
    opened = engine(DENSE, target, precision(kv_cache="fp16"))
    conversation = Conversation(opened)
    conversation.step({0: 9, 1: 2})
    conversation.step({0: 1, 1: 1})
    conversation.step({0: 4}, pad_to=5)
    conversation.step({0: 1, 1: 1}, in_place=False)
    assert conversation.caches["kv.0.key"].dtype == np.float16
    assert conversation.error(torch.float16) < FLOAT16


def test_shares_that_are_not_renormalised(target: str) -> None:
    conversation = Conversation(engine(UNNORMALISED, target, precision()))
    conversation.step({0: 6, 1: 3})
    assert conversation.error() < FLOAT32


def test_hidden_states_instead_of_logits(target: str) -> None:
    opened = engine(DENSE, target, precision(), output="hidden")
    assert opened.session.get_outputs()[0].name == "hidden"
    tokens = SEQUENCES[0][:6]
    found = opened.call([tokens], [0], opened.caches(1))
    assert relative_error(found, reference(eager(DENSE, precision(), "hidden"), [tokens])) < FLOAT32
