"""The file that TensorRT imports, executed on CPU, gives what the eager model gives in every kind of step.

Covers: fp16 and bf16; ragged prompts, chunks with a past, decode, padding, full caches; dense, MoE, tied, untied,
    YaRN, hidden states; a layer at 0.6B dimensions
Reference: the eager model with the same (dequantized) weights
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx
import pytest
import torch
from conversation import SEQUENCES, Conversation
from hypothesis import given, settings
from hypothesis import strategies as st
from lowered_engine import CONTEXT, DENSE, MIXED, SHALLOW, UNNORMALIZED, Engine, eager, reference, relative_error
from tensorrt_engine import executed, precision

from qwen3_graphs.architecture import YarnScaling
from qwen3_graphs.formats import WeightFormat

# Hidden states are rounded about twenty times a layer; measured 1e-3 to 2e-3, and 1e-2 to 2e-2.
LIMITS = {"fp16": 4e-3, "bf16": 4e-2}
CACHES = {"fp16": torch.float16, "bf16": torch.bfloat16}


@pytest.fixture(scope="module", params=["fp16", "bf16"])
def activations(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module", params=[DENSE, SHALLOW, MIXED], ids=["dense", "moe", "mixed"])
def opened(request: pytest.FixtureRequest, activations: str) -> Engine:
    return executed(request.param, precision(activations))


def assert_agrees(conversation: Conversation) -> None:
    activations = conversation.engine.formats.activations
    assert conversation.error(CACHES[activations]) < LIMITS[activations]


def test_a_ragged_prompt_batch_then_single_tokens(opened: Engine) -> None:
    conversation = Conversation(opened)
    conversation.step({0: 9, 1: 2, 2: 5})
    conversation.step({0: 1, 1: 1, 2: 1})
    conversation.step({2: 1, 0: 1})
    assert_agrees(conversation)


def test_chunks_of_several_sequences_with_a_past(opened: Engine) -> None:
    conversation = Conversation(opened)
    conversation.step({0: 7, 1: 3})
    conversation.step({0: 6, 1: 2, 2: 8})
    conversation.step({0: 1, 1: 5})
    assert_agrees(conversation)


def test_padding_longer_than_any_sequence_changes_nothing(opened: Engine) -> None:
    conversation = Conversation(opened)
    conversation.step({0: 3, 2: 6}, pad_to=11)
    conversation.step({2: 4}, pad_to=9)
    conversation.step({0: 1, 2: 1})
    assert_agrees(conversation)


def test_the_cache_can_be_filled_to_its_last_row(opened: Engine) -> None:
    conversation = Conversation(opened)
    conversation.step({0: CONTEXT - 6, 1: 3})
    conversation.step({0: 5})
    conversation.step({0: 1, 1: 1})
    assert conversation.context[0] == CONTEXT
    assert_agrees(conversation)


def test_a_step_leaves_the_rows_behind_its_padding_alone(opened: Engine) -> None:
    conversation = Conversation(opened)
    conversation.step({0: 4, 1: 2})
    for array in conversation.caches.values():
        assert (array[:, :, 4:] == 50).all()
        assert (array[0, :, :4] != 50).any(axis=-1).all()


def test_separate_cache_outputs_hold_the_same_as_shared_ones() -> None:
    engine = executed(DENSE, precision("fp16"))
    shared, separate = Conversation(engine), Conversation(engine)
    for conversation, in_place in ((shared, True), (separate, False)):
        conversation.step({0: 5, 1: 3}, in_place=in_place)
        conversation.step({0: 1, 1: 1}, in_place=in_place)
    for name, array in shared.caches.items():
        for i in (0, 1):
            held = slice(0, shared.context[i])
            np.testing.assert_array_equal(array[i, :, held], separate.caches[name][i, :, held])


_opened: list[Engine] = []


def _any_mix() -> Engine:
    if not _opened:
        _opened.append(executed(DENSE, precision("fp16", WeightFormat("int8"))))
    return _opened[0]


@settings(max_examples=8, deadline=None)
@given(st.lists(st.tuples(*[st.integers(0, 4)] * 3).filter(any), min_size=1, max_size=5))
def test_any_mix_of_chunks(steps: list[tuple[int, int, int]]) -> None:
    conversation = Conversation(_any_mix())
    for counts in steps:
        conversation.step({i: count for i, count in enumerate(counts) if count})
    assert_agrees(conversation)


def test_hidden_states_instead_of_logits(activations: str) -> None:
    opened = executed(DENSE, precision(activations), output="hidden")
    assert [output.type for output in opened.session.get_outputs()[:1]] == ["tensor(float)"]
    tokens = SEQUENCES[0][:6]
    found = opened.call([tokens], [0], opened.caches(1))
    expected = reference(eager(DENSE, precision(activations), "hidden"), [tokens])
    assert relative_error(found, expected) < LIMITS[activations]


def test_shares_that_are_not_renormalized() -> None:
    conversation = Conversation(executed(UNNORMALIZED, precision("fp16")))
    conversation.step({0: 6, 1: 3})
    assert_agrees(conversation)


def test_an_expert_that_overflows_on_a_token_that_is_not_its_own_does_not_reach_it() -> None:
    """All experts compute: what is infinite in fp16 must not become 0 times infinity."""
    token = [SEQUENCES[0][:1]]

    def answer(swollen: int | None) -> np.ndarray:
        def swell(proto: onnx.ModelProto) -> None:
            (up,) = (tensor for tensor in proto.graph.initializer if tensor.name.endswith("up_proj.weight.columns"))
            matrices = onnx.numpy_helper.to_array(up).copy()
            if swollen is not None:
                matrices[swollen] = np.copysign(np.float16(6e4), matrices[swollen])
            up.raw_data = matrices.tobytes()

        engine = executed(SHALLOW, precision("fp16"), edit=swell)
        return engine.call(token, [0], engine.caches(1))[0]

    plain, answers = answer(None), [answer(expert) for expert in range(SHALLOW.num_experts)]
    unchosen = SHALLOW.num_experts - SHALLOW.num_experts_per_tok
    assert sum(np.array_equal(found, plain) for found in answers) == unchosen
    assert sum(not np.isfinite(found).all() for found in answers) == SHALLOW.num_experts_per_tok


def test_stretched_positions() -> None:
    stretched = replace(DENSE, yarn=YarnScaling(4.0, 12))
    conversation = Conversation(executed(stretched, precision("fp16")))
    conversation.step({0: CONTEXT - 5})
    conversation.step({0: 1})
    assert_agrees(conversation)
    plain = Conversation(executed(DENSE, precision("fp16")))
    plain.step({0: CONTEXT - 5})
    assert relative_error(plain.outputs[0][:1], conversation.outputs[0][:1]) > 0.02
