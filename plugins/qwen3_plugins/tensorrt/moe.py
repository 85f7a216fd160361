"""`Qwen3MoE`: router, top-k, the chosen experts' SwiGLU and their weighted sum, as a plugin."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from math import prod
from typing import TYPE_CHECKING, ClassVar, Literal

from qwen3_plugins.tensorrt.attention import laid_out
from qwen3_plugins.tensorrt.errors import PluginError
from qwen3_plugins.tensorrt.kernels.moe import GROUP_SIZES, Experts, moe_kernels, moe_workspaces
from qwen3_plugins.tensorrt.operator import ELEMENT_BYTES, Launch, Scratch, check_elements, check_ranks, check_shapes

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from qwen3_plugins.tensorrt.kernels.kernel import Kernel
    from qwen3_plugins.tensorrt.operator import Shape

Tile = Literal["decode", "prefill"]

_TILED = ("moe_gate_up", "moe_down")
_SCALE_RANKS = {"fp16": (1, 3, 1), "bf16": (1, 3, 1), "fp8": (2, 3, 2), "int4": (3, 3, 3)}  # and of `down` between
_DECODE_SLOTS_PER_EXPERT = 16  # slots of an expert, on average, up to which the tiles made for decoding are not filled


@dataclass(frozen=True)
class MoEOperator:
    """The operator and its attributes.

    `weight_format` says what codes and scales are; E experts of width I, H inputs:

    | tensor | fp16, bf16 | fp8 | int4 |
    |---|---|---|---|
    | `x` | fp16 or bf16 (x in what follows) [T, H] | same | same |
    | `router` | x [E, H] | same | same |
    | `gate_up` | x [E, 2I, H], gate's rows first | E4M3 in int8 [E, 2I, H] | pairs of codes in int8 [E, 2I, H / 2] |
    | `gate_up_scales` | x [1], not read | fp32 [E, 2I] | x [E, 2I, H / group_size] |
    | `down` | x [E, H, I] | E4M3 in int8 [E, H, I] | pairs of codes in int8 [E, H, I / 2] |
    | `down_scales` | x [1], not read | fp32 [E, H] | x [E, H, I / group_size] |
    | `y` | x [T, H] | same | same |

    Bytes are int8 because TensorRT's parser turns uint8 constants into int32. The lower half of a byte is the even
    input, in two's complement.

    Attributes:
        top_k: experts a token is sent to.
        normalize: 1 where the shares of a token's experts are scaled to sum to one, else 0.
        weight_format: `fp16`, `bf16`, `fp8` or `int4`.
        group_size: inputs that share a scale, for int4; else 0.

    Raises:
        PluginError: an attribute that the kernels do not compute.
    """

    top_k: int
    normalize: int
    weight_format: str
    group_size: int

    NAME: ClassVar[str] = "Qwen3MoE"
    INPUTS: ClassVar[tuple[str, ...]] = ("x", "router", "gate_up", "gate_up_scales", "down", "down_scales")
    OUTPUTS: ClassVar[tuple[str, ...]] = ("y",)
    ALIASES: ClassVar[Mapping[str, str]] = {}

    def __post_init__(self) -> None:
        """Refuse what the kernels do not compute."""
        if self.weight_format not in GROUP_SIZES:
            expected = ", ".join(GROUP_SIZES)
            raise PluginError(f"{self.NAME}: weight_format is one of {expected}, found {self.weight_format}")
        if self.normalize not in (0, 1):
            raise PluginError(f"{self.NAME}: normalize is 0 or 1, found {self.normalize}")
        if self.top_k not in range(1, 9):
            raise PluginError(f"{self.NAME}: top_k is 1 to 8, found {self.top_k}")
        sizes = GROUP_SIZES[self.weight_format]
        if self.group_size not in sizes:
            expected = " or ".join(map(str, sizes))
            raise PluginError(f"{self.NAME}: group_size of {self.weight_format} is {expected}, found {self.group_size}")

    def types(self, activations: str) -> tuple[str, ...]:
        """See `Operator.types`."""
        x = activations
        code = "i8" if self.weight_format in ("fp8", "int4") else self.weight_format
        scale = "fp32" if self.weight_format == "fp8" else x
        return x, x, code, scale, code, scale, x

    def output_sources(self) -> tuple[int, ...]:
        """See `Operator.output_sources`."""
        return (self.INPUTS.index("x"),)

    def check(self, shapes: Sequence[Shape]) -> None:
        """See `Operator.check`."""
        check_ranks(self, (2, 2, 3, *_SCALE_RANKS[self.weight_format]), shapes)
        experts, hidden = shapes[1]
        inner = shapes[4][-1] * (2 if self.weight_format == "int4" else 1)
        pairs = 2 if self.weight_format == "int4" else 1
        scales: list[tuple[int | str, ...]] = [(1,), (1,)]
        if self.weight_format == "fp8":
            scales = [(experts, 2 * inner), (experts, hidden)]
        elif self.weight_format == "int4":
            groups = self.group_size
            scales = [(experts, 2 * inner, hidden // groups), (experts, hidden, inner // groups)]
        check_shapes(
            self,
            (
                ("T", hidden),
                (experts, hidden),
                (experts, 2 * inner, hidden // pairs),
                scales[0],
                (experts, hidden, inner // pairs),
                scales[1],
            ),
            shapes,
        )
        self._experts("bf16" if self.weight_format == "bf16" else "fp16", shapes)

    def workspace(self, activations: str, shapes: Sequence[Shape]) -> int:
        """See `Operator.workspace`."""
        return self._places(activations, shapes)[1]

    def kernels(self, activations: str, shapes: Sequence[Shape], capability: int) -> Mapping[str, Kernel]:  # noqa: ARG002
        """See `Operator.kernels`; those for the experts' products come with two sizes of tiles."""
        experts = self._experts(activations, shapes)
        return {
            _name(kernel.name, tile): kernel for tile in ("decode", "prefill") for kernel in _kernels(experts, tile)
        }

    def launches(self, activations: str, shapes: Sequence[Shape], capability: int) -> tuple[Launch, ...]:  # noqa: ARG002
        """See `Operator.launches`."""
        experts, tokens = self._experts(activations, shapes), shapes[0][0]
        tile: Tile = "decode" if tokens * self.top_k <= _DECODE_SLOTS_PER_EXPERT * experts.experts else "prefill"
        places: dict[str, str | Scratch | int] = {"tokens": tokens, **self._places(activations, shapes)[0]}
        return tuple(
            Launch(
                _name(kernel.name, tile),
                kernel.grid(tokens=tokens),
                tuple(places.get(argument.name, argument.name) for argument in kernel.arguments),
            )
            for kernel in _kernels(experts, tile)
        )

    def _experts(self, activations: str, shapes: Sequence[Shape]) -> Experts:
        experts, hidden = shapes[1]
        inner = shapes[4][-1] * (2 if self.weight_format == "int4" else 1)
        try:
            return Experts(
                experts,
                self.top_k,
                bool(self.normalize),
                hidden,
                inner,
                activations,
                self.weight_format,
                self.group_size,
            )
        except ValueError as error:
            raise PluginError(f"{self.NAME}: {error}") from error

    def _places(self, activations: str, shapes: Sequence[Shape]) -> tuple[dict[str, Scratch], int]:
        experts, (tokens, hidden) = self._experts(activations, shapes), shapes[0]
        check_elements(self, {"x": tokens * hidden, "a workspace": tokens * self.top_k * experts.inner_size})
        buffers = moe_workspaces(experts, tokens)
        return laid_out({one.name: prod(one.shape) * ELEMENT_BYTES[one.type.removeprefix("*")] for one in buffers})


def _name(kernel: str, tile: Tile) -> str:
    return f"{kernel}.{tile}" if kernel in _TILED else kernel


@cache
def _kernels(experts: Experts, tile: Tile) -> tuple[Kernel, ...]:
    return moe_kernels(experts, tile)
