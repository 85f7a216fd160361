"""Attention kernels against float64 numpy, for every instruction set that this machine has.

Covers: scalar, AVX2 and AVX-512; float16 and int8 caches
Reference: float64 NumPy
"""

from __future__ import annotations

import copy

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from paged_attention import (
    TOLERANCE,
    Step,
    available_instructions,
    make_step,
    new_keys_and_values,
    reference,
    run,
    slot_of,
)

every_instruction_set = pytest.mark.parametrize("instructions", available_instructions())


def check(step: Step, instructions: str, threads: int) -> None:
    """The step's output, the tokens that it appended, and that nothing else of the cache has changed."""
    before, before_scales = step.kv.copy(), None if step.kv_scales is None else step.kv_scales.copy()
    out = run(step, instructions, threads)
    int8 = step.kv_scales is not None
    tolerance = TOLERANCE[int8 and instructions != "scalar"]
    np.testing.assert_allclose(out, reference(step), rtol=0, atol=tolerance)
    untouched = np.ones(step.kv.shape[:4], bool)
    for (sequence, position), values in new_keys_and_values(step).items():
        block, slot = slot_of(step, sequence, position)
        untouched[block, :, :, slot] = False
        stored = step.kv[block, :, :, slot].astype(np.float64)
        if int8:
            scale = step.kv_scales[block, :, :, slot]
            largest = np.abs(values).max(-1)
            np.testing.assert_allclose(scale, largest / 127, rtol=1e-5)
            assert (np.abs(stored * scale[..., None] - values) <= largest[..., None] / 253).all()
        else:
            np.testing.assert_allclose(stored, values, rtol=6e-4, atol=1e-6)
    np.testing.assert_array_equal(step.kv[untouched], before[untouched])
    if int8:
        np.testing.assert_array_equal(step.kv_scales[untouched], before_scales[untouched])


steps = st.fixed_dictionaries(
    {
        "kv_heads": st.integers(1, 3),
        "group": st.integers(1, 8),
        "head_dim": st.sampled_from([2, 6, 8, 24, 32, 40, 48, 64, 80, 96, 112, 128]),
        "block": st.integers(1, 64),
        "sequences": st.lists(
            st.tuples(st.one_of(st.integers(0, 3), st.integers(4, 90)), st.one_of(st.just(0), st.integers(0, 150))),
            min_size=1,
            max_size=5,
        ),
        "int8": st.booleans(),
        "seed": st.integers(0, 2**32 - 1),
        "threads": st.integers(1, 3),
    }
)


@every_instruction_set
@settings(max_examples=60, deadline=None)
@given(case=steps)
def test_ragged_steps_match_float64(instructions: str, case: dict) -> None:
    new, context = (list(column) for column in zip(*case["sequences"], strict=True))
    step = make_step(
        case["seed"],
        heads=case["kv_heads"] * case["group"],
        kv_heads=case["kv_heads"],
        head_dim=case["head_dim"],
        block=case["block"],
        new=new,
        context=context,
        int8=case["int8"],
    )
    check(step, instructions, case["threads"])


@every_instruction_set
@pytest.mark.parametrize("int8", [False, True], ids=["fp16", "int8"])
@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize(
    ("new", "context"),
    [([1], [3000]), ([3], [2047]), ([1, 1], [2500, 700]), ([24, 1], [1500, 0]), ([160], [420]), ([0, 1], [50, 1024])],
    ids=str,
)
def test_long_contexts_match_float64(instructions: str, int8: bool, threads: int, new: list, context: list) -> None:
    check(
        make_step(1, heads=4, kv_heads=2, head_dim=128, block=16, new=new, context=context, int8=int8),
        instructions,
        threads,
    )


@every_instruction_set
@pytest.mark.parametrize("int8", [False, True], ids=["fp16", "int8"])
@pytest.mark.parametrize("group", [3, 4, 5, 7, 8])
def test_groups_of_query_heads_share_each_key(instructions: str, int8: bool, group: int) -> None:
    step = make_step(8, heads=2 * group, kv_heads=2, head_dim=112, block=16, new=[1, 1], context=[700, 33], int8=int8)
    check(step, instructions, 2)


@every_instruction_set
def test_the_widest_heads_do_not_overflow_an_int8_cache(instructions: str) -> None:
    step = make_step(9, heads=2, kv_heads=1, head_dim=1024, block=16, new=[1], context=[40], int8=True)
    step.kv[...] = 127
    step.kv_scales[...] = 1e-3
    step.qkv[...] = 1
    step.q_norm[...] = step.cos[...] = 1
    step.sin[...] = 0
    check(step, instructions, 1)


@every_instruction_set
@pytest.mark.parametrize("int8", [False, True], ids=["fp16", "int8"])
def test_a_query_that_is_not_a_number_gives_none(instructions: str, int8: bool) -> None:
    step = make_step(10, heads=2, kv_heads=1, head_dim=32, block=8, new=[1, 1], context=[10, 30], int8=int8)
    step.qkv[0, 5] = np.nan  # of the first query head
    out = run(step, instructions)
    assert np.isnan(out[0, :32]).all()
    assert np.isfinite(out[0, 32:]).all()
    np.testing.assert_allclose(out[1], reference(step)[1], rtol=0, atol=TOLERANCE[int8])


@every_instruction_set
@pytest.mark.parametrize("int8", [False, True], ids=["fp16", "int8"])
@pytest.mark.parametrize("place", [2 * 32, 3 * 32], ids=["key", "value"])
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_key_or_value_that_is_not_finite_shows(instructions: str, int8: bool, place: int, bad: float) -> None:
    step = make_step(11, heads=2, kv_heads=1, head_dim=32, block=8, new=[1, 1], context=[10, 30], int8=int8)
    whole = run(copy.deepcopy(step), instructions)
    step.qkv[0, place + 5] = bad
    out = run(step, instructions)
    assert not np.isfinite(out[0]).all()
    np.testing.assert_array_equal(out[1], whole[1])


@every_instruction_set
def test_sixteen_query_heads_share_a_key_head(instructions: str) -> None:
    check(make_step(2, heads=16, kv_heads=1, head_dim=64, block=32, new=[1, 40], context=[600, 9]), instructions, 2)


@every_instruction_set
@pytest.mark.parametrize("block", [16, 24, 100])
@pytest.mark.parametrize("threads", [1, 3])
def test_many_key_heads_are_shared_out_among_threads(instructions: str, threads: int, block: int) -> None:
    step = make_step(7, heads=14, kv_heads=7, head_dim=32, block=block, new=[1, 2, 1, 6], context=[900, 130, 0, 1100])
    check(step, instructions, threads)


@every_instruction_set
def test_a_prompt_in_chunks_gives_what_one_chunk_gives(instructions: str) -> None:
    whole = make_step(3, heads=4, kv_heads=2, head_dim=64, block=16, new=[200], context=[0])
    parts = copy.deepcopy(whole)
    expected = run(whole, instructions, 2)
    for begin, end in [(0, 70), (70, 71), (71, 79), (79, 200)]:
        chunk = copy.copy(parts)
        chunk.qkv = parts.qkv[begin:end]
        chunk.query_start = np.array([0, end - begin], np.int32)
        chunk.context_len = np.array([begin], np.int32)
        np.testing.assert_allclose(run(chunk, instructions, 2), expected[begin:end], rtol=0, atol=1e-5)
    np.testing.assert_array_equal(parts.kv, whole.kv)


@every_instruction_set
def test_large_scores_do_not_overflow(instructions: str) -> None:
    step = make_step(4, heads=2, kv_heads=1, head_dim=32, block=8, new=[1, 20], context=[40, 0])
    step.q_norm *= 60
    out = run(step, instructions)
    np.testing.assert_allclose(out, reference(step), rtol=0, atol=2e-3)  # scores of hundreds in float32


@every_instruction_set
def test_threads_do_not_change_the_result_of_a_prompt(instructions: str) -> None:
    outs = [
        run(make_step(5, heads=8, kv_heads=2, head_dim=64, block=16, new=[150, 3], context=[0, 20]), instructions, n)
        for n in (1, 2, 3)
    ]
    np.testing.assert_array_equal(outs[0], outs[1])
    np.testing.assert_array_equal(outs[0], outs[2])


@every_instruction_set
@pytest.mark.parametrize("new", [1, 20])
def test_a_token_that_is_not_a_number_stays_in_its_own_sequence(instructions: str, new: int) -> None:
    step = make_step(6, heads=2, kv_heads=1, head_dim=32, block=8, new=[new, new], context=[10, 30])
    step.qkv[new - 1] = np.nan
    out = run(step, instructions, 2)
    assert np.isnan(out[new - 1]).all()
    np.testing.assert_allclose(out[new:], reference(step)[new:], rtol=0, atol=2e-5)
