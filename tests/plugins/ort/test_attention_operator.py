"""qwen3::Attention through ONNX Runtime sessions: the cache is the caller's memory, and what is refused.

Reference: float64 NumPy
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from onnxruntime.capi.onnxruntime_pybind11_state import InvalidArgument, RuntimeException
from operator_session import open_session, run_operator
from paged_attention import TOLERANCE, Step, make_step, new_keys_and_values, reference, slot_of


def inputs_of(step: Step) -> dict[str, np.ndarray | None]:
    names = ["qkv", "q_norm", "k_norm", "cos", "sin", "kv", "kv_scales", "query_start", "context_len", "block_table"]
    return {name: getattr(step, name) for name in names}


def attributes_of(step: Step) -> dict[str, object]:
    _, _, kv_heads, _, head_dim = step.kv.shape
    return {"num_heads": step.heads, "kv_num_heads": kv_heads, "head_dim": head_dim, "epsilon": step.epsilon}


def small(**changes: object) -> Step:
    return make_step(
        0,
        **{"heads": 4, "kv_heads": 2, "head_dim": 32, "block": 8, "new": [3, 1, 70], "context": [5, 40, 0], **changes},
    )


@pytest.mark.parametrize("int8", [False, True], ids=["fp16", "int8"])
def test_a_ragged_step_in_a_session(int8: bool) -> None:
    step = small(int8=int8)
    (out,) = run_operator("Attention", inputs_of(step), ["out"], **attributes_of(step))
    np.testing.assert_allclose(out, reference(step), rtol=0, atol=TOLERANCE[int8])


def anonymous_bytes() -> int:
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("RssAnon"))
    return int(line.split()[1]) * 1024


def test_the_bound_cache_is_written_in_place_and_never_copied() -> None:
    step = small()
    shape = (100_000, *step.kv.shape[1:])
    cache = np.empty(shape, np.float16)  # 205 MB that nobody has touched: a copy would
    cache[: len(step.kv)] = step.kv
    step.kv = cache
    session = open_session("Attention", inputs_of(step), ["out"], **attributes_of(step))
    binding = session.io_binding()
    for name, value in inputs_of(step).items():
        if value is not None:
            binding.bind_input(name, "cpu", 0, value.dtype, value.shape, value.ctypes.data)
    binding.bind_output("out", "cpu")
    before = anonymous_bytes()
    session.run_with_iobinding(binding)
    assert anonymous_bytes() - before < 32 << 20
    for (sequence, position), values in new_keys_and_values(step).items():
        block, slot = slot_of(step, sequence, position)
        np.testing.assert_allclose(cache[block, :, :, slot], values, rtol=6e-4, atol=1e-6)
    np.testing.assert_allclose(binding.get_outputs()[0].numpy(), reference(step), rtol=0, atol=2e-5)


def test_decoding_step_by_step_gives_what_the_whole_prompt_gives() -> None:
    whole, parts = (small(new=[30], context=[0]) for _ in range(2))
    (expected,) = run_operator("Attention", inputs_of(whole), ["out"], **attributes_of(whole))
    session = open_session("Attention", inputs_of(parts), ["out"], **attributes_of(parts))
    for i in range(30):
        feeds = {name: value for name, value in inputs_of(parts).items() if value is not None}
        feeds["qkv"] = parts.qkv[i : i + 1]
        feeds["query_start"], feeds["context_len"] = np.array([0, 1], np.int32), np.array([i], np.int32)
        (out,) = session.run(None, feeds)
        np.testing.assert_allclose(out, expected[i : i + 1], rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("kv", np.zeros((9, 2, 2, 8, 32), np.float32), "kv is float32"),
        ("kv", np.zeros((9, 2, 1, 8, 32), np.float16), "kv is float16 [9, 2, 1, 8, 32]"),
        ("kv", np.zeros((9, 2, 2, 0, 32), np.float16), "the number of tokens in a cache block is 0, expected 1"),
        ("kv", np.zeros((9, 2, 2, 8, 32), np.int8), "kv_scales is missing"),
        ("qkv", np.zeros((74, 255), np.float32), "qkv is float32 [74, 255]"),
        ("qkv", np.zeros((73, 256), np.float32), "query_start ends with 74"),
        ("sin", np.zeros((3, 16), np.float32), "sin is float32 [3, 16]"),
        ("q_norm", np.zeros(31, np.float32), "q_norm is float32 [31]"),
        ("query_start", np.array([0, 3, 4], np.int32), "query_start is int32 [3]"),
        ("query_start", np.array([0, 4, 3, 74], np.int32), "query_start falls from 4 to 3"),
        ("context_len", np.array([5, -40, 0], np.int32), "context_len of sequence 1 is -40"),
        ("block_table", np.full((3, 9), 10**6, np.int32), "names block 1000000"),
        ("block_table", np.zeros((3, 9), np.int32), "cache block 0 "),
    ],
)
def test_bad_inputs_are_refused(name: str, value: np.ndarray, reason: str) -> None:
    step = small()
    setattr(step, name, value)
    before = step.kv.copy()
    with pytest.raises(InvalidArgument, match="qwen3::Attention") as caught:
        run_operator("Attention", inputs_of(step), ["out"], **attributes_of(small()))
    assert reason in str(caught.value)
    np.testing.assert_array_equal(step.kv, before)


@pytest.mark.parametrize(
    ("attributes", "reason"),
    [
        ({"head_dim": 31}, "head_dim is 31, expected an even number"),
        ({"num_heads": 5}, "num_heads 5 is not a multiple of kv_num_heads 2"),
        ({"kv_num_heads": 0}, "kv_num_heads is 0, expected 1 to 4096"),
    ],
)
def test_bad_attributes_are_refused(attributes: dict[str, int], reason: str) -> None:
    step = small()
    with pytest.raises(RuntimeException) as caught:
        open_session("Attention", inputs_of(step), ["out"], **{**attributes_of(step), **attributes})
    assert reason in str(caught.value)
