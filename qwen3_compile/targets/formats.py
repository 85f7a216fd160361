"""The number formats and shapes that a target computes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from qwen3_graphs.formats import WeightFormat


@dataclass(frozen=True)
class Formats:
    """What a target computes.

    Attributes:
        matrices: what its lowering computes of matrices and of the head: the formats of `precision.weights` and
            `precision.lm_head`, with their scales.
        embeddings: what it computes of the input matrix.
        activations: number formats of everything between matrices.
        kv_cache: of keys and values.
        activation_quantization: of the activations that quantized matrices are multiplied with.
        capabilities: NVIDIA architectures that can be named; empty where the target is for no GPU of its own.
        whole_expert_groups: experts in integers need a group size that divides their inputs.
        quantized_int8_experts: int8 experts always have quantized activations.
        even_four_bit_outputs: matrices of four bits need an even number of outputs.
        head_dims: widths of a head that its attention computes.
        head_dims_fp16_cache: the same where keys and values are stored in fp16; None: no others.
    """

    matrices: tuple[WeightFormat, ...]
    embeddings: tuple[WeightFormat, ...]
    activations: tuple[str, ...]
    kv_cache: tuple[str, ...]
    activation_quantization: tuple[str, ...]
    capabilities: tuple[str, ...] = ()
    whole_expert_groups: bool = False
    quantized_int8_experts: bool = False
    even_four_bit_outputs: bool = False
    head_dims: range = range(2, 4097, 2)  # 4096 is the most that a manifest may say
    head_dims_fp16_cache: range | None = None

    @property
    def weights(self) -> tuple[str, ...]:
        """Kinds of `precision.weights`."""
        return _kinds(self.matrices)

    @property
    def lm_head(self) -> tuple[str, ...]:
        """Kinds of `precision.lm_head`."""
        return _kinds(self.matrices)

    @property
    def embedding(self) -> tuple[str, ...]:
        """Kinds of `precision.embedding`."""
        return _kinds(self.embeddings)

    @property
    def group_sizes(self) -> tuple[int | str, ...]:
        """Values of `precision.group_size`; `channel` is per-channel."""
        sizes = {fmt.group_size for fmt in self.matrices if fmt.is_integer}
        return (*sorted(sizes - {0}), *(["channel"] if 0 in sizes else []))

    @property
    def fp8_scales(self) -> tuple[str, ...]:
        """Values of `precision.fp8_scales`: what shares a scale of fp8."""
        return tuple(str(fmt.granularity).removeprefix("per-") for fmt in self.matrices if fmt.kind == "fp8")

    def head_dims_with(self, kv_cache: str) -> range:
        """Widths of a head with keys and values stored in a format."""
        return self.head_dims_fp16_cache if kv_cache == "fp16" and self.head_dims_fp16_cache else self.head_dims


def _kinds(formats: tuple[WeightFormat, ...]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(fmt.kind for fmt in formats))


def heads_in_words(widths: range) -> str:
    """What a table or a message says of widths of a head."""
    kind = "even numbers" if widths.step == 2 else f"multiples of {widths.step}"
    return f"{kind} from {widths.start} to {widths[-1]}"
