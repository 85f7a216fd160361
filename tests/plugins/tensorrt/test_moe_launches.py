"""Launches of a mixture of experts: grids, workspaces, and what is refused."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qwen3_plugins.tensorrt.kernels.moe import Experts, moe_kernels, moe_workspaces, tile_bound

RELEASED = Experts(128, 8, True, 2048, 768, "bf16", "int4", 128)


@dataclass(frozen=True)
class Symbol:
    """A size that TensorRT knows later: only what its shape expressions can do, the symbol on the left."""

    value: int

    def __add__(self, other: Symbol | int) -> Symbol:
        return Symbol(self.value + _int(other))

    def __sub__(self, other: Symbol | int) -> Symbol:
        return Symbol(self.value - _int(other))

    def __mul__(self, other: Symbol | int) -> Symbol:
        return Symbol(self.value * _int(other))

    def __floordiv__(self, other: Symbol | int) -> Symbol:
        return Symbol(self.value // _int(other))

    def __lt__(self, other: Symbol | int) -> Symbol:
        return Symbol(int(self.value < _int(other)))

    def __bool__(self) -> bool:
        raise TypeError("the value is not known yet")


def _int(size: Symbol | int) -> int:
    return size.value if isinstance(size, Symbol) else size


@given(st.lists(st.integers(0, 40), min_size=1, max_size=20), st.sampled_from([1, 3, 16, 64]))
def test_tiles_never_exceed_their_bound(counts: list[int], rows: int) -> None:
    moe = Experts(len(counts), 1, True, 16, 16, "fp16", "fp16")
    tiles = sum(-(-count // rows) for count in counts)
    assert tiles <= tile_bound(moe, sum(counts), rows)


@given(st.integers(1, 20), st.integers(1, 200), st.sampled_from([1, 3, 16, 64]))
def test_the_bound_is_reached(experts: int, slots: int, rows: int) -> None:
    busy = min(experts, slots)
    spare = (slots - busy) // rows
    counts = [1 + rows * spare] + [1] * (busy - 1)
    tiles = sum(-(-count // rows) for count in counts)
    assert tile_bound(Experts(experts, 1, True, 16, 16, "fp16", "fp16"), slots, rows) == tiles


@pytest.mark.parametrize("tile", ["decode", "prefill"])
@given(tokens=st.integers(1, 70_000))
def test_grids_follow_from_symbolic_sizes(tile: str, tokens: int) -> None:
    for kernel in moe_kernels(RELEASED, tile):
        grid = kernel.grid(tokens=tokens)
        assert tuple(_int(size) for size in kernel.grid(tokens=Symbol(tokens))) == grid
        assert all(1 <= size < 2**31 for size in grid[:1])
        assert all(1 <= size <= 65535 for size in grid[1:])


def test_one_token_starts_one_tile_for_each_chosen_expert() -> None:
    grids = {kernel.name: kernel.grid(tokens=1) for kernel in moe_kernels(RELEASED, "decode")}
    assert grids["moe_gate_up"] == (24, 8, 1)
    assert grids["moe_down"] == (32, 8, 1)


def test_every_input_is_given_or_made_by_an_earlier_launch() -> None:
    known = {"x", "router", "gate_up", "gate_up_scales", "down", "down_scales"}
    for kernel in moe_kernels(RELEASED, "decode"):
        assert set(kernel.of_role("input")) <= known
        known |= set(kernel.of_role("output"))
    assert known - {space.name for space in moe_workspaces(RELEASED, 1)} == {
        "x", "router", "gate_up", "gate_up_scales", "down", "down_scales", "y"
    }  # fmt: skip


def test_workspaces_of_a_step() -> None:
    shapes = {space.name: (space.type, space.shape) for space in moe_workspaces(RELEASED, 5)}
    assert shapes == {
        "logits": ("*fp32", (5, 128)),
        "choice": ("*i32", (5, 8)),
        "share": ("*fp32", (5, 8)),
        "offsets": ("*i32", (129,)),
        "order": ("*i32", (40,)),
        "hidden": ("*bf16", (40, 768)),
        "answers": ("*bf16", (40, 2048)),
    }


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"dtype": "fp32"}, "dtype must be fp16 or bf16, not fp32"),
        ({"weight_format": "fp16", "group_size": 0}, "weight_format must be bf16 .*, not fp16"),
        ({"weight_format": "int8"}, "weight_format must be .* fp8 or int4, not int8"),
        ({"group_size": 64}, r"group_size of int4 must be one of \(32, 128\), not 64"),
        ({"weight_format": "fp8"}, r"group_size of fp8 must be one of \(0,\), not 128"),
        ({"top_k": 9}, r"top_k must be 1\.\.8, not 9"),
        ({"experts": 4}, r"top_k must be 1\.\.4, not 8"),
        ({"hidden_size": 2080}, "hidden_size must be a multiple of 128, not 2080"),
        ({"weight_format": "bf16", "group_size": 0, "inner_size": 760}, "inner_size must be a multiple of 16, not 760"),
    ],
)
def test_what_the_kernels_do_not_compute_is_refused(change: dict, message: str) -> None:
    fields = {**RELEASED.__dict__, **change}
    with pytest.raises(ValueError, match=message):
        Experts(**fields)
