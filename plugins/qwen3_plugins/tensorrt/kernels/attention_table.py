"""The attention kernels of the released models' shapes: what the compile table shows and the tests compile."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qwen3_plugins.tensorrt.kernels.attention import AttentionShape, attention_kernels

if TYPE_CHECKING:
    from collections.abc import Iterator

    from qwen3_plugins.tensorrt.kernels.kernel import Kernel

_HEADS = {
    "qwen3-0.6b": (16, 8),  # and 1.7B
    "qwen3-8b": (32, 8),  # and 4B
    "qwen3-14b": (40, 8),
    "qwen3-32b": (64, 8),
    "qwen3-30b-a3b": (32, 4),
    "qwen3-235b-a22b": (64, 4),
}
"""Query heads and key heads, from each model's config.json (`num_attention_heads`, `num_key_value_heads`)."""


def table(capability: int) -> Iterator[tuple[str, Kernel]]:
    """Each released shape in float16, and the widest and the narrowest group in bfloat16; head_dim is 128 in all."""
    for name, (heads, kv_heads) in _HEADS.items():
        types = ("fp16", "bf16") if name in ("qwen3-0.6b", "qwen3-235b-a22b") else ("fp16",)
        for kind in types:
            made = attention_kernels(AttentionShape(heads, kv_heads, 128, 16, 1e-6, kind), capability)
            for kernel in (made.append, made.split, made.attend):
                yield f"{name}-{kind}", kernel
