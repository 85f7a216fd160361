"""Standard ONNX operators only, for any ONNX tool."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qwen3_compile.targets.formats import Formats
from qwen3_compile.targets.target import Target
from qwen3_graphs.lower.onnx.formats import MATRICES

if TYPE_CHECKING:
    from collections.abc import Sequence

    from qwen3_compile.spec import Spec


class Onnx(Target):
    """A graph in standard operators. Our runtime executes it with ONNX Runtime on the CPU."""

    backend = "onnx"
    name = "onnx"
    summary = "standard operators only, for any ONNX tool"
    lowering = "onnx"
    formats = Formats(
        MATRICES,
        embeddings=MATRICES,
        activations=("fp32",),
        kv_cache=("fp32", "fp16"),
        activation_quantization=("none", "int8"),
        even_four_bit_outputs=True,
    )

    def quantizes_activations(self, kinds: Sequence[object]) -> bool:
        """Not by default: the graph is the same either way, and other tools do as they like."""
        return False

    def manifest_fields(self, spec: Spec) -> dict[str, Any]:
        """Whether activations are quantized: the graph does not say it, whoever opens the session chooses."""
        return {"activation_quantization": spec.precision.activation_quantization}
