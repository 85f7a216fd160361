"""Random attention steps over a paged cache, their float64 reference, and the library's test entry point."""

from __future__ import annotations

import ctypes
import os
import platform
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from qwen3_plugins.ort import library_path, why_missing

Array = NDArray[np.generic]
INSTRUCTIONS = {"scalar": 0, "avx2": 1, "avx512": 2, "neon": 3}
EPSILON = 1e-6
TOLERANCE = {False: 2e-5, True: 1e-3}
"""Of the output, by whether the cache is int8: the vector kernels then take queries and weights in 16 bits, which adds
at most a tenth of what rounding these values (up to 2.7) to the cache's 8 bits does."""
EMPTY = 7.5  # what cache slots hold that no sequence has written


@dataclass
class Step:
    """One step's inputs, shaped as the operator takes them."""

    heads: int
    qkv: Array
    q_norm: Array
    k_norm: Array
    cos: Array
    sin: Array
    kv: Array
    query_start: Array
    context_len: Array
    block_table: Array
    kv_scales: Array | None = None
    epsilon: float = EPSILON
    spare: list[int] = field(default_factory=list)  # blocks that no sequence has


def library_file() -> Path:
    """The library under test; QWEN3_ORT_LIBRARY names another build of it, such as one with sanitizers."""
    chosen = os.environ.get("QWEN3_ORT_LIBRARY")
    path = Path(chosen) if chosen else library_path()
    assert path is not None, why_missing()
    return path


@cache
def library() -> ctypes.CDLL:
    return ctypes.CDLL(str(library_file()))


def available_instructions() -> list[str]:
    if platform.machine() == "aarch64":  # an emulator shows the flags of its host
        return ["scalar", "neon"] if library().qwen3_instructions() >= INSTRUCTIONS["neon"] else ["scalar"]
    flags = Path("/proc/cpuinfo").read_text().split("flags", 1)[-1].split("\n", 1)[0].split()
    names = ["scalar"]
    if {"avx2", "fma", "f16c"} <= set(flags):
        names.append("avx2")
        if {"avx512f", "avx512bw", "avx512dq", "avx512vl", "avx512_vnni"} <= set(flags):
            names.append("avx512")
    return names


def make_step(
    seed: int,
    *,
    heads: int,
    kv_heads: int,
    head_dim: int,
    block: int,
    new: list[int],
    context: list[int],
    int8: bool = False,
    positions: int | None = None,
) -> Step:
    """A step of len(new) sequences; cache blocks are dealt out in random order, with a few to spare."""
    rng = np.random.default_rng(seed)
    lengths = [n + c for n, c in zip(new, context, strict=True)]
    used = [-(-length // block) for length in lengths]
    width = max([*used, 0]) + 1
    blocks = sum(used) + 3
    order = rng.permutation(blocks)
    # Entries that no token needs are out of range on purpose: they must not be read.
    table = np.full((len(new), width), 2**31 - 1, np.int32)
    at = 0
    for s, count in enumerate(used):
        table[s, :count] = order[at : at + count]
        at += count
    shape = (blocks, 2, kv_heads, block, head_dim)
    scales = None
    if int8:
        kv: Array = rng.integers(-127, 128, shape).astype(np.int8)
        scales = (rng.random(shape[:-1]) * 0.02 + 0.001).astype(np.float32)
    else:
        kv = rng.standard_normal(shape).astype(np.float16)
    positions = positions or max([*lengths, 1])
    angle = np.arange(positions)[:, None] / 10000 ** (np.arange(head_dim // 2) * 2 / head_dim)
    return Step(
        heads=heads,
        qkv=rng.standard_normal((sum(new), (heads + 2 * kv_heads) * head_dim)).astype(np.float32),
        q_norm=(1 + 0.3 * rng.standard_normal(head_dim)).astype(np.float32),
        k_norm=(1 + 0.3 * rng.standard_normal(head_dim)).astype(np.float32),
        cos=np.cos(angle).astype(np.float32),
        sin=np.sin(angle).astype(np.float32),
        kv=kv,
        kv_scales=scales,
        query_start=np.concatenate([[0], np.cumsum(new)]).astype(np.int32),
        context_len=np.array(context, np.int32),
        block_table=table,
        spare=[int(b) for b in order[at:]],
    )


def _normed_and_rotated(heads: Array, norm: Array, cos: Array, sin: Array, epsilon: float) -> Array:
    """[T, heads, D] -> the same after RMSNorm and rotate-half RoPE, float64."""
    normed = heads / np.sqrt((heads**2).mean(-1, keepdims=True) + epsilon) * norm
    half = heads.shape[-1] // 2
    turned = np.concatenate([-normed[..., half:], normed[..., :half]], -1)
    both = [np.concatenate([table, table], -1)[:, None] for table in (cos, sin)]
    return normed * both[0] + turned * both[1]


def new_keys_and_values(step: Step) -> dict[tuple[int, int], Array]:
    """{(sequence, position): [2, kv_heads, D]} that a step must append to the cache, in float64."""
    _, _, kv_heads, _, dim = step.kv.shape
    x = step.qkv.astype(np.float64).reshape(len(step.qkv), step.heads + 2 * kv_heads, dim)[:, step.heads :]
    positions = _positions(step)
    keys = _normed_and_rotated(x[:, :kv_heads], step.k_norm, step.cos[positions], step.sin[positions], step.epsilon)
    owner = np.repeat(np.arange(len(step.context_len)), np.diff(step.query_start))
    pairs = np.stack([keys, x[:, kv_heads:]], 1)
    return {(int(s), int(p)): pair for s, p, pair in zip(owner, positions, pairs, strict=True)}


def reference(step: Step) -> Array:
    """The attention of a step whose tokens are in the cache already, in float64: [T, heads * D].

    Taking keys and values as they were stored keeps the rounding of the cache, checked apart, out of the comparison.
    """
    _, _, kv_heads, block, dim = step.kv.shape
    x = step.qkv.astype(np.float64).reshape(len(step.qkv), step.heads + 2 * kv_heads, dim)[:, : step.heads]
    positions = _positions(step)
    queries = _normed_and_rotated(x, step.q_norm, step.cos[positions], step.sin[positions], step.epsilon)
    out = np.zeros((len(step.qkv), step.heads * dim))
    for s, context in enumerate(step.context_len.tolist()):
        rows = slice(step.query_start[s], step.query_start[s + 1])
        count = rows.stop - rows.start
        if count == 0:
            continue
        every = np.arange(context + count)
        ids, slots = step.block_table[s, every // block], every % block
        cached = step.kv[ids, :, :, slots].astype(np.float64)  # [length, 2, kv_heads, D]
        if step.kv_scales is not None:
            cached *= step.kv_scales[ids, :, :, slots][..., None]
        keys, values = (np.repeat(cached[:, i], step.heads // kv_heads, axis=1) for i in (0, 1))
        scores = np.einsum("ihd,jhd->hij", queries[rows], keys) / np.sqrt(dim)
        scores[:, every[None] > context + np.arange(count)[:, None]] = -np.inf
        weights = np.exp(scores - scores.max(-1, keepdims=True))
        weights /= weights.sum(-1, keepdims=True)
        out[rows] = np.einsum("hij,jhd->ihd", weights, values).reshape(count, -1)
    return out


def _positions(step: Step) -> Array:
    counts = np.diff(step.query_start)
    return np.repeat(step.context_len - step.query_start[:-1], counts) + np.arange(len(step.qkv))


def slot_of(step: Step, sequence: int, position: int) -> tuple[int, int]:
    """(block id, slot within it) of a token."""
    block = step.kv.shape[3]
    return int(step.block_table[sequence, position // block]), position % block


def run(step: Step, instructions: str = "scalar", threads: int = 1) -> Array:
    """Run the kernels on a step, its cache written in place; raises ValueError with the reason of a refusal."""
    blocks, _, kv_heads, block, dim = step.kv.shape
    out = np.full((len(step.qkv), step.heads * dim), np.nan, np.float32)
    sequences, width = step.block_table.shape
    sizes = [len(step.qkv), sequences, width, len(step.cos), step.heads, blocks, kv_heads, block, dim]
    sizes.append(int(step.kv.dtype == np.int8))
    fault = ctypes.create_string_buffer(400)

    def pointer(array: Array | None) -> ctypes.c_void_p:
        assert array is None or array.flags.c_contiguous
        return ctypes.c_void_p(None if array is None else array.ctypes.data)

    arrays = [step.qkv, step.q_norm, step.k_norm, step.cos, step.sin]
    arrays += [step.query_start, step.context_len, step.block_table, step.kv, step.kv_scales, out]
    status = library().qwen3_test_attention(
        (ctypes.c_int64 * len(sizes))(*sizes),
        ctypes.c_float(step.epsilon),
        *(pointer(array) for array in arrays),
        INSTRUCTIONS[instructions],
        threads,
        1,
        None,
        fault,
        ctypes.c_int64(len(fault)),
    )
    if status:
        raise ValueError(fault.value.decode())
    return out
