"""Random steps for the Triton attention kernels, and what the eager model makes of them in float64."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from interpreted import Interpreter, Values, launch

from qwen3_graphs.attention import paged_attention
from qwen3_plugins.tensorrt.kernels.attention import AttentionKernels, AttentionShape, attention_kernels

TYPES = {"fp16": torch.float16, "bf16": torch.bfloat16}
EPSILON = 1e-6
UNUSED = 2**31 - 1
"""A block id far outside of the cache: whoever follows it crashes."""


@dataclass
class Step:
    """One step's inputs, as `attention_append` takes them, and which tokens it adds to the cache."""

    shape: AttentionShape
    inputs: dict[str, torch.Tensor]
    tokens: int
    """Tokens that belong to sequences; q, k and v may have further rows."""


def make_step(
    shape: AttentionShape, new: list[int], context: list[int], *, seed: int = 0, padding: int = 0, sharp: float = 1.0
) -> Step:
    """A step of len(new) sequences whose blocks are dealt out in random order.

    Args:
        shape: of the attention.
        new: tokens that each sequence adds.
        context: tokens that it has in the cache.
        seed: of everything random.
        padding: rows of q, k and v that belong to no sequence.
        sharp: factor of the queries' norm; above 1, fewer keys share the attention.
    """
    generator = torch.Generator().manual_seed(seed)
    kind, dim, size = TYPES[shape.type], shape.head_dim, shape.block_size

    def random(*sizes: int) -> torch.Tensor:
        return torch.randn(*sizes, generator=generator)

    lengths = [past + count for past, count in zip(context, new, strict=True)]
    used = [-(-length // size) for length in lengths]
    order = torch.randperm(sum(used) + 2, generator=generator)
    table = torch.full((len(new), max(used) + 1), UNUSED, dtype=torch.int32)
    kv = torch.full((len(order), 2, shape.kv_heads, size, dim), torch.nan, dtype=kind)
    for row, (past, count) in enumerate(zip(context, used, strict=True)):
        table[row, :count] = order[sum(used[:row]) :][:count]
        for position in range(past):
            kv[table[row, position // size], :, :, position % size] = random(2, shape.kv_heads, dim).to(kind)
    tokens = sum(new)
    angle = torch.arange(max(lengths))[:, None] / 10000 ** (torch.arange(dim // 2) * 2 / dim)
    rows = {"q": shape.heads, "k": shape.kv_heads, "v": shape.kv_heads}
    vectors = {name: random(tokens + padding, heads * dim).to(kind) for name, heads in rows.items()}
    for vector in vectors.values():
        vector[tokens:] = torch.nan
    return Step(
        shape,
        {
            **vectors,
            "q_norm": ((1 + 0.3 * random(dim)) * sharp).to(kind),
            "k_norm": (1 + 0.3 * random(dim)).to(kind),
            "cos": angle.cos().float(),
            "sin": angle.sin().float(),
            "kv": kv,
            "query_start": torch.tensor([0, *torch.tensor(new).cumsum(0)], dtype=torch.int32),
            "context_len": torch.tensor(context, dtype=torch.int32),
            "block_table": table,
        },
        tokens,
    )


def eager(step: Step) -> tuple[torch.Tensor, torch.Tensor]:
    """What the eager model computes in float64: the attended values of the real tokens, and the cache."""
    wide = {name: value.double() if value.is_floating_point() else value for name, value in step.inputs.items()}
    for name in ("q", "k", "v"):
        wide[name] = wide[name][: step.tokens]
    wide["cos"], wide["sin"] = wide["cos"].double(), wide["sin"].double()
    shape = step.shape
    return paged_attention(*wide.values(), shape.heads, shape.kv_heads, shape.head_dim, shape.epsilon)


def interpreted(interpreter: Interpreter, step: Step, kernels: AttentionKernels) -> Values:
    """The step's three launches; workspaces and output begin as not-a-number."""
    rows, batch = len(step.inputs["q"]), len(step.inputs["context_len"])
    kv = step.inputs["kv"].clone()
    partial = torch.full(kernels.partial_shape(batch), torch.nan)
    values: Values = {
        **step.inputs,
        "kv": kv,
        "kv_out": kv,
        "rotated": torch.full_like(step.inputs["q"], torch.nan),
        "partial": partial,
        "lse": partial[..., 0].clone(),
        "out": torch.full_like(step.inputs["q"], torch.nan),
        "batch": batch,
        "table_width": step.inputs["block_table"].shape[1],
    }
    launches = [launch(kernel, tokens=rows, batch=batch) for kernel in (kernels.append, kernels.split, kernels.attend)]
    return interpreter.run(launches, values)


def check(interpreter: Interpreter, step: Step, capability: int = 89, **options: int) -> None:
    """Compare a step with the eager model: its output, the keys and values it appended, and the rest of the cache."""
    made = interpreted(interpreter, step, attention_kernels(step.shape, capability, **options))
    out, kv = eager(step)
    unit = torch.finfo(TYPES[step.shape.type]).eps
    torch.testing.assert_close(made["out"][: step.tokens].double(), out, rtol=0, atol=4 * unit)
    assert made["out"][step.tokens :].isnan().all()
    torch.testing.assert_close(made["kv"].double(), kv, rtol=0.51 * unit, atol=1e-6, equal_nan=True)
