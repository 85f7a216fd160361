"""Shapes, profiles and staging memory of TensorRT engines: arithmetic on what a plan says of itself."""

from __future__ import annotations

from dataclasses import replace
from math import prod

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qwen3_graphs import interface
from qwen3_graphs.interface import StepInput, StepInterface, StepTensor
from qwen3_runtime import EngineError
from qwen3_runtime.backends.elements import ELEMENTS, step_model
from qwen3_runtime.backends.tensorrt.opened_plan import Tensor
from qwen3_runtime.backends.tensorrt.plan_runner import ALIGNMENT, stage_plan
from qwen3_runtime.backends.tensorrt.signature import (
    Profile,
    check_signature,
    choose_profile,
    read_profiles,
    step_sizes,
)
from qwen3_runtime.manifest import ModelConfig

MODEL = ModelConfig(
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
PADDED = interface.padded_batch(step_model(MODEL), MODEL.max_context)
PACKED = interface.packed(step_model(MODEL))
PREFILL = {"B": (1, 4), "S": (1, 128), "R": (1, 4)}
DECODE = {"B": (1, 4), "S": (1, 1), "R": (1, 4)}


def tensors(declared: StepInterface, *profiles: dict[str, tuple[int, int]]) -> dict[str, Tensor]:
    """What a plan would say that has these profiles."""

    def shape(slot: StepTensor, bounds: dict[str, tuple[int, int]], which: int) -> tuple[int, ...]:
        return tuple(bounds[dim][which] if isinstance(dim, str) else dim for dim in slot.shape)

    return {
        slot.name: Tensor(
            name=slot.name,
            is_input=isinstance(slot, StepInput),
            dtype=ELEMENTS[slot.element].tensorrt_name,
            shape=tuple(-1 if isinstance(dim, str) else dim for dim in slot.shape),
            on_device=True,
            profiles=tuple(
                (shape(slot, bounds, 0), shape(slot, bounds, 1), shape(slot, bounds, 1)) for bounds in profiles
            )
            if isinstance(slot, StepInput)
            else (),
            alias=None,
        )
        for slot in (*declared.inputs, *declared.outputs)
    }


@pytest.mark.parametrize("order", [(PREFILL, DECODE), (DECODE, PREFILL)])
def test_a_step_runs_in_the_narrowest_profile_that_holds_it(order: tuple[dict[str, tuple[int, int]], ...]) -> None:
    profiles = read_profiles(PADDED, tensors(PADDED, *order))
    for sizes, expected in (
        ({"B": 4, "S": 1, "R": 4}, DECODE),
        ({"B": 1, "S": 1, "R": 1}, DECODE),
        ({"B": 4, "S": 2, "R": 4}, PREFILL),
        ({"B": 1, "S": 128, "R": 1}, PREFILL),
    ):
        assert choose_profile(profiles, sizes).index == order.index(expected)


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ({"B": 5, "S": 1, "R": 1}, "a step has 5 sequences, the engine was built for 1 to 4"),
        (
            {"B": 1, "S": 129, "R": 1},
            "a step has 129 tokens in the longest sequence, .* for 1 to 128",
        ),
        ({"B": 1, "S": 2, "R": 0}, "a step has 0 rows of output, the engine was built for 1 to 4"),
    ],
)
def test_a_step_that_no_profile_holds_is_refused_with_the_size(sizes: dict[str, int], message: str) -> None:
    with pytest.raises(EngineError, match=message):
        choose_profile(read_profiles(PADDED, tensors(PADDED, PREFILL, DECODE)), sizes)


def test_a_profile_whose_inputs_disagree_is_refused() -> None:
    found = tensors(PADDED, PREFILL)
    found["query_len"] = replace(found["query_len"], profiles=(((1,), (2,), (3,)),))
    with pytest.raises(EngineError, match="profile 0 allows 1 to 3 sequences for 'query_len', 1 to 4 elsewhere"):
        read_profiles(PADDED, found)
    with pytest.raises(EngineError, match="no optimization profile"):
        read_profiles(PADDED, tensors(PADDED))


@pytest.mark.parametrize("slots", [PADDED, PACKED], ids=["padded", "packed"])
def test_every_difference_from_the_manifest_is_named(slots: StepInterface) -> None:
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
                with pytest.raises(EngineError, match=f"the manifest expects {size} on axis {axis}"):
                    check_signature(slots, {**good, name: replace(tensor, shape=shape)})


def test_sizes_come_from_the_shapes_of_all_inputs() -> None:
    shapes = {"input_ids": (3, 7), "query_len": (3,), "logits_rows": (2,)}
    assert step_sizes(PADDED, shapes, {"B": 3}) == {"B": 3, "S": 7, "R": 2}
    with pytest.raises(EngineError, match="a step has 2 sequences by 'query_len', 3 elsewhere"):
        step_sizes(PADDED, {**shapes, "query_len": (2,)}, {})
    with pytest.raises(EngineError, match="a step has 3 sequences by 'input_ids', 4 elsewhere"):
        step_sizes(PADDED, shapes, {"B": 4})


sizes = st.integers(1, 3000)


@given(st.builds(lambda *most: dict(zip(("B", "S", "R"), most, strict=True)), sizes, sizes, sizes))
def test_staged_inputs_are_aligned_and_apart_and_hold_the_largest_step(most: dict[str, int]) -> None:
    profiles = [Profile(0, {name: (1, size) for name, size in most.items()}), Profile(1, DECODE)]
    regions = stage_plan(PADDED, profiles)
    assert regions.keys() == {"input_ids", "query_len", "context_len", "logits_rows"}
    end = 0
    for name, region in regions.items():
        assert region.offset % ALIGNMENT == 0
        assert region.offset >= end
        end = region.offset + region.size
        slot = next(each for each in PADDED.inputs if each.name == name)
        width = 8 if slot.element == "INT64" else 4
        for profile in profiles:
            assert region.size >= prod(profile.bounds[str(dim)][1] for dim in slot.shape) * width
