"""A mixture of experts as six launches, described without Triton; the `moe_*_device.py` files are what the GPU runs.

T tokens, E = experts, H = hidden_size, I = inner_size. A *slot* is one of the T * top_k pairs (token, rank): slot =
token * top_k + rank. `type` is float16 or bfloat16. One after the other on one stream:

1. `moe_logits`, grid (ceil(T / 16), ceil(E / 16), 1): x @ router.T, accumulated in float32
       inputs   x type [T, H], router type [E, H]
       outputs  logits float32 [T, E]
2. `moe_select`, grid (ceil(T / 4), 1, 1): softmax over all experts; the top_k largest, the lower expert among equals
       inputs   logits
       outputs  choice int32 [T, top_k] (experts, the most probable first), share float32 [T, top_k]
3. `moe_sort`, grid (E, 1, 1): a stable counting sort of the slots by expert
       inputs   choice
       outputs  offsets int32 [E + 1], order int32 [T * top_k]; expert e has slots order[offsets[e] : offsets[e + 1]]
4. `moe_gate_up`, grid (ceil(2 * I / columns), `tile_bound`, 1): silu(x @ gate.T) * (x @ up.T) of each slot
       inputs   x, offsets, order, gate_up, gate_up_scales
       outputs  hidden type [T * top_k, I], rows in the order of `order`
5. `moe_down`, grid (ceil(H / columns), `tile_bound`, 1): hidden @ down.T
       inputs   hidden, offsets, order, down, down_scales
       outputs  answers type [T * top_k, H], rows by slot
6. `moe_combine`, grid (T, ceil(H / 1024), 1): the sum of a token's answers times their shares, in float32
       inputs   answers, share
       outputs  y type [T, H]

Arguments are the inputs, then for 1 to 3 the scalar `tokens` = T (int32), then the outputs. `Kernel.grid` takes
`tokens`, and computes with `+`, `-`, `*`, `<` and `//` alone. Nothing is read back by the host: how tokens spread over
experts decides on the device which programs return at once. There are no atomics, and sums have a fixed order: equal
inputs give equal bytes. What lies between launches (`moe_workspaces`) is never cleared.

The rows of gate come before those of up. `weight_format` says what the weights are:

    fp16, bf16   codes of x's type [E, 2I, H] and [E, H, I]; scales are never read and may be empty
    fp8          E4M3 bytes of the same shapes; scales float32 [E, 2I] and [E, H]
    int4         uint8 [E, 2I, H / 2] and [E, H, I / 2], two's complement, the lower half of a byte the even input;
                 scales `type` [E, 2I, H / group_size] and [E, H, I / group_size]

`tile` sizes the tiles of 4 and 5, and nothing else depends on it: "decode" has 16 slots, for steps in which an expert
gets a few tokens and the work is to read weights; "prefill" has 64.

What the caller owes: T is at least 1, T * H and T * top_k * I are below 2 ** 31, `tile_bound` is below 2 ** 16 (CUDA's
limit of a grid's second size: with 8 of 128 experts, 130 000 tokens in "decode" tiles); all memory is aligned to 16
bytes; E4M3 codes hold no NaN (they would be read as 480). A token whose logits are NaN gets valid experts, and answers
NaN.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

from qwen3_plugins.tensorrt.kernels.kernel import Grid, Kernel, Size, arguments

__all__ = ["GROUP_SIZES", "Experts", "Workspace", "moe_kernels", "moe_workspaces", "tile_bound"]

Tile = Literal["decode", "prefill"]
_ROUTING: Final = "qwen3_plugins.tensorrt.kernels.moe_routing_device"
_EXPERTS: Final = "qwen3_plugins.tensorrt.kernels.moe_experts_device"
# By `weight_format`: how many inputs can share a scale, 0 without groups.
GROUP_SIZES = {"fp16": (0,), "bf16": (0,), "fp8": (0,), "int4": (32, 128)}


@dataclass(frozen=True)
class Experts:
    """The mixture of experts of one layer: all that its kernels are compiled for.

    Attributes:
        experts: E, any number.
        top_k: experts a token is sent to, 1..8 and at most E.
        normalize: whether the shares of a token's experts are scaled to sum to one.
        hidden_size: H, a multiple of 16, and of `group_size` for int4.
        inner_size: I, an expert's width, likewise.
        dtype: of activations, router and answers: "fp16" or "bf16".
        weight_format: "fp16" or "bf16" (then the same as `dtype`), "fp8" or "int4".
        group_size: inputs that share a scale, 32 or 128 for int4; 0 otherwise.
    """

    experts: int
    top_k: int
    normalize: bool
    hidden_size: int
    inner_size: int
    dtype: str
    weight_format: str
    group_size: int = 0

    def __post_init__(self) -> None:
        """Refuse what the kernels do not compute.

        Raises:
            ValueError: an attribute out of the bounds above, by name.
        """
        _refuse_unless(self.dtype in ("fp16", "bf16"), "dtype", "fp16 or bf16", self.dtype)
        _refuse_unless(
            self.weight_format in (self.dtype, "fp8", "int4"),
            "weight_format",
            f"{self.dtype} (the activations' type), fp8 or int4",
            self.weight_format,
        )
        groups = GROUP_SIZES[self.weight_format]
        _refuse_unless(
            self.group_size in groups, f"group_size of {self.weight_format}", f"one of {groups}", self.group_size
        )
        _refuse_unless(1 <= self.top_k <= min(8, self.experts), "top_k", f"1..{min(8, self.experts)}", self.top_k)
        step = self.group_size or 16
        for name, size in (("hidden_size", self.hidden_size), ("inner_size", self.inner_size)):
            _refuse_unless(size > 0 and size % step == 0, name, f"a multiple of {step}", size)


@dataclass(frozen=True)
class Workspace:
    """A buffer between launches: `type` as in `Argument`, `shape` with the number of tokens filled in."""

    name: str
    type: str
    shape: tuple[Size, ...]


def moe_workspaces(moe: Experts, tokens: Size) -> tuple[Workspace, ...]:
    """The buffers that hold what one kernel writes and a later one reads.

    Args:
        moe: the mixture of experts.
        tokens: T, an int or a symbolic size; for the bytes to reserve, the most of a step.
    """
    slots = tokens * moe.top_k
    x = f"*{moe.dtype}"
    return (
        Workspace("logits", "*fp32", (tokens, moe.experts)),
        Workspace("choice", "*i32", (tokens, moe.top_k)),
        Workspace("share", "*fp32", (tokens, moe.top_k)),
        Workspace("offsets", "*i32", (moe.experts + 1,)),
        Workspace("order", "*i32", (slots,)),
        Workspace("hidden", x, (slots, moe.inner_size)),
        Workspace("answers", x, (slots, moe.hidden_size)),
    )


def moe_kernels(moe: Experts, tile: Tile) -> tuple[Kernel, ...]:
    """The six launches in order.

    Args:
        moe: the mixture of experts.
        tile: of the grouped products. Both give the same values up to the order of float32 additions.
    """
    return (*_routing(moe), *_products(moe, tile), _combine(moe))


def tile_bound(moe: Experts, tokens: Size, block_m: int) -> Size:
    """The most tiles of `block_m` slots that T * top_k slots can fill, however they spread over the experts.

    Each expert with slots wastes at most block_m - 1 rows of its last tile, and no more experts have slots than
    there are slots.
    """
    slots = tokens * moe.top_k
    busy = (slots < moe.experts) * (slots - moe.experts) + moe.experts
    return (busy * (block_m - 1) + slots) // block_m


def _routing(moe: Experts) -> tuple[Kernel, ...]:
    x, lanes = f"*{moe.dtype}", _power_of_two(moe.experts)
    block_t, block_e, few = 16, 16, 4

    def logits_grid(*, tokens: Size) -> Grid:
        return (tokens + (block_t - 1)) // block_t, -(-moe.experts // block_e), 1

    def select_grid(*, tokens: Size) -> Grid:
        return (tokens + (few - 1)) // few, 1, 1

    def sort_grid(*, tokens: Size) -> Grid:  # noqa: ARG001 - one program an expert, whatever the step
        return moe.experts, 1, 1

    return (
        Kernel(
            name="moe_logits",
            module=_ROUTING,
            function="moe_logits",
            arguments=arguments({"x": x, "router": x}, ("tokens",), {"logits": "*fp32"}),
            constants={
                "hidden_size": moe.hidden_size,
                "experts": moe.experts,
                "block_t": block_t,
                "block_e": block_e,
                "block_k": 128,
            },
            grid=logits_grid,
            warps=4,
            stages=4,
        ),
        Kernel(
            name="moe_select",
            module=_ROUTING,
            function="moe_select",
            arguments=arguments({"logits": "*fp32"}, ("tokens",), {"choice": "*i32", "share": "*fp32"}),
            constants={
                "experts": moe.experts,
                "top_k": moe.top_k,
                "normalize": moe.normalize,
                "block_t": few,
                "block_e": lanes,
                "ranks": _power_of_two(moe.top_k),
            },
            grid=select_grid,
            warps=4,
            stages=1,
        ),
        Kernel(
            name="moe_sort",
            module=_ROUTING,
            function="moe_sort",
            arguments=arguments({"choice": "*i32"}, ("tokens",), {"offsets": "*i32", "order": "*i32"}),
            constants={"experts": moe.experts, "top_k": moe.top_k, "block": 1024},
            grid=sort_grid,
            warps=4,
            stages=1,
        ),
    )


def _products(moe: Experts, tile: Tile) -> tuple[Kernel, ...]:
    x = f"*{moe.dtype}"
    quantized = moe.weight_format in ("fp8", "int4")
    code = "*u8" if quantized else x
    scale = "*fp32" if moe.weight_format == "fp8" else x
    shape = _tile_shape(moe, tile)
    shared: dict[str, int | float | bool | str] = {
        "experts": moe.experts,
        "expert_lanes": _power_of_two(moe.experts),
        "hidden_size": moe.hidden_size,
        "inner_size": moe.inner_size,
        "weight_format": moe.weight_format if quantized else "plain",
        "group_size": moe.group_size,
        "block_m": shape.rows,
        "block_n": shape.columns,
        "block_k": shape.depth,
    }

    def gate_up_grid(*, tokens: Size) -> Grid:
        return -(-2 * moe.inner_size // shape.columns), tile_bound(moe, tokens, shape.rows), 1

    def down_grid(*, tokens: Size) -> Grid:
        return -(-moe.hidden_size // shape.columns), tile_bound(moe, tokens, shape.rows), 1

    order = {"offsets": "*i32", "order": "*i32"}
    return (
        Kernel(
            name="moe_gate_up",
            module=_EXPERTS,
            function="moe_gate_up",
            arguments=arguments({"x": x, **order, "gate_up": code, "gate_up_scales": scale}, (), {"hidden": x}),
            constants={**shared, "top_k": moe.top_k},
            grid=gate_up_grid,
            warps=shape.warps,
            stages=shape.stages,
        ),
        Kernel(
            name="moe_down",
            module=_EXPERTS,
            function="moe_down",
            arguments=arguments({"hidden": x, **order, "down": code, "down_scales": scale}, (), {"answers": x}),
            constants=shared,
            grid=down_grid,
            warps=shape.warps,
            stages=shape.stages,
        ),
    )


@dataclass(frozen=True)
class _TileShape:
    """What one program multiplies at a time: `rows` slots with `columns` outputs, `depth` inputs a step."""

    rows: int
    columns: int
    depth: int
    warps: int
    stages: int


def _tile_shape(moe: Experts, tile: Tile) -> _TileShape:
    # Decoding waits for memory: the stages keep 7 to 24 KB of weights a program on their way. Prompts wait for
    # arithmetic: a step of four-bit weights is short, so that two programs share a multiprocessor's registers.
    four = moe.weight_format == "int4"
    if tile == "decode":
        depth = {"fp8": 128, "int4": moe.group_size}.get(moe.weight_format, 64)
        return _TileShape(rows=16, columns=64, depth=depth, warps=4, stages=8 if moe.group_size == 32 else 4)
    return _TileShape(rows=64, columns=128, depth=32 if four else 64, warps=8, stages=5 if four else 3)


def _combine(moe: Experts) -> Kernel:
    x, block = f"*{moe.dtype}", 1024

    def grid(*, tokens: Size) -> Grid:
        return tokens, -(-moe.hidden_size // block), 1

    return Kernel(
        name="moe_combine",
        module=_EXPERTS,
        function="moe_combine",
        arguments=arguments({"answers": x, "share": "*fp32"}, (), {"y": x}),
        constants={"top_k": moe.top_k, "hidden_size": moe.hidden_size, "block": block},
        grid=grid,
        warps=4,
        stages=1,
    )


def _power_of_two(size: int) -> int:
    return 1 << (size - 1).bit_length()


def _refuse_unless(holds: bool, name: str, expected: str, found: object) -> None:
    if not holds:
        raise ValueError(f"mixture of experts: {name} must be {expected}, not {found}")
