"""Tiny engines of the TensorRT targets with our plugins, executed on CPU by ONNX Runtime: packed steps, paged cache."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import onnx
import onnxruntime as ort
from lowered_engine import DENSE, LIMITS, MOE, attach, semantic
from steps import STEP, PackedStep, Paging, feed

from qwen3_graphs.formats import WeightFormat
from qwen3_graphs.lower import lower
from qwen3_graphs.lowered import Plugins, Precision

if TYPE_CHECKING:
    from collections.abc import Sequence

    from qwen3_graphs.architecture import Architecture

BLOCK = 16
ATTENTION = Plugins(attention=True, block_size=BLOCK)
BOTH = Plugins(attention=True, moe=True, block_size=BLOCK)

# The kernels take heads of 64 and 128.
WIDE = replace(DENSE, head_dim=64, tie_word_embeddings=True)
EXPERTS = replace(MOE, head_dim=64, moe_intermediate_size=64)


def precision(activations: str, weights: WeightFormat | None = None) -> Precision:
    """Weight-only, everything else in the type of the activations."""
    plain = WeightFormat(activations)
    return Precision(weights or plain, weights or plain, plain, activations, activations, quantized_activations=False)


def imported(
    architecture: Architecture, formats: Precision, plugins: Plugins, *, output: str = "logits"
) -> onnx.ModelProto:
    """The file, its weights inside."""
    return attach(lower(semantic(architecture, output), "tensorrt", formats, LIMITS, plugins), architecture)


@dataclass
class PluginEngine:
    """A session of a packed file; caches are replaced by what a step returns."""

    architecture: Architecture
    formats: Precision
    session: ort.InferenceSession

    def feed(
        self, sequences: Sequence[np.ndarray], *, seed: int, largest_chunk: int
    ) -> list[tuple[int, int, np.ndarray]]:
        """Feed all sequences by a random schedule over a permuted pool; rows as (sequence, position, output)."""
        rng = np.random.default_rng(seed)
        paging = Paging.shuffled([len(tokens) for tokens in sequences], BLOCK, rng)
        caches = self._caches(paging)
        return feed(lambda step: self._run(step, caches), sequences, paging, rng, largest_chunk)

    def _caches(self, paging: Paging) -> dict[str, ort.OrtValue]:
        """Caches full of values that would show if they were ever read."""
        shape = (paging.num_blocks, 2, self.architecture.num_key_value_heads, BLOCK, self.architecture.head_dim)
        kind, bits = {
            "fp16": (onnx.TensorProto.FLOAT16, np.full(shape, np.nan, np.float16)),
            "bf16": (onnx.TensorProto.BFLOAT16, np.full(shape, 0x7FC0, np.uint16)),
        }[self.formats.kv_cache]
        return {
            f"kv.{layer}": ort.OrtValue.ortvalue_from_numpy_with_onnx_type(bits, kind)
            if kind == onnx.TensorProto.BFLOAT16
            else ort.OrtValue.ortvalue_from_numpy(bits)
            for layer in range(self.architecture.num_hidden_layers)
        }

    def _run(self, step: PackedStep, caches: dict[str, ort.OrtValue]) -> np.ndarray:
        given = {name: ort.OrtValue.ortvalue_from_numpy(np.ascontiguousarray(getattr(step, name))) for name in STEP}
        names = [output.name for output in self.session.get_outputs()]
        found = dict(zip(names, self.session.run_with_ort_values(None, given | caches), strict=True))
        for name in caches:
            caches[name] = found[name.replace("kv.", "kv_out.")]
        return found[names[0]].numpy()


def opened(architecture: Architecture, formats: Precision, plugins: Plugins, *, output: str = "logits") -> PluginEngine:
    """The file opened by ONNX Runtime, which runs the functions of its plugins' nodes."""
    return PluginEngine(architecture, formats, session(imported(architecture, formats, plugins, output=output)))


def session(proto: onnx.ModelProto) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_BASIC
    return ort.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])
