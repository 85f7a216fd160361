"""Triton attention kernels, interpreted, against the eager model in float64.

Covers: QK-norm, RoPE, append, attention; fp16 and bf16, head_dim 64 and 128, groups of 1 to 16, blocks of 16 to
    100; ragged mixes, splits, padded steps
Reference: the eager model in float64
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch
from attention_steps import before, check, interpreted, launches, make_step
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from interpreted import Sparse

from qwen3_plugins.tensorrt.kernels.attention import AttentionShape, attention_kernels

if TYPE_CHECKING:
    from interpreted import Interpreter

shapes = st.builds(
    lambda kv_heads, group, dim, block, kind: AttentionShape(kv_heads * group, kv_heads, dim, block, 1e-6, kind),
    st.integers(1, 2),
    st.sampled_from([1, 2, 3, 4, 5, 8, 16]),
    st.sampled_from([64, 128]),
    st.sampled_from([16, 24, 32, 64, 100]),
    st.sampled_from(["fp16", "bf16"]),
)
sequences = st.lists(
    st.tuples(st.one_of(st.integers(0, 4), st.integers(5, 20)), st.one_of(st.just(0), st.integers(0, 200))),
    min_size=1,
    max_size=3,
).filter(lambda pairs: any(new for new, _ in pairs))


@settings(
    max_examples=10,
    deadline=None,
    derandomize=True,
    phases=[Phase.generate],  # an example takes a second: too long to look for a smaller one
    suppress_health_check=list(HealthCheck),
)
@given(
    shape=shapes,
    pairs=sequences,
    capability=st.sampled_from([80, 89, 90, 100, 120]),
    splits=st.sampled_from([1, 2, 8]),
    padding=st.integers(0, 2),
    seed=st.integers(0, 2**31),
)
def test_ragged_steps_match_the_eager_model(
    interpreter: Interpreter,
    shape: AttentionShape,
    pairs: list[tuple[int, int]],
    capability: int,
    splits: int,
    padding: int,
    seed: int,
) -> None:
    new, context = (list(column) for column in zip(*pairs, strict=True))
    check(interpreter, make_step(shape, new, context, seed=seed, padding=padding), capability, splits=splits)


@pytest.mark.parametrize("kind", ["fp16", "bf16"])
@pytest.mark.parametrize(
    ("heads", "new", "context"),
    [
        ((16, 2), [50, 1], [150, 70]),  # four tiles of sixteen tokens, whose first keys need no mask
        ((5, 1), [60, 60], [0, 130]),  # a tile of 25 tokens has three rows to spare
        ((16, 1), [1, 1, 30], [600, 63, 64]),  # sixteen heads fill the rows of a short sequence
    ],
    ids=["tiles", "spare-rows", "wide-group"],
)
def test_long_sequences_match_the_eager_model(
    interpreter: Interpreter, kind: str, heads: tuple[int, int], new: list[int], context: list[int]
) -> None:
    check(interpreter, make_step(AttentionShape(*heads, 128, 16, 1e-6, kind), new, context, sharp=2))


@pytest.mark.parametrize("splits", [1, 4, 16])
@pytest.mark.parametrize("programs", [1, 3, 256])
def test_short_sequences_are_split_and_merged(interpreter: Interpreter, splits: int, programs: int) -> None:
    # The third sequence's first token sees none of the keys after position 512, where a piece begins.
    step = make_step(AttentionShape(4, 1, 64, 16, 1e-6, "fp16"), [1, 4, 3, 0, 1], [1000, 321, 511, 40, 0], sharp=2)
    check(interpreter, step, splits=splits, programs=programs)


def test_the_owner_of_a_token_is_found_among_many_sequences(interpreter: Interpreter) -> None:
    new = [0] * 260
    for sequence in (0, 126, 127, 128, 129, 255, 256, 259):
        new[sequence] = 1 + sequence % 3
    new[130] = 20
    context = [7 * (count > 0) for count in new]
    check(interpreter, make_step(AttentionShape(8, 1, 64, 16, 1e-6, "fp16"), new, context, padding=2), splits=1)


@pytest.mark.parametrize("needle", [0, 15, 16, 63, 64, 130, 199])
def test_a_key_that_outweighs_all_others_gives_its_value(interpreter: Interpreter, needle: int) -> None:
    shape = AttentionShape(8, 1, 64, 16, 1e-6, "fp16")
    step = make_step(shape, [1, 9], [200, 200], sharp=60)
    inputs = step.inputs
    inputs["cos"][:], inputs["sin"][:] = 1, 0
    inputs["q"][:] = inputs["q"][0, :64].repeat(8)
    query = inputs["q"][0, :64].float() * inputs["q_norm"].float() / 60
    expected = []
    for row in inputs["block_table"]:
        inputs["kv"][row[needle // 16], 0, 0, needle % 16] = (query * 3).half()
        expected.append(inputs["kv"][row[needle // 16], 1, 0, needle % 16])
    out = interpreted(interpreter, step, attention_kernels(shape, 89, splits=4))["out"].reshape(10, 8, 64)
    assert (out[0] == expected[0]).all()
    assert (out[1:] == expected[1]).all()


@pytest.mark.parametrize("new", [1, 9])
@pytest.mark.parametrize("what", ["q", "k", "v"])
def test_a_token_that_is_not_a_number_stays_in_its_own_sequence(interpreter: Interpreter, what: str, new: int) -> None:
    shape = AttentionShape(16, 2, 64, 16, 1e-6, "fp16")
    step = make_step(shape, [new, new], [10, 30])
    kernels = attention_kernels(shape, 89, splits=2)
    whole = interpreted(interpreter, step, kernels)["out"]
    step.inputs[what][new - 1, 3] = torch.nan
    out = interpreted(interpreter, step, kernels)["out"]
    assert out[new - 1].isnan().any()
    torch.testing.assert_close(out[new:], whole[new:], rtol=0, atol=0)


def test_a_cache_may_have_more_than_two_to_the_31_elements(interpreter: Interpreter) -> None:
    shape = AttentionShape(4, 1, 64, 16, 1e-6, "fp16")
    step = make_step(shape, [1, 20], [40, 10])
    kernels = attention_kernels(shape, 89, splits=2)
    near = interpreted(interpreter, step, kernels)
    blocks, first = step.inputs["kv"], 2**31 // (2 * 16 * 64)
    far = Sparse((first + len(blocks), *blocks.shape[1:]), {first + place: one for place, one in enumerate(blocks)})
    step.inputs["block_table"] += (step.inputs["block_table"] < len(blocks)) * first
    after = interpreter.run(launches(step, kernels), {**before(step, kernels), "kv": far, "kv_out": far})
    torch.testing.assert_close(after["out"], near["out"], rtol=0, atol=0)
    torch.testing.assert_close(
        torch.stack(list(after["kv"].filled.values())), near["kv"], rtol=0, atol=0, equal_nan=True
    )


def test_a_prompt_in_chunks_gives_what_one_chunk_gives(interpreter: Interpreter) -> None:
    shape = AttentionShape(8, 1, 64, 16, 1e-6, "bf16")
    step = make_step(shape, [36], [0])
    kernels = attention_kernels(shape, 89, splits=4)
    whole = interpreted(interpreter, step, kernels)
    vectors = {name: step.inputs[name] for name in ("q", "k", "v")}
    for begin, end in [(0, 20), (20, 21), (21, 23), (23, 36)]:
        for name, vector in vectors.items():
            step.inputs[name] = vector[begin:end]
        step.inputs["query_start"] = torch.tensor([0, end - begin], dtype=torch.int32)
        step.inputs["context_len"] = torch.tensor([begin], dtype=torch.int32)
        part = interpreted(interpreter, step, kernels)
        torch.testing.assert_close(part["out"], whole["out"][begin:end], rtol=0, atol=2**-7)
        step.inputs["kv"] = part["kv"]
    torch.testing.assert_close(step.inputs["kv"], whole["kv"], rtol=0, atol=0, equal_nan=True)


@pytest.mark.parametrize(
    ("shape", "said"),
    [
        ((6, 4, 64, 16, 1e-6, "fp16"), "multiple of kv_heads, found 6 and 4"),
        ((4, 2, 96, 16, 1e-6, "fp16"), "64 or 128, found 96"),
        ((4, 2, 64, 8, 1e-6, "fp16"), "16 or more, found 8"),
        ((4, 2, 64, 16, 1e-6, "fp32"), "fp16, bf16, found fp32"),
        ((33, 1, 64, 16, 1e-6, "fp16"), "at most 32 query heads share a key head, found 33"),
    ],
    ids=str,
)
def test_shapes_that_no_kernel_has_are_refused(shape: tuple, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        AttentionShape(*shape)
