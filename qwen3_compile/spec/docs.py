"""The text of `docs/spec.md` and `docs/spec.schema.json`, from the schema; `python docs/generate` writes them."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any, Literal, get_args, get_origin

from annotated_types import Ge, Gt, Le, Lt
from pydantic_core import PydanticUndefined

from qwen3_compile.problem import dotted
from qwen3_compile.spec.json_schema import json_schema
from qwen3_compile.spec.problems import all_keys, section_at
from qwen3_compile.spec.schema import Spec
from qwen3_compile.targets import TARGETS
from qwen3_compile.targets.formats import Formats, heads_in_words
from qwen3_plugins.tensorrt.bindings.capabilities import FIRST_WITH_FORMAT

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pydantic import BaseModel
    from pydantic.fields import FieldInfo

    from qwen3_compile.problem import KeyPath

_HEAD = """\
# The spec

One YAML file says what to compile, in which number formats, for which target and within which limits, and how
exact the engine must be. It is read by YAML 1.2's rules (`1e-6` is a number, `yes` is a string), without tags,
anchors or aliases; an unknown or duplicate key is an error with its file and line. `--set key.path=value`
overrides any key, and `qwen3-compile specs show` prints a spec with every default filled in.

This page is generated from the schema by `python docs/generate`.
"""
_WORDS = {int: "integer", float: "number", str: "string", bool: "true or false"}
_BOUNDS = {Ge: ("≥", "ge"), Gt: (">", "gt"), Le: ("≤", "le"), Lt: ("<", "lt")}
_MAX_INT32 = 2**31 - 1  # a bound against overflow, of no interest to a reader


def spec_page() -> str:
    """Return the reference page: one table for each section, and what each backend accepts."""
    places: dict[type[BaseModel], list[KeyPath]] = {Spec: [()]}
    for path in all_keys(Spec):
        if section := section_at(Spec, path):
            places.setdefault(section, []).append(path)
    return "\n".join([_HEAD, *("\n".join(_section(*place)) for place in places.items()), *_support()])


def schema_text() -> str:
    """Return the JSON schema as the text of its file."""
    return json.dumps(json_schema(), indent=2, ensure_ascii=False) + "\n"


def _section(section: type[BaseModel], paths: list[KeyPath]) -> Iterator[str]:
    yield f"## {' and '.join(f'`{dotted(path)}`' for path in paths) if paths[0] else 'Top level'}\n"
    yield f"{section.__doc__}\n"
    yield "| key | value | default | meaning |"
    yield "|---|---|---|---|"
    for name, field in section.model_fields.items():
        nested = section_at(section, (name,))
        value = "a section, below" if nested else " or ".join(_alternatives(field.annotation, tuple(field.metadata)))
        meaning = field.description or _first_sentence(nested)
        yield f"| `{name}` | {value} | {_default(field)} | {meaning.replace('|', chr(92) + '|')} |"
    yield ""


def _first_sentence(section: type[BaseModel] | None) -> str:
    text = (section.__doc__ or "") if section else ""
    return text[:1].lower() + re.split(r"\.(?:\s|$)", text[1:], maxsplit=1)[0]


def _alternatives(annotation: Any, metadata: tuple[Any, ...]) -> list[str]:  # noqa: ANN401 - any annotation
    if annotation is type(None):
        return ["null"]
    if annotation in _WORDS:
        return [" ".join([_WORDS[annotation], ", ".join(_bounds(metadata))]).strip()]
    if get_origin(annotation) is list:
        kind, *bounds = _alternatives(get_args(annotation)[0], ())[0].split(" ", 1)
        return [" ".join([f"list of {kind}s", *bounds])]
    if get_origin(annotation) is Literal:
        return [f"`{json.dumps(value).strip(chr(34))}`" for value in get_args(annotation)]
    if hasattr(annotation, "__metadata__"):
        return _alternatives(annotation.__origin__, (*annotation.__metadata__, *metadata))
    return [text for part in get_args(annotation) for text in _alternatives(part, metadata)]


def _bounds(metadata: tuple[Any, ...]) -> Iterator[str]:
    for entry in metadata:
        yield from _bounds(tuple(getattr(entry, "metadata", ())))  # a Field inside Annotated
        for kind, (sign, attribute) in _BOUNDS.items():
            if isinstance(entry, kind) and (bound := getattr(entry, attribute)) != _MAX_INT32:
                yield f"{sign} {bound}"


def _default(field: FieldInfo) -> str:
    extra = field.json_schema_extra
    if isinstance(extra, dict) and "x-default" in extra:
        return str(extra["x-default"])
    if field.default is PydanticUndefined:
        return "**required**"
    if hasattr(field.default, "model_dump"):
        return "all defaults"
    return f"`{json.dumps(field.default)}`".replace('"', "")


def _support() -> Iterator[str]:
    yield "## What each target accepts\n"
    matrices = ("weights", "lm_head", "embedding", "group_sizes", "fp8_scales")
    keys = (*matrices, "activations", "activation_quantization", "kv_cache")
    yield f"| target | {' | '.join(keys)} | head_dim |"
    yield "|---" * (2 + len(keys)) + "|"
    for target in TARGETS:
        formats = (getattr(target.formats, key) for key in keys)
        yield (
            f"| {target.name} | "
            + " | ".join(", ".join(map(str, kinds)) or "null" for kinds in formats)
            + f" | {_heads(target.formats)} |"
        )
    yield ""
    for target in TARGETS:
        section = f"backend: {target.backend}, provider: {target.provider}"
        yield f"- {target.name}: `{{{section}, plugins: {' or '.join(target.plugins)}}}`. {_sentence(target.summary)}"
    yield from _capabilities()


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:] + "."


def _heads(formats: Formats) -> str:
    narrow = formats.head_dims_fp16_cache
    return heads_in_words(formats.head_dims) + (f"; with an fp16 cache {heads_in_words(narrow)}" if narrow else "")


def _capabilities() -> Iterator[str]:
    yield "\n## NVIDIA architectures\n"
    for target in TARGETS:
        if target.formats.capabilities:
            yield f"- `{target.name}`: {', '.join(target.formats.capabilities)}"
    formats = ", ".join(f"{kind} {first}" for kind, first in FIRST_WITH_FORMAT.items())
    yield f"\nSome number formats need a minimum compute capability: {formats}.\n"
