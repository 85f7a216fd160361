"""What a target answers. Defaults are those of a target that ONNX Runtime executes on the CPU."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from qwen3_compile.problem import Problem
from qwen3_graphs.formats import INTEGERS

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    import onnx_ir as ir

    from qwen3_compile.spec import Spec
    from qwen3_compile.targets.formats import Formats
    from qwen3_graphs.lowered import Lowered, Plugins


class Target:
    """What an engine is compiled for: a backend, a provider, and whose operators run.

    One object for each combination. Spec, pipeline, manifest, validation and the command line ask it; none of them
    compares names. A subclass answers what differs from the defaults here.

    Attributes:
        backend: of the spec and the manifest.
        provider: where it runs.
        plugins: the values of `target.plugins` that it takes, the default first: `all` or `none`; TensorRT also takes
            a list of plugins (see `takes`).
        name: how tables and messages call it, unlike any other target.
        summary: what it is, for the spec's documentation.
        lowering: its name among `qwen3_graphs.lower.LOWERINGS`.
        formats: the number formats and shapes that it computes.
        needs: what `doctor` must find so that an engine runs, by the topic of the finding.
        builds_without: what of `needs` a build does without.
        tools: distributions whose versions an engine records, beside those of every engine.
        has_plan: whether the engine is a TensorRT plan beside its graph.
        scale_bits: bits of a scale of integers, for estimates.
        activations: default of `precision.activations`.
        kv_cache: default of `precision.kv_cache`; None: that of the activations.
        fp8_scales: default of `precision.fp8_scales`.
    """

    backend: str
    provider = "cpu"
    plugins: tuple[str, ...] = ("none",)
    name: str
    summary: str
    lowering: str
    formats: Formats
    needs: tuple[str, ...] = ("onnxruntime",)
    builds_without: tuple[str, ...] = ()
    tools: tuple[str, ...] = ()
    has_plan = False
    scale_bits = 32
    activations = "fp32"
    kv_cache: str | None = None
    fp8_scales = "block"

    def takes(self, plugins: object) -> bool:
        """Whether a value of `target.plugins` means this target."""
        return plugins in self.plugins

    def plugins_in_words(self) -> str:
        """What a message says of the values that `takes` accepts."""
        return " or ".join(self.plugins)

    # Defaults of the spec. Values may be of a wrong type: the schema reports that.

    def embedding(self, *, activations: object, lm_head: object, weights: object, tied: bool) -> object:
        """Default of `precision.embedding`."""
        return lm_head if tied else weights

    def group_size(self, kinds: Sequence[object]) -> int | str:
        """Default of `precision.group_size`, where one of the formats is an integer one."""
        return 32

    def quantizes_activations(self, kinds: Sequence[object]) -> bool:
        """Whether `precision.activation_quantization` is int8 by default; `kinds` are those of weights and lm_head."""
        return any(kind in INTEGERS for kind in kinds)

    def fill(self, section: dict[str, Any], spec: Mapping[str, Any]) -> dict[str, Any]:
        """Fill in the keys of `target` that depend on others; `spec` holds the other sections, already filled."""
        return section

    # Checks across keys.

    def problems(self, spec: Spec) -> Iterator[Problem]:
        """Yield what the target cannot do, beyond its formats."""
        yield from not_for_tensorrt(spec)
        precision = spec.precision
        if precision.activation_quantization == "int8" and not {precision.weights, precision.lm_head} & {*INTEGERS}:
            yield Problem(
                ("precision", "activation_quantization"),
                f"only activations of integer matrices are quantized, found 'int8' for {precision.weights}: omit it",
            )

    # The build.

    def check_machine(self, spec: Spec, *, validate: bool) -> None:
        """Refuse at once, not after minutes of packing, what could not be built or validated on this machine.

        Raises:
            UnsupportedError: a library, a compiler or a GPU is missing; says what to do.
        """

    def find_capabilities(self, spec: Spec) -> list[str] | None:
        """The GPU architectures of the plan; None for a target without one.

        Raises:
            UnsupportedError: plans for them cannot be built on this machine.
        """
        return None

    def calibrates(self, spec: Spec) -> bool:
        """Whether scales of activations are measured before packing."""
        return False

    def keeps_pre_scales(self, spec: Spec) -> bool:
        """Whether the graph multiplies activations by a checkpoint's pre-scales (AWQ), instead of its weights."""
        return False

    def lower(self, semantic: ir.Model, spec: Spec, *, pre_scaled: tuple[str, ...] = ()) -> Lowered:
        """Lower the semantic graph.

        Args:
            semantic: the graph of `qwen3_graphs.trace`.
            spec: gives number formats, limits and plugins.
            pre_scaled: matrices whose activations the graph multiplies by the checkpoint's pre-scales.

        Raises:
            LoweringError: the target cannot compute the model in this precision.
        """
        from qwen3_graphs.lower import lower

        precision = replace(spec.graph_precision(), pre_scaled=pre_scaled)
        return lower(semantic, self.lowering, precision, spec.graph_limits(), self.graph_plugins(spec))

    def graph_plugins(self, spec: Spec) -> Plugins | None:
        """Which operators a lowering of several kinds takes from our plugins; None where it has no choice."""
        return None

    def library(self) -> Path | None:
        """The library whose operators compute the engine; None where ONNX Runtime alone does."""
        return None

    def manifest_fields(self, spec: Spec) -> dict[str, Any]:
        """What the manifest's `target` says beside the spec's."""
        return {}


def not_for_tensorrt(spec: Spec) -> Iterator[Problem]:
    """Yield keys that only TensorRT has a use for."""
    for key in ("compute_capabilities", "profiles"):
        if getattr(spec.target, key) is not None:
            yield Problem(
                ("target", key),
                f"only TensorRT uses it, found backend {spec.target.backend}: omit it",
            )
    yield from not_calibrated(spec)


def not_calibrated(spec: Spec) -> Iterator[Problem]:
    """Yield prompts for a calibration that does not take place."""
    if spec.precision.calibration_prompts is not None:
        yield Problem(
            ("precision", "calibration_prompts"),
            "only scales of quantized activations are measured (TensorRT, activation_quantization fp8 or int8): "
            "omit it",
        )
