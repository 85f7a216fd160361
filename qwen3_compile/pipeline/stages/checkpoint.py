"""Open the checkpoint, and check its text files before a byte of its weights is downloaded or read."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from qwen3_compile.checkpoint import open_checkpoint
from qwen3_compile.checkpoint.input_scales import pre_scaled
from qwen3_compile.engine.manifest import source_record
from qwen3_compile.pipeline.lock import check_source, check_spec, pinned_source
from qwen3_compile.pipeline.stage import Stage
from qwen3_compile.pipeline.text_assets import checked_text
from qwen3_compile.spec.rope_scaling import scaling_note, with_own_scaling

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path


class CheckpointStage(Stage):
    """Finds the weights and what defines them; a locked build holds them to the engine's."""

    name: ClassVar[str] = "checkpoint"

    def produce(self) -> None:
        """Open the checkpoint and hash its files."""
        build = self.build
        spec, locked = build.spec, build.locked

        def examine(assets: Mapping[str, Path]) -> None:
            build.text = checked_text(spec, assets, capabilities=build.capabilities)

        build.checkpoint = open_checkpoint(
            spec.model.source if locked is None else pinned_source(locked, spec.model.source),
            base_dir=spec.base_dir,
            expected=spec.graph_architecture(),
            tokenizer=spec.model.tokenizer,
            examine=examine,
        )
        self._notes = scaling_note(spec, build.checkpoint.architecture)
        build.spec = with_own_scaling(spec, build.checkpoint.architecture)
        build.source = source_record(build.checkpoint)
        if locked is not None:
            check_source(locked, build.source, build.text.entries())
            check_spec(locked, build.spec.resolved())
        build.pre_scaled = pre_scaled(build.checkpoint) if build.target.keeps_pre_scales(build.spec) else ()

    def finish(self) -> str:
        """The source, its size and what is unusual about it."""
        build = self.build
        size = sum(file["size"] for file in build.source["files"]) / 1e6
        found = [*build.checkpoint.notes, *self._notes, *build.text.notes]
        return "; ".join([f"{build.source['uri']}, {size:.1f} MB", *found])
