"""NVIDIA TensorRT: a plan beside the graph, with TensorRT's own layers or with our plugins."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, get_args

from qwen3_compile.problem import Problem
from qwen3_compile.targets.formats import Formats
from qwen3_compile.targets.target import Target
from qwen3_compile.targets.tensorrt import capabilities
from qwen3_compile.targets.tensorrt.checks import tensorrt_problems
from qwen3_graphs.formats import INTEGERS, KINDS
from qwen3_graphs.lower.tensorrt.formats import EMBEDDINGS, MATRICES
from qwen3_graphs.lowered import Plugins
from qwen3_plugins.tensorrt.bindings.capabilities import built_by
from qwen3_runtime.manifest import PluginName

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from qwen3_compile.spec import Spec


class TensorRt(Target):
    """TensorRT, built on the GPU that runs the engine."""

    backend = "tensorrt"
    provider = "cuda"
    plugins = ("none", "all")
    name = "tensorrt"
    summary = "NVIDIA TensorRT, built on the GPU that runs it"
    lowering = "tensorrt"
    formats = Formats(
        tuple(fmt for fmt in MATRICES if fmt.group_size != 32),  # NVIDIA's documentation of int4: blocks of 64 or 128
        embeddings=EMBEDDINGS,
        activations=("fp16", "bf16"),
        kv_cache=("fp16", "bf16"),
        activation_quantization=("int8", "fp8", "none"),
        capabilities=built_by("tensorrt"),
        even_four_bit_outputs=True,
        # Of its own attention: others have no kernel ("not supported by a dedicated kernel"; seen with TensorRT for
        # RTX 1.7).
        head_dims=range(16, 257, 8),
    )
    needs = ("tensorrt", "NVIDIA GPU")
    tools = ("tensorrt",)
    has_plan = True
    activations = "fp16"
    fp8_scales = "channel"

    def takes(self, plugins: object) -> bool:
        """`all`, `none`, or a list of the plugins to use."""
        return plugins in self.plugins or isinstance(plugins, list)

    def plugins_in_words(self) -> str:
        """`none`, `all`, or a list."""
        return f"{', '.join(self.plugins)} or a list of {' and '.join(get_args(PluginName))}"

    def embedding(self, *, activations: object, lm_head: object, weights: object, tied: bool) -> object:
        """As the activations: rows are looked up, and TensorRT casts nothing."""
        return activations

    def group_size(self, kinds: Sequence[object]) -> int | str:
        """128 where a kind of weights has groups only; int8 is per-channel."""
        scaled = [KINDS[kind] for kind in kinds if isinstance(kind, str) and kind in INTEGERS]
        return 128 if any("per-channel" not in kind.granularities for kind in scaled) else "channel"

    def quantizes_activations(self, kinds: Sequence[object]) -> bool:
        """Not by default: it takes a calibration."""
        return False

    def fill(self, section: dict[str, Any], spec: Mapping[str, Any]) -> dict[str, Any]:
        """Fill in architectures and profiles."""
        filled = dict(section)
        if filled.get("compute_capabilities") is None:
            filled["compute_capabilities"] = self.default_capabilities(spec)
        if isinstance(profiles := filled.get("profiles") or {}, dict):
            limits = spec.get("limits")
            limits = limits if isinstance(limits, dict) else {}
            sizes = {
                "prefill_batch": 1,
                "prefill_tokens": limits.get("max_step_tokens"),
                "decode_batch": limits.get("max_batch"),
            }
            filled["profiles"] = sizes | profiles
        return filled

    def default_capabilities(self, spec: Mapping[str, Any]) -> list[str]:
        """None: those of the GPU of the machine that builds."""
        return []

    def problems(self, spec: Spec) -> Iterator[Problem]:
        """Yield what TensorRT would refuse."""
        known, given = self.formats.capabilities, spec.target.compute_capabilities or []
        key = ("target", "compute_capabilities")
        for capability in dict.fromkeys(given):
            if capability not in known:
                hint = self._who_has(capability)
                yield Problem(key, f"{self.name} builds for {', '.join(known)}, found {capability!r}{hint}")
            if given.count(capability) > 1:
                yield Problem(key, f"{capability} is named twice")
        yield from self._count(given)
        yield from tensorrt_problems(spec, known)

    def find_capabilities(self, spec: Spec) -> list[str]:
        """The architectures that the spec names, or that of the GPU here."""
        from qwen3_compile.tensorrt.availability import find_capabilities

        return find_capabilities(self.backend, spec.target.compute_capabilities or [])

    def calibrates(self, spec: Spec) -> bool:
        """Whether activations are quantized: each matrix has one calibrated scale of its activations."""
        return spec.precision.activation_quantization != "none"

    def keeps_pre_scales(self, spec: Spec) -> bool:
        """Where activations are not quantized as well."""
        return not self.calibrates(spec)

    def graph_plugins(self, spec: Spec) -> Plugins:
        """Attention and experts, as the spec says; a dense model has no experts."""
        moe = spec.has_plugin("moe") and spec.model.architecture.num_experts > 0
        return Plugins(attention=spec.has_plugin("attention"), moe=moe)

    def _count(self, given: Sequence[str]) -> Iterator[Problem]:
        if len(given) > 1:
            yield Problem(
                ("target", "compute_capabilities"),
                f"{self.name} builds for this machine's GPU, found {len(given)} compute capabilities: name at most one",
            )

    def _who_has(self, capability: str) -> str:
        others = [other for other in (TENSORRT, TENSORRT_RTX) if capability in other.formats.capabilities]
        return f" (which {others[0].name} has)" if others else ""


class TensorRtRtx(TensorRt):
    """TensorRT for RTX, built without a GPU and for several at once."""

    backend = "tensorrt-rtx"
    name = "tensorrt-rtx"
    summary = "TensorRT for RTX, built without a GPU"
    formats = replace(TensorRt.formats, matrices=MATRICES, capabilities=built_by("tensorrt-rtx"))
    needs = ("tensorrt-rtx", "NVIDIA GPU")
    builds_without = ("NVIDIA GPU",)
    tools = ("tensorrt-rtx",)

    def default_capabilities(self, spec: Mapping[str, Any]) -> list[str]:
        """Those that have the number formats."""
        precision = spec.get("precision")
        kinds = list(precision.values()) if isinstance(precision, dict) else []
        return [each for each in capabilities.RTX_DEFAULT if capabilities.has_formats(each, kinds)]

    def _count(self, given: Sequence[str]) -> Iterator[Problem]:
        if not given:
            yield Problem(
                ("target", "compute_capabilities"),
                f"expected at least one: {self.name} builds without a GPU and cannot detect it",
            )


TENSORRT, TENSORRT_RTX = TensorRt(), TensorRtRtx()
