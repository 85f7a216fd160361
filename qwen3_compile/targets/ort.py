"""ONNX Runtime: our operators on the CPU, or its own on the CPU and on CUDA."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qwen3_compile.errors import UnsupportedError
from qwen3_compile.problem import Problem
from qwen3_compile.targets.formats import Formats
from qwen3_compile.targets.target import Target
from qwen3_graphs.formats import FLOATS, INTEGERS
from qwen3_graphs.lower.ort import formats as ort
from qwen3_graphs.lower.ort_plugins import formats as ort_plugins

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from qwen3_compile.spec import Spec


class OrtPlugins(Target):
    """Our operators for ONNX Runtime on the CPU: packed steps over a paged cache."""

    backend = "ort"
    plugins = ("all",)
    name = "ort with plugins"
    summary = "ONNX Runtime with our operators"
    lowering = "ort_plugins"
    formats = Formats(
        ort_plugins.MATRICES,
        embeddings=ort_plugins.MATRICES,
        activations=("fp32",),
        kv_cache=("fp16", "int8"),
        activation_quantization=("int8", "none"),
        head_dims=range(2, 1025, 2),
    )
    needs = ("onnxruntime", "operators")
    scale_bits = 16
    kv_cache = "fp16"

    def problems(self, spec: Spec) -> Iterator[Problem]:
        """Yield what our operators cannot do."""
        yield from super().problems(spec)
        yield from _whole_blocks(spec)

    def check_machine(self, spec: Spec, *, validate: bool) -> None:
        """Refuse to validate with operators that were not compiled on this machine."""
        from qwen3_plugins.ort import why_missing

        if validate and self.library() is None:
            raise UnsupportedError(why_missing())

    def library(self) -> Path | None:
        """The library of our operators, if it was compiled on this machine."""
        from qwen3_plugins.ort import library_path

        return library_path()


class OrtCpu(Target):
    """Operators inside ONNX Runtime, on the CPU: GroupQueryAttention, MatMulNBits, QMoE."""

    backend = "ort"
    name = "ort"
    summary = "ONNX Runtime with its own operators"
    lowering = "ort"
    formats = Formats(
        ort.CPU,
        embeddings=ort.CPU,
        activations=("fp32",),
        kv_cache=("fp32", "fp16"),
        activation_quantization=("int8", "none"),
        whole_expert_groups=True,
        quantized_int8_experts=True,
        head_dims=range(16, 4097, 16),
        head_dims_fp16_cache=range(8, 4097, 8),  # positions are turned outside GroupQueryAttention
    )


class OrtCuda(Target):
    """Operators inside ONNX Runtime, on CUDA: one type for all that is not quantized."""

    backend = "ort"
    provider = "cuda"
    name = "ort on cuda"
    summary = "ONNX Runtime with its own operators, on CUDA"
    lowering = "ort"
    formats = Formats(
        ort.CUDA,
        embeddings=ort.CUDA_EMBEDDINGS,
        activations=("fp16", "bf16"),
        kv_cache=("fp16", "bf16"),
        activation_quantization=("none",),
        whole_expert_groups=True,
        head_dims=range(16, 4097, 16),
    )
    needs = ("onnxruntime", "CUDA provider")
    builds_without = ("CUDA provider",)
    activations = "fp16"

    def embedding(self, *, activations: object, lm_head: object, weights: object, tied: bool) -> object:
        """As elsewhere, but rows of fp8 cannot be looked up."""
        chosen = super().embedding(activations=activations, lm_head=lm_head, weights=weights, tied=tied)
        return activations if chosen == "fp8" else chosen

    def quantizes_activations(self, kinds: Sequence[object]) -> bool:
        """Never: its operators multiply float activations."""
        return False

    def problems(self, spec: Spec) -> Iterator[Problem]:
        """Yield what ONNX Runtime's CUDA operators would refuse."""
        yield from super().problems(spec)
        yield from _whole_blocks(spec)
        yield from _one_float(spec)
        if spec.model.architecture.num_experts:
            yield from _cuda_experts(spec)

    def check_machine(self, spec: Spec, *, validate: bool) -> None:
        """Refuse to validate on another provider: its arithmetic would not be that of the engine."""
        from qwen3_runtime.backends.ort.session import require_provider
        from qwen3_runtime.errors import EngineError

        if not validate:
            return
        try:
            require_provider("CUDAExecutionProvider")
        except EngineError as error:
            raise UnsupportedError(
                f"validation runs the engine: {error}; or build it here with --no-validate, "
                "and run `qwen3-compile validate` there"
            ) from error


def _whole_blocks(spec: Spec) -> Iterator[Problem]:
    """Queries and keys are one matrix in the engine, of which 16 rows share the scale of an fp8 block."""
    architecture, precision = spec.model.architecture, spec.precision
    if precision.weights != "fp8" or precision.fp8_scales != "block":
        return
    rows = architecture.num_key_value_heads * architecture.head_dim
    if rows % 16:
        yield Problem(
            ("precision", "fp8_scales"),
            f"block needs num_key_value_heads * head_dim ({rows}) to be a multiple of 16: use channel",
        )


def _one_float(spec: Spec) -> Iterator[Problem]:
    precision = spec.precision
    if precision.activations == "fp32":
        return  # reported where formats are checked
    for key in ("kv_cache", "weights", "lm_head", "embedding"):
        kind = getattr(precision, key)
        if kind in FLOATS and kind != precision.activations:
            yield Problem(
                ("precision", key),
                f"expected {precision.activations} like the activations (ONNX Runtime's CUDA operators take one type), "
                f"found {kind!r}",
            )


def _cuda_experts(spec: Spec) -> Iterator[Problem]:
    precision = spec.precision
    sizes = [fmt.group_size for fmt in ort.CUDA_EXPERTS if fmt.kind == precision.weights]
    if precision.weights == "fp8":
        yield Problem(
            ("precision", "weights"),
            "onnxruntime-gpu 1.31 is released without fp8 experts: use int8, int4, fp16 or bf16, found 'fp8'",
        )
    if precision.weights in INTEGERS and precision.group_size not in sizes:
        yield Problem(
            ("precision", "group_size"),
            f"ort on cuda supports experts in groups of {' or '.join(map(str, sizes))}, found {precision.group_size!r}",
        )
    if not spec.model.architecture.norm_topk_prob:
        yield Problem(
            ("model", "architecture", "norm_topk_prob"),
            "ort on cuda renormalizes the routing weights: expected true, found false",
        )
