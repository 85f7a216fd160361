"""The public API of a package as Markdown: what its `__all__` names, with signatures and docstrings."""

from __future__ import annotations

import dataclasses
import inspect
from importlib import import_module
from typing import TYPE_CHECKING, Any

from docstrings import render

if TYPE_CHECKING:
    from collections.abc import Iterator

PAGES = {"api.md": "qwen3_compile", "runtime-api.md": "qwen3_runtime"}
OURS = ("qwen3_compile", "qwen3_graphs", "qwen3_runtime")
_WIDTH = 100


def page(package: str) -> str:
    """The page of one package, in alphabetical order; `__version__` has a line of its own at the end."""
    module = import_module(package)
    head = [
        f"# API of `{package}`",
        "Generated from the docstrings by `python docs/generate`. Whatever is not named here may change.",
    ]
    names = sorted((name for name in module.__all__ if name != "__version__"), key=str.lower)
    blocks = [block for name in names for block in _entry(name, getattr(module, name))]
    tail = ["## `__version__`", "The version as text, such as `0.1.0`."]
    return "\n\n".join([*head, *blocks, *tail]) + "\n"


def _entry(name: str, thing: Any) -> Iterator[str]:  # noqa: ANN401 - whatever a package names
    yield f"## `{name}`"
    if inspect.isclass(thing):
        yield from _class(thing)
    elif inspect.isfunction(thing):
        yield _code(name, inspect.signature(thing))
        yield from render(thing.__doc__)
    else:  # a union of types
        yield f"`{name} = {' | '.join(each.__name__ for each in thing.__args__)}`"


def _class(kind: type) -> Iterator[str]:
    bases = [base.__name__ for base in kind.__bases__ if base.__module__.startswith(OURS) or base is TypeError]
    if bases:
        yield f"A subclass of {' and '.join(f'`{base}`' for base in bases)}."
    if hasattr(kind, "model_fields"):
        yield "Its keys are those of [the spec](../spec.md)."
    if dataclasses.is_dataclass(kind):
        yield _code(kind.__name__, inspect.signature(kind))
    yield from render(kind.__doc__)
    if isinstance(code := vars(kind).get("code"), str):
        yield f"Its `code` is `{code}`."
    for name, member in sorted(_members(kind).items()):
        if isinstance(member, property):
            annotation = getattr(member.fget, "__annotations__", {}).get("return", "")
            yield f"### `{kind.__name__}.{name}`: `{annotation}`"
            yield from render(member.__doc__)
        else:
            function = member.__func__ if isinstance(member, classmethod | staticmethod) else member
            yield f"### `{kind.__name__}.{name}`"
            yield _code(name, inspect.signature(function))
            yield from render(function.__doc__)


def _members(kind: type) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for owner in kind.__mro__:
        if owner.__module__.startswith(OURS) and (owner is kind or not issubclass(owner, Exception)):
            for name, member in vars(owner).items():
                is_method = isinstance(member, property | classmethod | staticmethod) or inspect.isfunction(member)
                if is_method and not name.startswith(("_", "model_")) and inspect.getdoc(member):
                    found.setdefault(name, member)
    return found


def _parameter(each: inspect.Parameter) -> str:
    stars = {each.VAR_POSITIONAL: "*", each.VAR_KEYWORD: "**"}.get(each.kind, "")
    annotation = "" if each.annotation is each.empty else f": {each.annotation}"
    default = "" if each.default is each.empty else f" = {each.default!r}"
    return f"{stars}{each.name}{annotation}{default}"


def _code(name: str, signature: inspect.Signature) -> str:
    parameters = [each for each in signature.parameters.values() if each.name not in ("self", "cls")]
    shown = [_parameter(each) for each in parameters]
    for index, each in enumerate(parameters):
        if each.kind is each.KEYWORD_ONLY:
            shown.insert(index, "*")
            break
    returned = "" if signature.return_annotation in (signature.empty, None, "None") else signature.return_annotation
    arrow = f" -> {returned}" if isinstance(returned, str) and returned else ""
    line = f"{name}({', '.join(shown)}){arrow}"
    if len(line) > _WIDTH:
        line = f"{name}(\n" + "".join(f"    {each},\n" for each in shown) + f"){arrow}"
    return f"```python\n{line}\n```"
