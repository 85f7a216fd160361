"""What rendering a chat template may cost: steps, characters and depth, counted while it runs.

A template is code from a checkpoint that somebody else made. Whatever it does is counted against an allowance that
grows with the messages it is given, so that no template runs for long or fills the memory. The released template takes
less than a thousandth of it for a question, and a tenth for a thousand messages with two hundred tools. Counts are
never given back, so they bound what is held as well as what is done.
"""

from __future__ import annotations

from collections.abc import ItemsView, KeysView, Mapping, ValuesView
from contextvars import ContextVar
from typing import Any

from jinja2.exceptions import SecurityError
from jinja2.utils import Namespace

# Of one rendering: what any template may use, and what each value and character of the messages and tools adds.
STEPS, STEPS_A_VALUE = 1_000_000, 1_000
CHARACTERS, CHARACTERS_A_CHARACTER = 64_000_000, 256
MAX_DEPTH = 80
"""Lists and mappings within each other; messages and tools have less."""
MAX_WIDTH = 10_000
"""Padding, indentation, precision and the like."""
MAX_BITS = 16_384
"""Of an integer."""

_LENGTH_A_STEP = 64  # characters, or values of a list, that are looked at in one step
_CONTAINERS = (list, tuple, dict, set, frozenset, KeysView, ValuesView, ItemsView)
_SIZED = (str, bytes, range, *_CONTAINERS)


class Meter:
    """Counts one rendering.

    Args:
        given: values that the template gets, which are not counted again whenever it passes them on.
    """

    def __init__(self, *given: object) -> None:
        self._known: dict[int, int] = {}
        self._steps = self._characters = 1 << 62  # what is given is not the template's work
        sizes = [self.weigh(value) for value in given]
        self._remember(*given)
        self._steps = STEPS + STEPS_A_VALUE * len(self._known)
        self._characters = CHARACTERS + CHARACTERS_A_CHARACTER * sum(sizes)
        self._most_steps, self._most_characters = self._steps, self._characters

    def spend(self, steps: int, characters: int = 0) -> None:
        """Count work that is about to be done.

        Raises:
            SecurityError: the allowance is used up.
        """
        self._steps -= steps
        self._characters -= characters
        if self._steps < 0:
            raise SecurityError(f"it takes more than {self._most_steps} steps, the limit")
        if self._characters < 0:
            raise SecurityError(f"it makes or reads more than {self._most_characters} characters, the limit")

    def expect(self, characters: int) -> None:
        """Refuse a value before it is made, if it can be longer than what is left.

        Raises:
            SecurityError: it can.
        """
        if characters > self._characters:
            raise SecurityError(f"it makes or reads more than {self._most_characters} characters, the limit")

    def look_at(self, value: object) -> None:
        """Count that a value is read, without what lies inside it."""
        length = len(value) if isinstance(value, _SIZED) else 0
        self.spend(1 + length // _LENGTH_A_STEP)

    def weigh(self, value: object) -> int:
        """Count a value that was made. What a list or a mapping holds was counted when that was made.

        Returns:
            Characters, values and digits in it, each as often as it is reached.

        Raises:
            SecurityError: it is too deep, its integers are too long, its text would be longer than what is left, or
                the allowance is used up.
        """
        if isinstance(value, str):
            self.spend(1, len(value))
            return len(value)
        size = self._weigh(value, MAX_DEPTH)
        self.expect(size)
        return size

    def read(self, value: object) -> None:
        """Count a value of which everything is read: one that is printed, compared or sorted.

        Raises:
            SecurityError: as `weigh`.
        """
        self.spend(1, self._weigh(value, MAX_DEPTH))

    def _weigh(self, value: object, depth: int) -> int:
        if isinstance(value, str):
            self.spend(1)
            return len(value)
        if isinstance(value, int):
            if value.bit_length() > MAX_BITS:
                raise SecurityError(f"it makes an integer of more than {MAX_BITS} bits")
            return 1 + value.bit_length() // 3
        if isinstance(value, Namespace):  # whose text is that of its attributes
            value = object.__getattribute__(value, "_Namespace__attrs")
        if not isinstance(value, _CONTAINERS):
            return 16
        known = self._known.get(id(value))
        if known is not None:
            return known
        if depth == 0:
            raise SecurityError(f"it nests lists deeper than {MAX_DEPTH} levels")
        self.spend(1 + len(value))
        size = 2 + sum(self._weigh(item, depth - 1) for item in value)
        if isinstance(value, dict):
            size += sum(self._weigh(item, depth - 1) for item in value.values())
        return size

    def _remember(self, *values: object) -> None:
        for value in values:
            if isinstance(value, list | dict):
                self._known[id(value)] = self._weigh(value, MAX_DEPTH)
                self._remember(*(value.values() if isinstance(value, dict) else value))


METER: ContextVar[Meter] = ContextVar("METER")
"""The meter of the rendering that this thread is at."""


def check_widths(*values: object) -> None:
    """Refuse a number that a value would be padded, cut or repeated to.

    Raises:
        SecurityError: it is above `MAX_WIDTH`.
    """
    for value in values:
        if isinstance(value, int) and abs(value) > MAX_WIDTH:
            raise SecurityError(f"it pads or splits by more than {MAX_WIDTH}")


def breadth(value: Any) -> int:  # noqa: ANN401 - any value of a template
    """How far a value can stretch another that it is repeated for: characters of a text, or of a list's texts."""
    if isinstance(value, str):
        return len(value)
    if isinstance(value, int):
        return min(abs(value), MAX_WIDTH)
    if isinstance(value, Mapping):
        return sum(map(breadth, value.values()))
    if isinstance(value, list | tuple):
        return sum(1 + (len(item) if isinstance(item, str) else 0) for item in value)
    return 0
