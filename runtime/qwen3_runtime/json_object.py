"""Reads a JSON object field by field, and says in one line what is wrong with it."""

from __future__ import annotations

from typing import Any, cast

from qwen3_runtime.errors import DamagedEngineError

MAX_COUNT = 1 << 31
"""Far above any released model, far below what would make the runtime's own arithmetic or allocations misbehave."""


class JsonObject:
    """A JSON object read field by field; `finish` refuses the fields that nobody asked for."""

    def __init__(self, document: object, where: str) -> None:
        if not isinstance(document, dict):
            raise DamagedEngineError(f"{where}: expected an object, found {_kind(document)}")
        self.where = where
        self.document: dict[str, Any] = document
        self._unread = set(document)

    def keys(self) -> list[str]:
        """Names of all fields."""
        return list(self.document)

    def has(self, key: str) -> bool:
        """Whether a field is there."""
        return key in self.document

    def filled(self, key: str) -> bool:
        """Whether an optional field is there and not null."""
        return self.has(key) and self.value(key) is not None

    def value(self, key: str) -> Any:  # noqa: ANN401 - any JSON value
        """The value of a field that must be there."""
        if key not in self.document:
            raise DamagedEngineError(
                f"{self.where}: the field {key!r} is missing; the engine is damaged, build it again"
            )
        self._unread.discard(key)
        return self.document[key]

    def child(self, key: str) -> JsonObject:
        """A field that is an object, to be read field by field."""
        return JsonObject(self.value(key), f"{self.where}: {key}")

    def record(self, key: str) -> dict[str, Any]:
        """A field that is an object, as it is."""
        return self.child(key).document

    def text(self, key: str) -> str:
        """A string that is not empty."""
        value = self.value(key)
        if not isinstance(value, str) or not value:
            raise self._wrong(key, "a non-empty string", value)
        return value

    def texts(self, key: str) -> tuple[str, ...]:
        """A list of strings, none of them empty."""
        value = self.value(key)
        if not isinstance(value, list) or not all(isinstance(item, str) and item for item in value):
            raise self._wrong(key, "a list of strings", value)
        return tuple(value)

    def choice(self, key: str, choices: tuple[str, ...]) -> str:
        """One of several strings."""
        value = self.value(key)
        if value not in choices:
            raise self._wrong(key, f"one of {', '.join(choices)}", value)
        return cast("str", value)

    def boolean(self, key: str) -> bool:
        """True or false."""
        value = self.value(key)
        if not isinstance(value, bool):
            raise self._wrong(key, "true or false", value)
        return value

    def integer(self, key: str, low: int, high: int, *, optional: bool = False) -> int | None:
        """An integer within bounds; null where it is optional."""
        value = self.value(key)
        if value is None and optional:
            return None
        if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
            raise self._wrong(key, f"an integer from {low} to {high}", value)
        return value

    def count(self, key: str, high: int = MAX_COUNT) -> int:
        """An integer of at least one."""
        return cast("int", self.integer(key, 1, high))

    def token_ids(self, key: str, vocab_size: int) -> tuple[int, ...]:
        """A list of token ids of a vocabulary."""
        value = self.value(key)
        if not isinstance(value, list) or not all(type(item) is int and 0 <= item < vocab_size for item in value):
            raise self._wrong(key, f"a list of token ids below {vocab_size}", value)
        return tuple(value)

    def numbers(self, key: str) -> dict[str, float]:
        """An object whose values are numbers."""
        fields = self.record(key)
        for name, value in fields.items():
            if not isinstance(value, (int, float)) or isinstance(value, bool):
                raise DamagedEngineError(f"{self.where}: {key}.{name}: expected a number, found {_kind(value)}")
        return dict(fields)

    def finish(self) -> None:
        """Refuse fields that nobody has read."""
        if self._unread:
            raise DamagedEngineError(
                f"{self.where}: unknown field {min(self._unread)!r}; "
                "the engine was made by a newer qwen3-compile, or was edited"
            )

    def _wrong(self, key: str, expected: str, found: object) -> DamagedEngineError:
        shown = repr(found)
        return DamagedEngineError(f"{self.where}: {key} must be {expected}, found {shown[:80]}")


def _kind(value: object) -> str:
    names = {dict: "an object", list: "a list", str: "a string", bool: "a boolean", type(None): "null"}
    return names.get(type(value), "a number")
