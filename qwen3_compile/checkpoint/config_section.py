"""Values of a `config.json`, each checked where it is read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from qwen3_compile.errors import CheckpointError


@dataclass(frozen=True)
class ConfigSection:
    """A JSON object and where it stands, so that a wrong value names its place."""

    values: dict[str, Any]
    where: str

    def integer(self, *keys: str, default: int | None = None) -> int:
        """The positive integer under the first of `keys` that is there and not null."""
        value = self._find(keys, default)
        if type(value) is not int or not 0 < value < 2**31:
            raise CheckpointError(f"{self.where}: {keys[0]} is {value!r}, expected a positive integer")
        return value

    def number(self, key: str, default: float | None = None) -> float:
        """The positive number under `key`, if it is there and not null."""
        value = self._find((key,), default)
        if type(value) not in (int, float) or not 0 < value < 1e30:
            raise CheckpointError(f"{self.where}: {key} is {value!r}, expected a positive number")
        return float(value)

    def boolean(self, key: str, *, default: bool) -> bool:
        """The truth value under `key`, if it is there and not null."""
        value = self._find((key,), default)
        if type(value) is not bool:
            raise CheckpointError(f"{self.where}: {key} is {value!r}, expected true or false")
        return value

    def section(self, key: str) -> ConfigSection | None:
        """The object under `key`; None where there is none, or null."""
        value = self.values.get(key)
        if value is None:
            return None
        if not isinstance(value, dict):
            raise CheckpointError(f"{self.where}: {key} is {value!r}, expected an object or null")
        return ConfigSection(value, f"{self.where}: {key}")

    def _find(self, keys: tuple[str, ...], default: float | bool | None) -> Any:  # noqa: ANN401  # JSON: the callers check
        found = [self.values[key] for key in keys if self.values.get(key) is not None]
        if not found and default is None:
            raise CheckpointError(f"{self.where}: {' or '.join(keys)} is missing")
        if any(value != found[0] for value in found):
            raise CheckpointError(f"{self.where}: {' and '.join(keys)} differ: {found}")
        return found[0] if found else default
