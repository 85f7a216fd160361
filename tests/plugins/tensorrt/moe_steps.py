"""Random mixtures of experts in every weight format, their kernels' run, and the eager model's answer in float64."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from interpreted import launch

from qwen3_graphs.moe import mixture_of_experts
from qwen3_plugins.tensorrt.kernels.moe import moe_kernels, moe_workspaces

if TYPE_CHECKING:
    from interpreted import Interpreter, Values

    from qwen3_plugins.tensorrt.kernels.moe import Experts

TYPES = {"*fp16": torch.float16, "*bf16": torch.bfloat16, "*fp32": torch.float32, "*i32": torch.int32}
GUARD = 3
"""Rows after the end of a buffer that no kernel may write."""


@dataclass(frozen=True)
class Matrices:
    """Stacked matrices as the kernels read them, and their values in float64."""

    codes: torch.Tensor
    scales: torch.Tensor
    values: torch.Tensor


def activations(moe: Experts) -> torch.dtype:
    return TYPES[f"*{moe.dtype}"]


def stored(weights: torch.Tensor, moe: Experts) -> Matrices:
    """Weights float32 [E, N, K] in the mixture's format, quantized symmetrically."""
    kind = activations(moe)
    if moe.weight_format == "fp8":
        scales = weights.abs().amax(-1) / 448
        codes = (weights / scales[..., None]).to(torch.float8_e4m3fn)
        return Matrices(codes.view(torch.uint8), scales, codes.double() * scales[..., None].double())
    if moe.weight_format == "int4":
        grouped = weights.unflatten(-1, (-1, moe.group_size))
        scales = (grouped.abs().amax(-1) / 7.5).to(kind)
        codes = torch.round(grouped / scales[..., None].float()).clamp(-8, 7)
        values = (codes.double() * scales[..., None].double()).flatten(-2)
        nibbles = (codes.flatten(-2).to(torch.int32) & 15).to(torch.uint8)
        return Matrices(nibbles[..., 0::2] | nibbles[..., 1::2] << 4, scales, values)
    codes = weights.to(kind)
    return Matrices(codes, torch.empty(0, dtype=kind), codes.double())


@dataclass(frozen=True)
class Step:
    """The tokens and weights of one mixture of experts."""

    moe: Experts
    x: torch.Tensor
    router: torch.Tensor
    gate_up: Matrices
    down: Matrices

    def expected(self) -> torch.Tensor:
        """float64 [T, H]."""
        moe, both = self.moe, self.gate_up.values
        gate, up = both[:, : moe.inner_size], both[:, moe.inner_size :]
        x, router = self.x.double(), self.router.double()
        return mixture_of_experts(x, router, gate, up, self.down.values, moe.top_k, moe.normalize)


def make_step(moe: Experts, tokens: int, seed: int = 0) -> Step:
    """Random tokens and weights of about unit scale."""
    random = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=random)

    kind = activations(moe)
    gate_up = normal(moe.experts, 2 * moe.inner_size, moe.hidden_size) * moe.hidden_size**-0.5
    down = normal(moe.experts, moe.hidden_size, moe.inner_size) * moe.inner_size**-0.5
    return Step(
        moe,
        normal(tokens, moe.hidden_size).to(kind),
        (normal(moe.experts, moe.hidden_size) * 2 * moe.hidden_size**-0.5).to(kind),
        stored(gate_up, moe),
        stored(down, moe),
    )


def run(interpreter: Interpreter, step: Step, tile: str) -> Values:
    """All buffers after the six launches.

    Outputs and workspaces are full of what must not be read (NaN, -1) before, and still hold it behind their ends.
    """
    tokens = len(step.x)
    values: Values = {
        "x": step.x,
        "router": step.router,
        "gate_up": step.gate_up.codes,
        "gate_up_scales": step.gate_up.scales,
        "down": step.down.codes,
        "down_scales": step.down.scales,
        "tokens": tokens,
        "y": _unwritten(step.x.shape, step.x.dtype),
    }
    for space in moe_workspaces(step.moe, tokens):
        values[space.name] = _unwritten(space.shape, TYPES[space.type])
    after = interpreter.run([launch(kernel, tokens=tokens) for kernel in moe_kernels(step.moe, tile)], values)
    for name in ("y", *(space.name for space in moe_workspaces(step.moe, tokens))):
        behind = after[name][-GUARD:]
        assert torch.equal(behind, _unwritten(behind.shape, behind.dtype)[:GUARD]) or behind.isnan().all(), name
        after[name] = after[name][:-GUARD]
    return after


def _unwritten(shape: tuple[int, ...], kind: torch.dtype) -> torch.Tensor:
    rows = (shape[0] + GUARD, *shape[1:])
    return torch.full(rows, float("nan") if kind.is_floating_point else -1, dtype=kind)


def check(interpreter: Interpreter, step: Step, tile: str) -> Values:
    """Run and compare with the eager model, within a few roundings of the activations' type."""
    after, expected = run(interpreter, step, tile), step.expected()
    # Rounded are the inner units, the answers, and their sum: three times half an ulp, and a margin.
    tolerance = 2.0 * torch.finfo(step.x.dtype).eps * expected.abs().max().item()
    torch.testing.assert_close(after["y"].double(), expected, rtol=0, atol=tolerance)
    return after
