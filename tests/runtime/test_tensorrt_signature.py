"""Shapes, profiles and staging memory of TensorRT engines: arithmetic on what a plan says of itself."""

from __future__ import annotations

from dataclasses import replace
from math import prod

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qwen3_runtime import EngineError
from qwen3_runtime.backends.tensorrt.opened_plan import Tensor
from qwen3_runtime.backends.tensorrt.plan_runner import ALIGNMENT, stage_plan
from qwen3_runtime.backends.tensorrt.signature import (
    Profile,
    Slot,
    check_signature,
    choose_profile,
    measure,
    packed_slots,
    padded_slots,
    read_profiles,
)
from qwen3_runtime.manifest import ModelConfig

CONTRACT = ModelConfig(
    task="chat",
    output="logits",
    vocab_size=100,
    tokenizer_vocab_size=99,
    hidden_size=64,
    layers=2,
    kv_heads=2,
    head_dim=32,
    cache_dtype="bfloat16",
    max_context=256,
    max_batch=4,
    max_step_tokens=128,
)
PADDED = padded_slots(CONTRACT)
PREFILL = {"batch": (1, 4), "length": (1, 128), "rows": (1, 4)}
DECODE = {"batch": (1, 4), "length": (1, 1), "rows": (1, 4)}


def tensors(slots: dict[str, Slot], *profiles: dict[str, tuple[int, int]]) -> dict[str, Tensor]:
    """What a plan would say that has these profiles."""

    def shape(slot: Slot, bounds: dict[str, tuple[int, int]], which: int) -> tuple[int, ...]:
        return tuple(bounds[dim][which] if isinstance(dim, str) else dim for dim in slot.shape)

    return {
        name: Tensor(
            name=name,
            is_input=slot.is_input,
            dtype=slot.dtype,
            shape=tuple(-1 if isinstance(dim, str) else dim for dim in slot.shape),
            on_device=True,
            profiles=tuple(
                (shape(slot, bounds, 0), shape(slot, bounds, 1), shape(slot, bounds, 1)) for bounds in profiles
            )
            if slot.is_input
            else (),
            alias=None,
        )
        for name, slot in slots.items()
    }


@pytest.mark.parametrize("order", [(PREFILL, DECODE), (DECODE, PREFILL)])
def test_a_step_runs_in_the_narrowest_profile_that_holds_it(order: tuple[dict[str, tuple[int, int]], ...]) -> None:
    profiles = read_profiles(PADDED, tensors(PADDED, *order))
    for sizes, expected in (
        ({"batch": 4, "length": 1, "rows": 4}, DECODE),
        ({"batch": 1, "length": 1, "rows": 1}, DECODE),
        ({"batch": 4, "length": 2, "rows": 4}, PREFILL),
        ({"batch": 1, "length": 128, "rows": 1}, PREFILL),
    ):
        assert choose_profile(profiles, sizes).index == order.index(expected)


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ({"batch": 5, "length": 1, "rows": 1}, "a step has 5 as its batch, the engine was built for 1 to 4"),
        ({"batch": 1, "length": 129, "rows": 1}, "a step has 129 as its length, the engine was built for 1 to 128"),
        ({"batch": 1, "length": 2, "rows": 0}, "a step has 0 as its rows, the engine was built for 1 to 4"),
    ],
)
def test_a_step_that_no_profile_holds_is_refused_with_the_size(sizes: dict[str, int], message: str) -> None:
    with pytest.raises(EngineError, match=message):
        choose_profile(read_profiles(PADDED, tensors(PADDED, PREFILL, DECODE)), sizes)


def test_a_profile_whose_inputs_disagree_is_refused() -> None:
    found = tensors(PADDED, PREFILL)
    found["query_len"] = replace(found["query_len"], profiles=(((1,), (2,), (3,)),))
    with pytest.raises(EngineError, match="profile 0 allows 1 to 3 for the batch of 'query_len', 1 to 4 elsewhere"):
        read_profiles(PADDED, found)
    with pytest.raises(EngineError, match="no optimisation profile"):
        read_profiles(PADDED, tensors(PADDED))


@pytest.mark.parametrize("slots", [PADDED, packed_slots(CONTRACT)])
def test_every_difference_from_the_manifest_is_named(slots: dict[str, Slot]) -> None:
    good = tensors(slots)
    check_signature(slots, good)
    for name, tensor in good.items():
        for change, words in (
            ({"dtype": "FP8"}, f"element type of {name!r}"),
            ({"is_input": not tensor.is_input}, f"direction of {name!r}"),
            ({"on_device": False}, f"place of {name!r}"),
            ({"shape": (*tensor.shape, 1)}, f"number of dimensions of {name!r}"),
        ):
            with pytest.raises(EngineError) as caught:
                check_signature(slots, {**good, name: replace(tensor, **change)})  # type: ignore[arg-type]
            assert words in str(caught.value)
        with pytest.raises(EngineError, match="the plan has not; build the engine again"):
            check_signature(slots, {other: value for other, value in good.items() if other != name})
        for axis, size in enumerate(tensor.shape):
            if size > 0:
                shape = (*tensor.shape[:axis], size + 1, *tensor.shape[axis + 1 :])
                with pytest.raises(EngineError, match=f"the manifest means {size} on axis {axis}"):
                    check_signature(slots, {**good, name: replace(tensor, shape=shape)})


def test_sizes_come_from_the_shapes_of_all_inputs() -> None:
    shapes = {"input_ids": (3, 7), "query_len": (3,), "logits_rows": (2,)}
    assert measure(PADDED, shapes, {"batch": 3}) == {"batch": 3, "length": 7, "rows": 2}
    with pytest.raises(EngineError, match="a step has 2 as the batch of 'query_len', 3 elsewhere"):
        measure(PADDED, {**shapes, "query_len": (2,)}, {})
    with pytest.raises(EngineError, match="a step has 3 as the batch of 'input_ids', 4 elsewhere"):
        measure(PADDED, shapes, {"batch": 4})


sizes = st.integers(1, 3000)


@given(st.builds(lambda *most: dict(zip(("batch", "length", "rows"), most, strict=True)), sizes, sizes, sizes))
def test_staged_inputs_are_aligned_and_apart_and_hold_the_largest_step(most: dict[str, int]) -> None:
    profiles = [Profile(0, {name: (1, size) for name, size in most.items()}), Profile(1, DECODE)]
    regions = stage_plan(PADDED, profiles)
    assert regions.keys() == {"input_ids", "query_len", "context_len", "logits_rows"}
    end = 0
    for name, region in regions.items():
        assert region.offset % ALIGNMENT == 0
        assert region.offset >= end
        end = region.offset + region.size
        width = 8 if PADDED[name].dtype == "INT64" else 4
        for profile in profiles:
            assert region.size >= prod(profile.bounds[str(dim)][1] for dim in PADDED[name].shape) * width
