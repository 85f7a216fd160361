"""Pack every weight into one file, a tensor at a time."""

from __future__ import annotations

from dataclasses import asdict
from itertools import count
from typing import TYPE_CHECKING, Any, ClassVar

from qwen3_compile.engine.files import check_space, copy_file, file_entry
from qwen3_compile.pipeline.fingerprint import code_fingerprint, tool_versions
from qwen3_compile.pipeline.stage import Stage
from qwen3_runtime.engine_files import MODEL, WEIGHTS

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from qwen3_compile.spec import Spec


class PackStage(Stage):
    """Makes `weights.bin`, and puts the graph beside it."""

    name: ClassVar[str] = "pack"

    def size(self) -> int:
        """Bytes of the file."""
        return self.build.weights_size

    def prepare(self) -> None:
        """Refuse what the disk cannot hold."""
        check_space(self.build.folder, self.build.weights_size)

    def inputs(self) -> Mapping[str, Any]:
        """The recipes, the checkpoint's files, and all that is computed."""
        build = self.build
        return {
            "recipes": [asdict(recipe) for recipe in build.recipes],
            "files": build.source["files"],
            "scales": build.scales,
            "pre_scaled": build.pre_scaled,
            "rope": [asdict(build.spec.graph_architecture()), build.spec.limits.max_context],
            "code": code_fingerprint(
                "qwen3_compile.pack", "qwen3_compile.quantize", "qwen3_compile.checkpoint", "qwen3_graphs.rope"
            ),
            "tools": tool_versions(("ml-dtypes", "numpy")),
        }

    def outputs(self) -> Mapping[str, Path]:
        """The weights."""
        return {"weights": self.build.folder / WEIGHTS}

    def produce(self) -> None:
        """Pack them.

        Raises:
            CheckpointError: a weight is not finite.
            CompileError: the disk is too small.
        """
        from qwen3_compile.checkpoint.input_scales import fold_pre_scales, with_input_scales
        from qwen3_compile.pack.stream import place, write_weights

        build = self.build
        placement = place(build.recipes)
        self._check_disks()
        write_weights(
            placement,
            with_input_scales(fold_pre_scales(build.checkpoint, build.pre_scaled), build.scales),
            build.folder / WEIGHTS,
            tables=_position_tables(build.spec),
            threads=build.threads,
            written=self._counted(placement.entries),
        )

    def finish(self) -> str:
        """Put the graph into the engine's folder."""
        build = self.build
        copy_file(build.scratch / MODEL, build.folder / MODEL)
        build.files |= {name: file_entry(build.folder / name) for name in (MODEL, WEIGHTS)}
        return f"{build.weights_size / 1e6:.1f} MB"

    def _counted(self, total: int) -> Callable[[int], None]:
        done = count(1)
        return lambda size: self.build.progress.advance(size, f"{next(done)} of {total} tensors")

    def _check_disks(self) -> None:
        """The cache holds the weights again."""
        folder, root, needed = self.build.folder, self.build.cache.root, self.build.weights_size
        if root is not None:
            if root.stat().st_dev == folder.stat().st_dev:
                needed *= 2
            else:
                check_space(root, needed)
        check_space(folder, needed)


def _position_tables(spec: Spec) -> dict[str, Any]:
    from qwen3_graphs.rope import rope_tables

    cos, sin = rope_tables(spec.graph_architecture(), spec.limits.max_context)
    return {"rope_cos": cos, "rope_sin": sin}
