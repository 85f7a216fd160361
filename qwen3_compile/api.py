"""Compiling from Python: the command line's `build` as one call."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qwen3_compile import places
from qwen3_compile.build.orchestrate import EngineInfo, build
from qwen3_compile.resolve import resolve
from qwen3_compile.spec import Spec

if TYPE_CHECKING:
    from collections.abc import Sequence

    from qwen3_compile.build.progress import Progress


def compile_engine(
    model: str | os.PathLike[str] | Spec,
    output: str | os.PathLike[str] | None = None,
    *,
    overrides: Mapping[str, Any] | Sequence[str] = (),
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
        overrides: values by key of the spec, `{"precision.weights": "int8"}`, or `key.path=value` texts.
        validate: compare the engine with PyTorch and hold it to the spec's accuracy contract.
        force: replace an engine that is already there.
        threads: of packing and validation; default is one for each processor.
        cache: use and keep results of stages in the user's build cache.
        progress: told how it goes; default is silence.

    Returns:
        The engine's path, its manifest, and what validation measured.

    Raises:
        AccuracyError: the engine breaks the contract of its spec.
        CompileError: any other reason, in one line.
        TypeError: overrides for a `Spec`, which has its values already.
    """
    if isinstance(model, Spec):
        if overrides:
            raise TypeError("overrides are for a model that is named; give load_spec the overrides of a Spec")
        spec = model
    else:
        spec = resolve(os.fspath(model), _texts(overrides)).spec
    return build(
        spec,
        Path("build") / spec.name if output is None else Path(output),
        cache_dir=places.cache_dir() if cache else None,
        progress=progress,
        validate=validate,
        force=force,
        threads=threads,
    )


def _texts(overrides: Mapping[str, Any] | Sequence[str]) -> list[str]:
    """As `--set` takes them; JSON is YAML."""
    if isinstance(overrides, Mapping):
        return [f"{key}={json.dumps(value)}" for key, value in overrides.items()]
    return list(overrides)
