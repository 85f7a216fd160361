"""Every kind of padded step that a target declares valid gives what the eager model gives.

Reference: the eager model with the same (dequantized) weights
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from conversation import SEQUENCES, Conversation
from hypothesis import given, settings
from hypothesis import strategies as st
from lowered_engine import (
    CONTEXT,
    DENSE,
    MIXED,
    MOE,
    UNNORMALIZED,
    Engine,
    eager,
    engine,
    precision,
    reference,
    relative_error,
)

# Both sides sum in float32 in different orders; measured about 1e-6.
FLOAT32 = 1e-5
# The ort target rounds queries and outputs to fp16 where eager rounds keys and values alone: one part in 2048.
FLOAT16 = 3e-3


@pytest.fixture(scope="module", params=["ort", "onnx"])
def target(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module", params=[DENSE, MOE, MIXED], ids=["dense", "moe", "mixed"])
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


def test_shares_that_are_not_renormalized(target: str) -> None:
    conversation = Conversation(engine(UNNORMALIZED, target, precision()))
    conversation.step({0: 6, 1: 3})
    assert conversation.error() < FLOAT32


def test_hidden_states_instead_of_logits(target: str) -> None:
    opened = engine(DENSE, target, precision(), output="hidden")
    assert opened.session.get_outputs()[0].name == "hidden"
    tokens = SEQUENCES[0][:6]
    found = opened.call([tokens], [0], opened.caches(1))
    assert relative_error(found, reference(eager(DENSE, precision(), "hidden"), [tokens])) < FLOAT32
