"""Checks of the arguments that callers give: plain Python values come out, and every error names the argument."""

from __future__ import annotations

import functools
import math
import operator
from collections.abc import Iterable, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import fields
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from qwen3_runtime.errors import RequestError, UnknownOptionError

if TYPE_CHECKING:
    from collections.abc import Callable

Class = TypeVar("Class")

_NO_LIST = (str, bytes, bytearray, memoryview, Mapping, AbstractSet)


def integer(name: str, value: object, low: int, high: int | None = None, *, expected: str | None = None) -> int:
    """The value as an int, from any integer type (numpy's too), but not from a truth value.

    Args:
        name: of the argument.
        value: what was given.
        low: the smallest accepted value.
        high: the largest accepted value; None for any.
        expected: what the error says is expected.

    Raises:
        RequestError: it is no integer, or out of range.
    """
    try:
        number = None if isinstance(value, bool) else operator.index(value)  # type: ignore[arg-type]
    except TypeError:
        number = None
    if number is None or number < low or (high is not None and number > high):
        between = f"from {low}" if high is None else f"from {low} to {high}"
        raise RequestError.at(name, f"expected {expected or f'an integer {between}'}, found {shown(value)}")
    return number


def number(
    name: str, value: object, low: float, high: float, *, above_low: bool = False, expected: str | None = None
) -> float:
    """The value as a float, from any real number (numpy's too), but not from a truth value.

    Args:
        name: of the argument.
        value: what was given.
        low: the smallest accepted value.
        high: the largest accepted value.
        above_low: refuse `low` itself.
        expected: what the error says is expected.

    Raises:
        RequestError: it is no number, not a number, or out of range.
    """
    found = math.nan
    if isinstance(value, int | float | np.integer | np.floating) and not isinstance(value, bool):
        try:
            found = float(value)
        except OverflowError:
            found = math.inf if value > 0 else -math.inf
    if not ((low < found if above_low else low <= found) and found <= high):
        interval = f"above {low} and at most {high}" if above_low else f"from {low} to {high}"
        raise RequestError.at(name, f"expected {expected or f'a number {interval}'}, found {shown(value)}")
    return found


def switch(name: str, value: object, *, expected: str = "True or False") -> bool:
    """The value as a bool.

    Raises:
        RequestError: it is no truth value.
    """
    if not isinstance(value, bool | np.bool_):
        raise RequestError.at(name, f"expected {expected}, found {shown(value)}")
    return bool(value)


def text(name: str, value: object) -> str:
    """The value as text.

    Raises:
        RequestError: it is none.
    """
    if not isinstance(value, str):
        raise RequestError.at(name, f"expected text, found {kind(value)}")
    return str.__str__(value)


def texts(name: str, value: object) -> list[str]:
    """The value as a list of texts; a bare string is one text, not its characters.

    Raises:
        RequestError: it is neither text nor texts in an order.
    """
    if isinstance(value, str):
        return [text(name, value)]
    return [text(f"{name}[{index}]", item) for index, item in enumerate(items(name, value, "text or a list of texts"))]


def items(name: str, value: object, expected: str) -> list[Any]:
    """The value as a list: of a list, a tuple, an array or anything else that has an order.

    Raises:
        RequestError: it is something else.
    """
    if isinstance(value, _NO_LIST) or not isinstance(value, Iterable):
        raise RequestError.at(name, f"expected {expected}, found {kind(value)}")
    try:
        return list(value)
    except TypeError:  # an array without dimensions
        raise RequestError.at(name, f"expected {expected}, found {kind(value)}") from None


def refuse_unknown(given: Iterable[object], known: Iterable[str]) -> None:
    """Refuse options that are not known.

    Raises:
        UnknownOptionError: with the nearest that is, or all of them.
    """
    known = tuple(known)
    for name in given:
        if name in known:
            continue
        from difflib import get_close_matches

        near = get_close_matches(name, known, n=1, cutoff=0.5) if isinstance(name, str) else []
        advice = f"did you mean {near[0]!r}?" if near else f"expected one of {', '.join(known)}"
        raise UnknownOptionError(f"unknown option {shown(name)}; {advice}", field=str(name))


def names_unknown_options(cls: type[Class]) -> type[Class]:
    """Let a dataclass refuse a keyword that it has no field for with the nearest that it has."""
    construct: Callable[..., None] = cls.__init__
    known = tuple(field.name for field in fields(cls))  # type: ignore[arg-type]

    @functools.wraps(construct)
    def checked(self: Class, *arguments: object, **options: object) -> None:
        refuse_unknown(options, known)
        construct(self, *arguments, **options)

    cls.__init__ = checked  # type: ignore[assignment]
    return cls


def shown(value: object, max_characters: int = 60) -> str:
    """A found value on one line, shortened."""
    if isinstance(value, str) and len(value) > max_characters:
        value = f"{value[:max_characters]}..."
    try:
        written = repr(value)
    except Exception:  # noqa: BLE001 - any object may come; an integer of 5,000 digits has no text either
        return kind(value)
    written = written if len(written) <= max_characters else f"{written[: max_characters - 3]}..."
    return "".join(character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in written)


def kind(value: object) -> str:
    """What a value is."""
    return "nothing" if value is None else type(value).__name__
