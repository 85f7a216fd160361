"""What is wrong with a spec, one line each: where, which key, what was expected, what was found."""

from __future__ import annotations

from difflib import get_close_matches
from typing import TYPE_CHECKING, Literal, get_args, get_origin

from pydantic import BaseModel

from qwen3_compile.problem import KeyPath, Problem, dotted

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pydantic import ValidationError
    from pydantic_core import ErrorDetails

    from qwen3_compile.spec.document import Plain

_EXPECTED = {
    "int_type": "an integer",
    "float_type": "a number",
    "string_type": "a string",
    "bool_type": "true or false",
    "finite_number": "a finite number",
    "model_type": "a mapping of keys",
    "model_attributes_type": "a mapping of keys",
    "dict_type": "a mapping of keys",
    "list_type": "a list",
    "too_short": "at least one",
}
_BOUND = {
    "greater_than": "more than {gt}",
    "greater_than_equal": "at least {ge}",
    "less_than": "less than {lt}",
    "less_than_equal": "at most {le}",
    "literal_error": "{expected}",
    "string_pattern_mismatch": "a name that matches {pattern}",
}

# So many problems are listed, and the rest counted: nobody reads thousands.
_MAX_PROBLEMS = 20


def schema_problems(error: ValidationError, model: type[BaseModel], written: Plain) -> list[Problem]:
    """Turn a validation error of `model` into problems, the last of which counts those left out.

    Args:
        error: what validation raised.
        model: the model that was validated.
        written: the values before defaults. A default that went wrong only repeats the problem of the key it was
            derived from, and is left out.
    """
    everything = error.errors(include_url=False)
    own = [details for details in everything if details["type"] == "missing" or _is_written(written, details["loc"])]
    found = own or everything
    problems = [Problem(details["loc"], _message(details, model)) for details in found[:_MAX_PROBLEMS]]
    left = len(found) - len(problems)
    return [*problems, Problem((), f"and {left} more problems")] if left else problems


def _is_written(value: Plain, path: KeyPath) -> bool:
    for key in path:
        if isinstance(value, dict) and key in value:
            value = value[str(key)]
        elif isinstance(value, list) and isinstance(key, int) and key < len(value):
            value = value[key]
        else:
            return False
    return True


def _message(details: ErrorDetails, model: type[BaseModel]) -> str:
    kind, found, context = details["type"], details["input"], details.get("ctx", {})
    if kind == "extra_forbidden":
        return f"unknown key; {_nearest(details['loc'], model)}"
    if kind == "missing":
        return f"required but missing{_only_value(details['loc'], model)}"
    if kind == "value_error":
        return f"{context['error']}, found {show(found)}"
    expected = _EXPECTED.get(kind) or _BOUND.get(kind, "").format(**context)
    return f"expected {expected}, found {show(found)}" if expected else f"{details['msg']}, found {show(found)}"


def _only_value(path: KeyPath, model: type[BaseModel]) -> str:
    """What to write for a key that takes one value only."""
    section = section_at(model, path[:-1])
    field = section.model_fields.get(str(path[-1])) if section else None
    values = get_args(field.annotation) if field and get_origin(field.annotation) is Literal else ()
    return f": write {path[-1]}: {show(values[0])}" if len(values) == 1 else ""


def show(value: object) -> str:
    """Write a found value shortly, as YAML would."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, dict):
        return "a mapping"
    if isinstance(value, list):
        simple = not any(isinstance(item, dict | list) for item in value)
        text = f"[{', '.join(map(show, value))}]" if simple and len(value) <= 8 else ""
        return text if 0 < len(text) <= 60 else "a list"
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def section_at(model: type[BaseModel], path: KeyPath) -> type[BaseModel] | None:
    """Return the section that stands at a path of the schema, or None where there is none."""
    section: type[BaseModel] | None = model
    for key in path:
        field = section.model_fields.get(str(key)) if section else None
        section = _section_of(field.annotation) if field else None
    return section


def all_keys(model: type[BaseModel], prefix: KeyPath = ()) -> Iterator[KeyPath]:
    """Yield the path of every key of the schema, sections before what they hold."""
    for name, field in model.model_fields.items():
        yield (*prefix, name)
        if section := _section_of(field.annotation):
            yield from all_keys(section, (*prefix, name))


def _section_of(annotation: object) -> type[BaseModel] | None:
    for candidate in (annotation, *get_args(annotation)):
        if isinstance(candidate, type) and issubclass(candidate, BaseModel):
            return candidate
    return None


def _nearest(path: KeyPath, model: type[BaseModel]) -> str:
    section = section_at(model, path[:-1])
    name = str(path[-1])
    siblings = list(section.model_fields) if section else []
    if elsewhere := [dotted(key) for key in all_keys(model) if key[-1] == name]:
        return f"it belongs at {' or '.join(elsewhere)}"
    if near := get_close_matches(name, siblings, n=1, cutoff=0.5):
        return f"did you mean {near[0]}?"
    return f"expected one of {', '.join(siblings)}"
