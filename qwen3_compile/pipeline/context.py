"""What the stages of one build share: what was asked, and what the stages before have made of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from qwen3_compile.engine.manifest import manifest_document, write_manifest
from qwen3_compile.pipeline.cache import Cache
from qwen3_compile.pipeline.fingerprint import TOOLS, tool_versions
from qwen3_compile.pipeline.progress import Progress, Silent
from qwen3_compile.targets import target_of
from qwen3_runtime.backends.cores import physical_cores

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from qwen3_compile.checkpoint.protocol import Checkpoint
    from qwen3_compile.pipeline.text_assets import TextAssets
    from qwen3_compile.spec import Spec
    from qwen3_compile.targets import Target
    from qwen3_compile.tensorrt import PlanFacts
    from qwen3_compile.validate.report import AccuracyReport
    from qwen3_graphs.lowered import WeightRecipe
    from qwen3_runtime.manifest import FileEntry, Manifest


@dataclass
class BuildContext:
    """One build. Fields without a default are what was asked; each other one is filled by the stage that it names.

    Attributes:
        spec: what is built. The checkpoint stage may add the scaling of RoPE that the checkpoint has.
        target: what it is compiled for.
        cache: results of earlier builds.
        progress: told how it goes.
        threads: of packing and validation.
        tools: version by distribution, as the manifest records them.
        capabilities: GPU architectures of a TensorRT plan; None for a target without one.
        locked: manifest of an engine that is to be built again.
        scratch: a folder for what is no part of the engine.
        checkpoint: the weights (checkpoint).
        text: tokenizer, configuration and chat template (checkpoint).
        source: identity of the weights, as the manifest records it (checkpoint, calibrate).
        pre_scaled: matrices whose activations the graph multiplies by the checkpoint's pre-scales (checkpoint).
        recipes: how every weight is made (lower).
        weights_size: bytes of `weights.bin` (lower).
        scales: scales of quantized activations by name (calibrate).
        folder: the engine in the making; it is there once its graph is known.
        files: identities of the engine's files so far.
        plan: what TensorRT built (plan).
        notes: paragraphs of the report (plan).
        accuracy: what validation measured (validate).
    """

    spec: Spec
    target: Target
    cache: Cache
    progress: Progress
    threads: int
    tools: Mapping[str, str]
    capabilities: Sequence[str] | None
    locked: Manifest | None
    scratch: Path
    checkpoint: Checkpoint = field(init=False)
    text: TextAssets = field(init=False)
    source: dict[str, Any] = field(init=False)
    pre_scaled: tuple[str, ...] = ()
    recipes: tuple[WeightRecipe, ...] = ()
    weights_size: int = 0
    scales: dict[str, float] = field(default_factory=dict)
    folder: Path = field(init=False)
    files: dict[str, FileEntry] = field(default_factory=dict)
    plan: PlanFacts | None = None
    notes: tuple[str, ...] = ()
    accuracy: AccuracyReport | None = None

    @classmethod
    def of(
        cls,
        spec: Spec,
        scratch: Path,
        *,
        cache: Cache | None = None,
        progress: Progress | None = None,
        threads: int | None = None,
        locked: Manifest | None = None,
        capabilities: Sequence[str] | None = None,
    ) -> BuildContext:
        """A build of a spec with the defaults of `pipeline.build`; without a cache nothing is kept."""
        target = target_of(spec.target)
        return cls(
            spec=spec,
            target=target,
            cache=cache or Cache(None),
            progress=progress or Silent(),
            threads=threads or physical_cores(),
            tools=tool_versions((*TOOLS, *target.tools)),
            capabilities=capabilities,
            locked=locked,
            scratch=scratch,
        )

    def write_manifest(self, *, verified: bool) -> dict[str, Any]:
        """Write `manifest.json` into the engine's folder, with the files so far; returns it as JSON values."""
        document = manifest_document(
            self.spec,
            source=self.source,
            tools=self.tools,
            tokens=self.text.tokens,
            files=dict(sorted(self.files.items())),
            verified=verified,
            capabilities=self.capabilities,
        )
        write_manifest(document, self.folder)
        return document
