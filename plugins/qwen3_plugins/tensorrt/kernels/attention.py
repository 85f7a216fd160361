"""Launches of QK-norm, RoPE, append to the cache and causal grouped-query attention over a paged, ragged batch.

Three kernels, one after the other on one stream, compute what `qwen3::Attention` means (docs/architecture.md). T tokens
of B sequences; W is the width of the block table; N = heads, K = kv_heads, D = head_dim; `type` is float16 or bfloat16.

1. `attention_append`, grid (T, K, 1)
       inputs   q type [T, N*D], k type [T, K*D], v type [T, K*D], q_norm type [D], k_norm type [D],
                cos float32 [P, D/2], sin float32 [P, D/2], kv type [blocks, 2, K, block_size, D],
                query_start int32 [B+1], context_len int32 [B], block_table int32 [B, W]
       scalars  batch = B, table_width = W
       outputs  rotated type [T, N*D] (a workspace), kv_out (must be the memory of kv)
2. `attention_split`, grid (splits, K, B): the short sequences, whose new tokens * N / K are at most `rows`
       inputs   rotated, kv (after 1), query_start, context_len, block_table
       scalars  batch, table_width
       outputs  partial float32 [B, K, splits, rows, D], lse float32 [B, K, splits, rows] (workspaces, never cleared)
3. `attention_attend`, grid (T // tokens + B, K, 1), tokens = tile_rows // (N / K): the long sequences, and the merge of
   what 2 computed
       inputs   rotated, kv (after 1), query_start, context_len, block_table, partial, lse
       scalars  batch, table_width
       outputs  out type [T, N*D]

A kernel's arguments are the inputs, the scalars (int32) and the outputs in this order; `Kernel.grid` takes `tokens` and
`batch`. Grids are upper bounds: programs without work end at once, so nothing about the lengths has to be known on the
host. T may exceed query_start[B] (a step padded to a captured size): rows beyond it are neither read nor written.

What the caller owes: T and B at least 1; query_start starts at 0 and never falls; the tokens of a sequence fit its
cache blocks and the position tables; `out` and `partial` have fewer than 2**31 elements; all memory is aligned to 16
bytes. Entries of block_table after the last block that a sequence needs are never used. Arithmetic is in float32, but
the matrix products' inputs are of `type`.

Launches of `attention_attend` have more than 48 KiB of shared memory, which CUDA grants to functions with the attribute
`CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES` only; kernels made `small` need no such attribute.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from qwen3_plugins.tensorrt.kernels.kernel import Grid, Kernel, Size, arguments

HEAD_DIMS = (64, 128)
_APPEND = "qwen3_plugins.tensorrt.kernels.attention_append_device"
_DEVICE = "qwen3_plugins.tensorrt.kernels.attention_device"
_TYPES = ("fp16", "bf16")
_SPLIT_KEYS = 64
"""Keys that a program of `attention_split` takes at a time; pieces are multiples of it."""


@dataclass(frozen=True)
class AttentionShape:
    """What is fixed about a model's attention and its cache.

    Attributes:
        heads: query heads.
        kv_heads: key and value heads.
        head_dim: 64 or 128.
        block_size: tokens of a cache block, 16 or more.
        epsilon: of the two norms.
        type: `fp16` or `bf16`: of activations, norms and cache.

    Raises:
        ValueError: a value that the kernels do not take.
    """

    heads: int
    kv_heads: int
    head_dim: int
    block_size: int
    epsilon: float
    type: str

    def __post_init__(self) -> None:
        if self.kv_heads < 1 or self.heads < 1 or self.heads % self.kv_heads:
            raise ValueError(f"attention: heads must be a multiple of kv_heads, found {self.heads} and {self.kv_heads}")
        if self.group > 32:
            raise ValueError(f"attention: at most 32 query heads share a key head, found {self.group}")
        if self.head_dim not in HEAD_DIMS:
            raise ValueError(f"attention: head_dim must be 64 or 128, found {self.head_dim}")
        if self.block_size < 16:
            raise ValueError(f"attention: block_size must be 16 or more, found {self.block_size}")
        if self.type not in _TYPES:
            raise ValueError(f"attention: type must be one of {', '.join(_TYPES)}, found {self.type}")

    @property
    def group(self) -> int:
        """Query heads that share a key head."""
        return self.heads // self.kv_heads


@dataclass(frozen=True)
class AttentionKernels:
    """The three kernels, in the order of their launch, and the sizes of the workspaces between them.

    Attributes:
        rows: query rows of a short sequence's tile.
        splits: pieces that a short sequence's keys are cut into at most.
    """

    shape: AttentionShape
    append: Kernel
    split: Kernel
    attend: Kernel
    rows: int
    splits: int

    def partial_shape(self, batch: Size) -> tuple[Size, int, int, int, int]:
        """Shape of `partial`, float32; `lse` has the same without the last axis."""
        return batch, self.shape.kv_heads, self.splits, self.rows, self.shape.head_dim


@dataclass(frozen=True)
class _Tiles:
    """What a program of `attention_attend` works on at a time: query rows and keys."""

    rows: int
    keys: int
    warps: int
    stages: int


_TILES = {
    80: _Tiles(128, 64, 8, 3),
    86: _Tiles(128, 64, 8, 3),
    89: _Tiles(128, 64, 8, 3),
    90: _Tiles(128, 128, 8, 3),
    100: _Tiles(128, 64, 8, 3),
    103: _Tiles(128, 64, 8, 3),
    120: _Tiles(128, 64, 8, 3),
    121: _Tiles(128, 64, 8, 3),
}
"""The largest tiles that spill no registers at head_dim 128, and leave two buffers of keys and values in shared memory
(three stages: block ids, then keys and values, then the products)."""

_SMALL_TILES = {
    **dict.fromkeys((80, 86, 89, 120, 121), _Tiles(128, 32, 8, 2)),
    90: _Tiles(64, 32, 4, 2),
    **dict.fromkeys((100, 103), _Tiles(64, 16, 4, 2)),
}
"""The same within 48 KiB, for launchers that do not ask the driver for more."""


def attention_kernels(
    shape: AttentionShape, capability: int, *, splits: int = 16, programs: int = 256, small: bool = False
) -> AttentionKernels:
    """Describe the kernels of a model's attention for one kind of GPU.

    Args:
        shape: of the model and its cache.
        capability: compute capability times ten, such as 89.
        splits: pieces that a short sequence's keys are cut into at most, a power of two. More of them keep a large GPU
            busy with few sequences; workspaces grow with them.
        programs: a step whose B * kv_heads reaches this many does not split: about two for each multiprocessor.
        small: keep to the 48 KiB of shared memory that every launch may have.

    Returns:
        The kernels and their workspaces.

    Raises:
        ValueError: `splits` is not a power of two, or the capability has no tile sizes.
    """
    if splits < 1 or splits & (splits - 1):
        raise ValueError(f"attention: splits must be a power of two, found {splits}")
    chosen = _SMALL_TILES if small else _TILES
    if capability not in chosen:
        known = ", ".join(f"SM{each}" for each in chosen)
        raise ValueError(f"attention: no tile sizes for SM{capability}, only for {known}")
    tiles = chosen[capability]
    rows = max(16, _power_of_two(shape.group))
    each = tiles.rows // shape.group  # at least two, or `_owner` would take tiles for tokens

    def per_token(tokens: Size, batch: Size) -> Grid:  # noqa: ARG001 - every grid takes both
        return tokens, shape.kv_heads, 1

    def per_piece(tokens: Size, batch: Size) -> Grid:  # noqa: ARG001
        return splits, shape.kv_heads, batch

    def per_tile(tokens: Size, batch: Size) -> Grid:
        return tokens // each + batch, shape.kv_heads, 1

    pointer = f"*{shape.type}"
    batch_inputs = {"query_start": "*i32", "context_len": "*i32", "block_table": "*i32"}
    workspaces = {"partial": "*fp32", "lse": "*fp32"}
    scalars = ("batch", "table_width")
    sizes: dict[str, int | float | bool | str] = {
        "kv_heads": shape.kv_heads,
        "group": shape.group,
        "head_dim": shape.head_dim,
        "block_size": shape.block_size,
    }
    split_sizes = {
        **sizes,
        "scale": shape.head_dim**-0.5 * math.log2(math.e),
        "rows": rows,
        "splits": splits,
        "programs": programs,
    }
    vectors = dict.fromkeys(("q", "k", "v", "q_norm", "k_norm"), pointer)
    append = Kernel(
        name="attention_append",
        module=_APPEND,
        function="attention_append",
        arguments=arguments(
            {**vectors, "cos": "*fp32", "sin": "*fp32", "kv": pointer, **batch_inputs},
            scalars,
            {"rotated": pointer, "kv_out": pointer},
        ),
        constants={
            **sizes,
            "group_tile": _power_of_two(shape.group),
            "epsilon": shape.epsilon,
        },
        grid=per_token,
        warps=max(1, min(4, _power_of_two(shape.group) // 4)),
        stages=1,
    )
    split = Kernel(
        name="attention_split",
        module=_DEVICE,
        function="attention_split",
        arguments=arguments({"rotated": pointer, "kv": pointer, **batch_inputs}, scalars, workspaces),
        constants={**split_sizes, "keys": _SPLIT_KEYS},
        grid=per_piece,
        warps=4,
        stages=3,
    )
    attend = Kernel(
        name="attention_attend",
        module=_DEVICE,
        function="attention_attend",
        arguments=arguments(
            {"rotated": pointer, "kv": pointer, **batch_inputs, **workspaces}, scalars, {"out": pointer}
        ),
        constants={
            **split_sizes,
            "split_keys": _SPLIT_KEYS,
            "tile_rows": tiles.rows,
            "keys": tiles.keys,
            "merged_rows": 4,
        },
        grid=per_tile,
        warps=tiles.warps,
        stages=tiles.stages,
    )
    return AttentionKernels(shape, append, split, attend, rows, splits)


def _power_of_two(number: int) -> int:
    """The smallest power of two that is not below a positive number."""
    return 1 << (number - 1).bit_length()
