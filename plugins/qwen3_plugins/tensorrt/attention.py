"""`Qwen3Attention`: QK-norm, RoPE, append to the paged cache and causal grouped-query attention, as a plugin."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from math import prod
from typing import TYPE_CHECKING, ClassVar

from qwen3_plugins.tensorrt.errors import PluginError
from qwen3_plugins.tensorrt.kernels.attention import AttentionKernels, AttentionShape, attention_kernels
from qwen3_plugins.tensorrt.operator import Launch, Scratch, check_elements, check_ranks, check_shapes

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from qwen3_plugins.tensorrt.kernels.kernel import Kernel
    from qwen3_plugins.tensorrt.operator import Shape

_ALIGNMENT_BYTES = 256  # of what lies in the workspace; kernels ask for 16


@dataclass(frozen=True)
class AttentionOperator:
    """The operator and its attributes.

    | tensor | type, shape |
    |---|---|
    | `q` | fp16 or bf16 (x in what follows) [T, num_heads * head_dim] |
    | `k`, `v` | x [T, kv_num_heads * head_dim] |
    | `q_norm`, `k_norm` | x [head_dim] |
    | `cos`, `sin` | fp32 [P, head_dim / 2] |
    | `kv` | x [blocks, 2, kv_num_heads, block_size, head_dim], written in place |
    | `query_start` | int32 [B + 1] |
    | `context_len` | int32 [B] |
    | `block_table` | int32 [B, M] |
    | `out` | x [T, num_heads * head_dim] |
    | `kv_out` | `kv` itself |

    Raises:
        PluginError: an attribute that the kernels do not compute.
    """

    num_heads: int
    kv_num_heads: int
    head_dim: int
    block_size: int
    epsilon: float

    NAME: ClassVar[str] = "Qwen3Attention"
    INPUTS: ClassVar[tuple[str, ...]] = (
        *("q", "k", "v", "q_norm", "k_norm", "cos", "sin", "kv"),
        *("query_start", "context_len", "block_table"),
    )
    OUTPUTS: ClassVar[tuple[str, ...]] = ("out", "kv_out")
    ALIASES: ClassVar[Mapping[str, str]] = {"kv_out": "kv"}

    def __post_init__(self) -> None:
        """Refuse what the kernels do not compute."""
        if not 0 < self.epsilon < 1:
            raise PluginError(f"{self.NAME}: epsilon lies between 0 and 1, found {self.epsilon:g}")
        try:
            self._shape("fp16")
        except ValueError as error:
            raise PluginError(f"{self.NAME}: {error}") from error

    def types(self, activations: str) -> tuple[str, ...]:
        """See `Operator.types`."""
        x = activations
        return (*(x,) * 5, "fp32", "fp32", x, *("i32",) * 3, x, x)

    def output_sources(self) -> tuple[int, ...]:
        """See `Operator.output_sources`."""
        return self.INPUTS.index("q"), self.INPUTS.index("kv")

    def check(self, shapes: Sequence[Shape]) -> None:
        """See `Operator.check`."""
        check_ranks(self, (2, 2, 2, 1, 1, 2, 2, 5, 1, 1, 2), shapes)
        new, half = ("T", self.kv_num_heads * self.head_dim), ("P", self.head_dim // 2)
        check_shapes(
            self,
            (
                ("T", self.num_heads * self.head_dim),
                *(new, new, (self.head_dim,), (self.head_dim,), half, half),
                ("blocks", 2, self.kv_num_heads, self.block_size, self.head_dim),
                *(("B+1",), ("B",), ("B", "M")),
            ),
            shapes,
        )
        starts, batch = shapes[self.INPUTS.index("query_start")][0], shapes[self.INPUTS.index("context_len")][0]
        if min(starts, batch) >= 0 and starts != batch + 1:
            raise PluginError(f"{self.NAME}: query_start is [B + 1], found [{starts}] for B = {batch}")

    def workspace(self, activations: str, shapes: Sequence[Shape]) -> int:
        """See `Operator.workspace`."""
        return self._places(activations, shapes)[1]

    def kernels(self, activations: str, shapes: Sequence[Shape], capability: int) -> Mapping[str, Kernel]:  # noqa: ARG002
        """See `Operator.kernels`."""
        try:
            made = _kernels(self._shape(activations), capability)
        except ValueError as error:
            raise PluginError(f"{self.NAME}: {error}") from error
        return {kernel.name: kernel for kernel in (made.append, made.split, made.attend)}

    def launches(self, activations: str, shapes: Sequence[Shape], capability: int) -> tuple[Launch, ...]:
        """See `Operator.launches`."""
        tokens, batch, width = shapes[0][0], shapes[-1][0], shapes[-1][1]
        places: dict[str, str | Scratch | int] = {"batch": batch, "table_width": width}
        places.update(self._places(activations, shapes)[0])
        return tuple(
            Launch(
                name,
                kernel.grid(tokens=tokens, batch=batch),
                tuple(places.get(argument.name, argument.name) for argument in kernel.arguments),
            )
            for name, kernel in self.kernels(activations, shapes, capability).items()
        )

    def _shape(self, activations: str) -> AttentionShape:
        return AttentionShape(
            self.num_heads, self.kv_num_heads, self.head_dim, self.block_size, self.epsilon, activations
        )

    def _places(self, activations: str, shapes: Sequence[Shape]) -> tuple[dict[str, Scratch], int]:
        """Where the three kernels' workspaces lie, and the bytes of them all."""
        (tokens, width), batch = shapes[0], shapes[-1][0]
        # How many pieces a sequence is cut into is the same for every GPU.
        partial = prod(_kernels(self._shape(activations), 80).partial_shape(batch))
        check_elements(self, {"out": tokens * width, "a workspace": partial})
        sizes = {"rotated": 2 * tokens * width, "partial": 4 * partial, "lse": 4 * (partial // self.head_dim)}
        return laid_out(sizes)


def laid_out(sizes: Mapping[str, int]) -> tuple[dict[str, Scratch], int]:
    """Place buffers of some bytes one after the other; return their places and the bytes of them all."""
    places, end = {}, 0
    for name, size in sizes.items():
        places[name] = Scratch(end)
        end += -(-size // _ALIGNMENT_BYTES) * _ALIGNMENT_BYTES
    return places, end


@cache
def _kernels(shape: AttentionShape, capability: int) -> AttentionKernels:
    return attention_kernels(shape, capability)
