"""What shells complete: names of specs and repositories, engines, and keys of the spec.

A completion that fails would print a traceback at the prompt, so what is not installed is offered nothing.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, get_args

import click
from click.shell_completion import CompletionItem
from click.types import StringParamType

from qwen3_compile.engine.listing import engines_in
from qwen3_compile.places import engines_dir

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator


class ModelArgument(StringParamType):
    """What `build` takes, as it was typed."""

    name = "model"

    def shell_complete(
        self,
        ctx: click.Context,  # noqa: ARG002 - click's signature
        param: click.Parameter,  # noqa: ARG002
        incomplete: str,
    ) -> list[CompletionItem]:
        """Names of shipped specs, their repositories once one is begun, and files."""
        return [*_begun(_models(incomplete), incomplete), _files(incomplete)]


class EnginePath(click.Path):
    """An engine's directory."""

    def __init__(self) -> None:
        super().__init__(path_type=Path)

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:  # noqa: ARG002
        """Engines in ./build, the kept ones, and folders."""
        return [*_begun(_engines(incomplete), incomplete), CompletionItem(incomplete, type="dir")]


class EngineOrModel(ModelArgument):
    """What `run` takes."""

    name = "engine|model"

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        """Engines before models."""
        return [*_begun(_engines(incomplete), incomplete), *super().shell_complete(ctx, param, incomplete)]


class Override(StringParamType):
    """`key.path=value`, as it was typed."""

    name = "override"

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:  # noqa: ARG002
        """Keys of the spec; behind the equals sign the words that the key takes."""
        try:
            return _begun(_overrides(incomplete), incomplete)
        except ImportError:
            return []


def _models(incomplete: str) -> Iterable[str]:
    try:
        from qwen3_compile.spec.shipped import shipped_repositories, shipped_specs
    except ImportError:
        return ()
    return sorted(shipped_repositories().values() if incomplete.startswith("Q") else shipped_specs())


def _engines(incomplete: str) -> Iterator[str]:
    begun = Path(incomplete) if incomplete.endswith(os.sep) else Path(incomplete).parent
    folders = (Path("build"), engines_dir(), *([begun] if incomplete else []))
    return (str(engine.path) for engine in engines_in(folders) if engine.problem is None)


def _overrides(incomplete: str) -> Iterator[str]:
    from qwen3_compile.problem import dotted
    from qwen3_compile.spec.problems import all_keys, section_at
    from qwen3_compile.spec.schema import Spec

    key, equals, _ = incomplete.partition("=")
    for path in all_keys(Spec):
        if section_at(Spec, path) is not None:
            continue
        if not equals:
            yield f"{dotted(path)}="
        elif dotted(path) == key:
            section = section_at(Spec, path[:-1]) or Spec
            yield from (f"{key}={word}" for word in _words(section.model_fields[str(path[-1])].annotation))


def _words(annotation: object) -> Iterator[str]:
    """The literals in an annotation, as YAML; true and false of a switch."""
    if annotation is bool:
        yield from ("true", "false")
    for part in get_args(annotation):
        if isinstance(part, str | int) and not isinstance(part, bool):
            yield str(part)
        else:
            yield from _words(part)


def _begun(words: Iterable[str], incomplete: str) -> list[CompletionItem]:
    return [CompletionItem(word) for word in words if word.startswith(incomplete)]


def _files(incomplete: str) -> CompletionItem:
    return CompletionItem(incomplete, type="file")
