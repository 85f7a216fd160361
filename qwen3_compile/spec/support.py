"""What each backend accepts on each provider: the one place to edit when a lowering learns more."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

FLOATS = ("fp32", "fp16", "bf16")
INTEGERS = ("int8", "int4")
TENSORRT = ("tensorrt", "tensorrt-rtx")


@dataclass(frozen=True)
class Accepted:
    """What a backend computes on a provider.

    Attributes:
        weights: number formats of `precision.weights`; likewise the four that follow.
        lm_head: of the output matrix.
        embedding: of the input matrix.
        activations: of everything between matrices.
        kv_cache: of keys and values.
        activation_quantization: of the inputs of quantised matrices.
        group_sizes: of int8 and int4.
        fp8_scales: of fp8.
        capabilities: NVIDIA architectures that can be named; empty where the backend is for no GPU of its own.
        whole_expert_groups: integer experts need a group size that divides their inputs.
        rounded_int8_experts: int8 experts always round their inputs.
        even_int4_outputs: int4 matrices need an even number of outputs.
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
    rounded_int8_experts: bool = False
    even_int4_outputs: bool = False
    head_dims: range = range(2, 4097, 2)  # 4096 is the most that a manifest may say
    head_dims_fp16_cache: range | None = None

    def head_dims_with(self, kv_cache: str) -> range:
        """Widths of a head with keys and values stored in a format."""
        return self.head_dims_fp16_cache if kv_cache == "fp16" and self.head_dims_fp16_cache else self.head_dims


_ORT = (*FLOATS, *INTEGERS)
_OURS = (*FLOATS, "fp8", *INTEGERS)
_NVIDIA = ("fp16", "bf16", "fp8", *INTEGERS)

# Those that a TensorRT for RTX engine is built for unless the spec says otherwise: Ampere, Ada, Blackwell.
RTX_CAPABILITIES = ("8.0", "8.6", "8.9", "12.0")

# The first architecture with a number format; those of fp16 and int8 are older than any that TensorRT supports.
# The messages of TensorRT for RTX's builder say the same ("HW-specific datatypes: fp8_e4m3", "int4", "b16").
FIRST_CAPABILITY = {"fp8": "8.9", "int4": "8.0", "bf16": "8.0"}

# The first that our plugins' kernels are compiled for, and the first on which TensorRT multiplies float32 (the router).
EXPERTS_CAPABILITY = "8.0"

# Of its own attention: others have no kernel ("not supported by a dedicated kernel"; seen with TensorRT for RTX 1.7).
_TENSORRT_HEADS = range(16, 257, 8)

SUPPORT: dict[tuple[str, str], Accepted] = {
    ("ort-cpu", "cpu"): Accepted(
        _OURS,
        _OURS,
        _OURS,
        activations=("fp32",),
        kv_cache=("fp16", "int8"),
        activation_quantization=("int8", "none"),
        group_sizes=(32, 64, 128, "channel"),
        fp8_scales=("block", "channel"),
        head_dims=range(2, 1025, 2),
    ),
    ("ort", "cpu"): Accepted(
        _ORT,
        _ORT,
        _ORT,
        activations=("fp32",),
        kv_cache=("fp32", "fp16"),
        activation_quantization=("int8", "none"),
        group_sizes=(32, 64, 128),
        whole_expert_groups=True,
        rounded_int8_experts=True,
        head_dims=range(16, 4097, 16),
        head_dims_fp16_cache=range(8, 4097, 8),  # positions are turned outside GroupQueryAttention
    ),
    ("ort", "cuda"): Accepted(
        _NVIDIA,
        _NVIDIA,
        ("fp16", "bf16", *INTEGERS),
        activations=("fp16", "bf16"),
        kv_cache=("fp16", "bf16"),
        activation_quantization=("none",),
        group_sizes=(32, 64, 128),
        fp8_scales=("block", "channel"),
        whole_expert_groups=True,
        head_dims=range(16, 4097, 16),
    ),
    ("onnx", "cpu"): Accepted(
        _ORT,
        _ORT,
        _ORT,
        activations=("fp32",),
        kv_cache=("fp32", "fp16"),
        activation_quantization=("none", "int8"),
        group_sizes=(32, 64, 128, "channel"),
        even_int4_outputs=True,
    ),
    ("tensorrt", "cuda"): Accepted(
        _NVIDIA,
        _NVIDIA,
        embedding=("fp16", "bf16"),
        activations=("fp16", "bf16"),
        kv_cache=("fp16", "bf16"),
        activation_quantization=("int8", "fp8", "none"),
        group_sizes=(64, 128, "channel"),  # NVIDIA's documentation of int4: blocks of 64 or 128
        fp8_scales=("channel", "tensor"),
        capabilities=("7.5", "8.0", "8.6", "8.7", "8.9", "9.0", "10.0", "10.3", "11.0", "12.0", "12.1"),
        even_int4_outputs=True,
        head_dims=_TENSORRT_HEADS,
    ),
    ("tensorrt-rtx", "cuda"): Accepted(
        _NVIDIA,
        _NVIDIA,
        embedding=("fp16", "bf16"),
        activations=("fp16", "bf16"),
        kv_cache=("fp16", "bf16"),
        activation_quantization=("int8", "fp8", "none"),
        group_sizes=(32, 64, 128, "channel"),
        fp8_scales=("channel", "tensor"),
        capabilities=("7.5", "8.0", "8.6", "8.9", "12.0", "12.1"),
        even_int4_outputs=True,
        head_dims=_TENSORRT_HEADS,
    ),
}


def heads_in_words(widths: range) -> str:
    """What a table or a message says of widths of a head."""
    kind = "even numbers" if widths.step == 2 else f"multiples of {widths.step}"
    return f"{kind} from {widths.start} to {widths[-1]}"


def has_formats(capability: str, kinds: Iterable[object]) -> bool:
    """Whether an architecture, such as `8.9`, has every number format of `kinds`; what is no format is ignored."""
    first = (FIRST_CAPABILITY[kind] for kind in kinds if isinstance(kind, str) and kind in FIRST_CAPABILITY)
    return all(at_least(capability, needed) for needed in first)


def at_least(capability: str, needed: str) -> bool:
    """Whether an architecture is `needed` or newer."""
    return _number(capability) >= _number(needed)


def _number(capability: str) -> tuple[int, int]:
    major, minor = capability.split(".")
    return int(major), int(minor)
