"""The number formats and shapes that a target computes."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Formats:
    """What a target computes.

    Attributes:
        weights: number formats of `precision.weights`; likewise the four that follow.
        lm_head: of the output matrix.
        embedding: of the input matrix.
        activations: of everything between matrices.
        kv_cache: of keys and values.
        activation_quantization: of the activations that quantized matrices are multiplied with.
        group_sizes: of integer formats; `channel` is per-channel.
        fp8_scales: of fp8.
        capabilities: NVIDIA architectures that can be named; empty where the target is for no GPU of its own.
        whole_expert_groups: experts in integers need a group size that divides their inputs.
        quantized_int8_experts: int8 experts always have quantized activations.
        even_four_bit_outputs: matrices of four bits need an even number of outputs.
        head_dims: widths of a head that its attention computes.
        head_dims_fp16_cache: the same where keys and values are stored in fp16; None: no others.
    """

    weights: tuple[str, ...]
    lm_head: tuple[str, ...]
    embedding: tuple[str, ...]
    activations: tuple[str, ...]
    kv_cache: tuple[str, ...]
    activation_quantization: tuple[str, ...]
    group_sizes: tuple[int | str, ...]
    fp8_scales: tuple[str, ...] = ()
    capabilities: tuple[str, ...] = ()
    whole_expert_groups: bool = False
    quantized_int8_experts: bool = False
    even_four_bit_outputs: bool = False
    head_dims: range = range(2, 4097, 2)  # 4096 is the most that a manifest may say
    head_dims_fp16_cache: range | None = None

    def head_dims_with(self, kv_cache: str) -> range:
        """Widths of a head with keys and values stored in a format."""
        return self.head_dims_fp16_cache if kv_cache == "fp16" and self.head_dims_fp16_cache else self.head_dims


def heads_in_words(widths: range) -> str:
    """What a table or a message says of widths of a head."""
    kind = "even numbers" if widths.step == 2 else f"multiples of {widths.step}"
    return f"{kind} from {widths.start} to {widths[-1]}"
