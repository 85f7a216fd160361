"""The kernels of a mixture of experts, interpreted, against the eager model in float64.

Covers: with their inline PTX: routing, ties, sorting, grouped products; fp16, bf16, fp8 and int4 weights, groups of
    32 and 128, 1 to 160 experts, experts without tokens, tokens that are NaN; every FP8 and four-bit code bit for
    bit
Reference: the eager model in float64; PyTorch's E4M3
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from interpreted import Sparse, launch
from moe_steps import check, make_step, run

from qwen3_plugins.tensorrt.kernels.moe import Experts, moe_kernels

if TYPE_CHECKING:
    from interpreted import Interpreter

FORMATS = [("fp16", "fp16", 0), ("bf16", "bf16", 0), ("fp16", "fp8", 0), ("bf16", "fp8", 0), ("fp16", "int4", 32),
           ("bf16", "int4", 32), ("fp16", "int4", 128), ("bf16", "int4", 128)]  # fmt: skip


def kernel_of(moe: Experts, name: str, tile: str = "decode"):
    return next(kernel for kernel in moe_kernels(moe, tile) if kernel.name == name)


@pytest.mark.parametrize(("dtype", "weights", "group"), FORMATS)
@pytest.mark.parametrize(("tile", "tokens"), [("decode", 3), ("prefill", 41)])
def test_answers_are_the_eager_models(interpreter, dtype, weights, group, tile, tokens) -> None:
    # Neither 6 experts, nor 160 or 256 inputs, nor the rows of a tile divide evenly.
    inner = 256 if group == 128 else 96
    moe = Experts(6, 2, True, 384 if group == 128 else 160, inner, dtype, weights, group)
    check(interpreter, make_step(moe, tokens), tile)


@pytest.mark.parametrize(
    ("experts", "top_k", "normalize", "hidden", "inner", "tokens", "tile"),
    [
        (1, 1, False, 16, 16, 1, "decode"),
        (1, 1, True, 48, 80, 20, "decode"),
        (3, 3, False, 80, 16, 17, "decode"),
        (8, 8, True, 16, 112, 2, "prefill"),
        (5, 4, True, 112, 48, 33, "prefill"),
        (7, 5, False, 32, 32, 16, "decode"),
        (128, 8, True, 64, 32, 1, "decode"),
        (160, 8, True, 32, 48, 3, "decode"),
        (20, 6, False, 144, 208, 2, "prefill"),
        (1, 1, True, 16, 32, 64, "prefill"),
        (2, 1, True, 16, 16, 129, "prefill"),
    ],
)
def test_any_number_of_experts_ranks_and_tokens(
    interpreter, experts, top_k, normalize, hidden, inner, tokens, tile
) -> None:
    check(interpreter, make_step(Experts(experts, top_k, normalize, hidden, inner, "fp16", "fp16"), tokens), tile)


def test_the_widths_of_a_released_model(interpreter) -> None:
    """Hidden and inner width of Qwen3-30B-A3B, fewer experts."""
    check(interpreter, make_step(Experts(2, 1, True, 2048, 768, "bf16", "int4", 128), 1), "decode")


@pytest.mark.parametrize("tile", ["decode", "prefill"])
def test_all_tokens_may_choose_the_same_experts(interpreter, tile) -> None:
    step = make_step(Experts(9, 2, True, 64, 32, "fp16", "fp8"), 70)
    router = step.router.clone()
    router[4], router[7] = step.x.float().mean(0).half() * 50, 0
    tokens = (step.x.abs() + 0.1).half()
    router[4], router[7] = 2.0, 1.0
    after = check(interpreter, replace(step, x=tokens, router=router), tile)
    assert set(after["choice"].flatten().tolist()) == {4, 7}


@pytest.mark.parametrize(("dtype", "weights", "group"), [("bf16", "bf16", 0), ("fp16", "int4", 32)])
def test_weights_of_experts_without_tokens_are_not_read(interpreter, dtype, weights, group) -> None:
    step = make_step(Experts(12, 2, True, 64, 32, dtype, weights, group), 2)
    chosen = set(run(interpreter, step, "decode")["choice"].flatten().tolist())
    idle = [expert for expert in range(12) if expert not in chosen]
    for matrices in (step.gate_up, step.down):
        (matrices.scales if group else matrices.codes)[idle] = float("nan")
        matrices.values[idle] = float("nan")
    check(interpreter, step, "decode")


def test_a_token_that_is_nan_spoils_no_other(interpreter) -> None:
    step = make_step(Experts(6, 2, True, 64, 32, "fp16", "fp16"), 5)
    clean = run(interpreter, step, "decode")["y"]
    step.x[3, 7] = float("nan")
    after = run(interpreter, step, "decode")
    assert after["y"][3].isnan().all()
    assert int(after["choice"].min()) >= 0
    assert int(after["choice"].max()) < 6
    others = [0, 1, 2, 4]
    torch.testing.assert_close(after["y"][others], clean[others], rtol=0, atol=0)


@pytest.mark.parametrize(
    ("experts", "top_k", "normalize"), [(10, 3, True), (128, 8, False), (160, 8, True), (2, 1, False)]
)
def test_the_lower_expert_wins_among_equals(interpreter: Interpreter, experts, top_k, normalize) -> None:
    random = np.random.default_rng(0)
    logits = random.integers(-3, 4, (11, experts)).astype(np.float32)
    logits[5] = 0
    kernel = kernel_of(Experts(experts, top_k, normalize, 16, 16, "fp16", "fp16"), "moe_select")
    values = {
        "logits": torch.from_numpy(logits),
        "tokens": 11,
        "choice": torch.full((11, top_k), -1, dtype=torch.int32),
        "share": torch.full((11, top_k), float("nan")),
    }
    after = interpreter.run([launch(kernel, tokens=11)], values)
    expected = np.argsort(-logits, axis=1, kind="stable")[:, :top_k]
    probability = np.exp(logits.astype(np.float64))
    probability /= probability.sum(axis=1, keepdims=True)
    share = np.take_along_axis(probability, expected, axis=1)
    if normalize:
        share /= share.sum(axis=1, keepdims=True)
    np.testing.assert_array_equal(after["choice"].numpy(), expected)
    np.testing.assert_allclose(after["share"].numpy(), share, rtol=1e-6)


@pytest.mark.parametrize(
    ("experts", "top_k", "tokens", "used"),
    [(6, 2, 3, 6), (5, 8, 300, 5), (4, 1, 1024, 4), (13, 3, 700, 1), (3, 1, 1, 3), (130, 7, 5, 130)],
)
def test_slots_are_sorted_by_expert_and_stay_in_order(interpreter: Interpreter, experts, top_k, tokens, used) -> None:
    random = np.random.default_rng(experts)
    choice = (random.integers(0, used, (tokens, top_k)) + (experts - used) // 2).astype(np.int32)
    kernel = kernel_of(Experts(max(experts, top_k), top_k, True, 16, 16, "fp16", "fp16"), "moe_sort")
    experts = max(experts, top_k)
    values = {
        "choice": torch.from_numpy(choice),
        "tokens": tokens,
        "offsets": torch.full((experts + 1,), -1, dtype=torch.int32),
        "order": torch.full((tokens * top_k,), -1, dtype=torch.int32),
    }
    after = interpreter.run([launch(kernel, tokens=tokens)], values)
    flat = choice.ravel()
    np.testing.assert_array_equal(after["order"].numpy(), np.argsort(flat, kind="stable"))
    np.testing.assert_array_equal(after["offsets"].numpy(), np.searchsorted(np.sort(flat), np.arange(experts + 1)))


@pytest.mark.parametrize(("weights", "group", "experts"), [("fp16", 0, 2049), ("fp8", 0, 2049), ("int4", 128, 4097)])
def test_codes_of_the_last_expert_may_lie_beyond_two_to_the_31_elements(
    interpreter: Interpreter, weights, group, experts
) -> None:
    moe = Experts(experts, 1, True, 1024, 1024, "fp16", weights, group)
    last = make_step(replace(moe, experts=1), 1).down
    scales = last.scales.new_zeros(0)
    if weights != "fp16":
        scales = torch.cat([torch.full((experts - 1, *last.scales.shape[1:]), float("nan")), last.scales])
    hidden = torch.randn(1, 1024, generator=torch.Generator().manual_seed(0)).half()
    values = {
        "hidden": hidden,
        "offsets": torch.tensor([0] * experts + [1], dtype=torch.int32),
        "order": torch.zeros(1, dtype=torch.int32),
        "down": Sparse((experts, *last.codes.shape[1:]), {experts - 1: last.codes[0]}),
        "down_scales": scales.to(last.scales.dtype),
        "answers": torch.full((1, 1024), float("nan")).half(),
    }
    after = interpreter.run([launch(kernel_of(moe, "moe_down"), tokens=1)], values)
    expected = hidden.double() @ last.values[0].T
    torch.testing.assert_close(after["answers"].double(), expected, rtol=0, atol=2e-3 * expected.abs().max().item())


@pytest.mark.parametrize("dtype", ["fp16", "bf16"])
def test_every_e4m3_value_is_decoded_exactly(interpreter: Interpreter, dtype) -> None:
    codes = torch.tensor([code for code in range(256) if code & 0x7F != 0x7F] + [0, 0], dtype=torch.uint8)
    moe = Experts(1, 1, True, 16, 256, dtype, "fp8")
    _assert_decoded(interpreter, moe, codes.repeat(16, 1), torch.ones(16), codes.view(torch.float8_e4m3fn).double())


@pytest.mark.parametrize(("dtype", "group"), [("fp16", 32), ("bf16", 128)])
def test_every_four_bit_value_is_decoded_exactly(interpreter: Interpreter, dtype, group) -> None:
    values = torch.arange(128) % 16 - 8
    nibbles = (values & 15).to(torch.uint8)
    moe = Experts(1, 1, True, 128, 128, dtype, "int4", group)
    kind = torch.float16 if dtype == "fp16" else torch.bfloat16
    scales = torch.ones(128, 128 // group, dtype=kind)
    packed = nibbles[0::2] | nibbles[1::2] << 4
    _assert_decoded(interpreter, moe, packed.repeat(128, 1), scales, values.double())


def _assert_decoded(interpreter: Interpreter, moe: Experts, codes, scales, expected) -> None:
    """Multiply unit vectors with a matrix of equal rows: the answers are the columns' values."""
    kind = torch.float16 if moe.dtype == "fp16" else torch.bfloat16
    inner = moe.inner_size
    values = {
        "hidden": torch.eye(inner, dtype=kind),
        "offsets": torch.tensor([0, inner], dtype=torch.int32),
        "order": torch.arange(inner, dtype=torch.int32),
        "down": codes[None].contiguous(),
        "down_scales": scales[None].contiguous(),
        "answers": torch.full((inner, moe.hidden_size), float("nan"), dtype=kind),
    }
    after = interpreter.run([launch(kernel_of(moe, "moe_down"), tokens=inner)], values)
    torch.testing.assert_close(after["answers"].double(), expected[:, None].expand(-1, moe.hidden_size), rtol=0, atol=0)
