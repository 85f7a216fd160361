"""Compiling from Python: the command line's `build` as one call."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from qwen3_compile import places
from qwen3_compile.pipeline.orchestrate import EngineInfo, build
from qwen3_compile.resolve import resolve
from qwen3_compile.spec import Spec
from qwen3_compile.spec.load import override_texts

if TYPE_CHECKING:
    from qwen3_compile.pipeline.progress import Progress
    from qwen3_compile.spec.load import Overrides


def compile_engine(
    model: str | os.PathLike[str] | Spec,
    output: str | os.PathLike[str] | None = None,
    *,
    overrides: Overrides = (),
    validate: bool = True,
    force: bool = False,
    threads: int | None = None,
    cache: bool = True,
    progress: Progress | None = None,
) -> EngineInfo:
    """Compile a model into an engine directory, which appears whole or not at all.

    Args:
        model: a spec file, a shipped spec's name, a checkpoint folder, `org/name[@revision]` of the Hugging Face Hub,
            or a spec from `load_spec`.
        output: the engine's directory; default is `build/<name>`.
        overrides: values by key of the spec, `{"precision.weights": "int8"}` or nested, or `key.path=value` texts; as
            in `load_spec`.
        validate: compare the engine with PyTorch and judge it by the spec's accuracy limits.
        force: replace an engine that is already there.
        threads: of packing and validation; default is one for each physical core.
        cache: use and keep results of stages in the user's build cache.
        progress: told how it goes; default is silence.

    Returns:
        The engine's path, its manifest, and what validation measured.

    Raises:
        AccuracyError: the engine misses the accuracy limits of its spec.
        CompileError: any other reason, in one line.
        TypeError: overrides for a `Spec`, which has its values already.
    """
    if isinstance(model, Spec):
        if overrides:
            raise TypeError("overrides are for a model that is named; give load_spec the overrides of a Spec")
        spec = model
    else:
        spec = resolve(os.fspath(model), override_texts(overrides)).spec
    return build(
        spec,
        Path("build") / spec.name if output is None else Path(output),
        cache_dir=places.cache_dir() if cache else None,
        progress=progress,
        validate=validate,
        force=force,
        threads=threads,
    )
