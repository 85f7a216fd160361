"""What TensorRT says while it works: warnings are kept for the report, errors become one line that helps."""

from __future__ import annotations

import contextlib
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from qwen3_plugins.tensorrt.bindings import logger
from qwen3_plugins.tensorrt.bindings.capabilities import name_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from types import ModuleType

# Said of every engine: int64 inputs are bound as int64, and query_len gives the size of the batch alone.
_ALWAYS_SAID = ("Make sure input ", "Input Tensor query_len is unused")
_TYPES = {"fp8_e4m3": "fp8", "b16": "bf16"}
_LACKING = re.compile(r"Cannot compile for target\(s\) (?P<targets>[\w, ]+), because .*datatypes: (?P<types>[\w, ]+)")
_CUDA = re.compile(r"cudaError \d+: (?P<text>[^)]*)")
# Places in TensorRT's own source, and names of what was called, mean nothing to a reader.
_PLACES = re.compile(
    r"^\w+::\w+: |Error Code \d+: |^\w+\.cpp:\d+: | ?In \w+ at /_src/[\w./]+(:\d+)?|\[\w+\.cpp:\d+: \w+\] "
)


@dataclass
class Messages:
    """What was said since recording began, one line each, in order."""

    warnings: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)


@contextlib.contextmanager
def record_messages(trt: ModuleType) -> Iterator[tuple[Any, Messages]]:
    """Give the module's logger, for a builder or a parser, and what it is told in this block."""
    severity, messages = trt.ILogger.Severity, Messages()

    def listen(level: Any, text: str) -> None:  # noqa: ANN401 - the module's Severity
        if level in (severity.INTERNAL_ERROR, severity.ERROR):
            messages.errors.append(text)
        elif level == severity.WARNING and not any(part in text for part in _ALWAYS_SAID):
            messages.warnings.append(clean(text))

    with logger.listening(trt, listen) as shared:
        yield shared, messages


def explain(errors: Sequence[str]) -> str:
    """Say in one line what went wrong, from TensorRT's own lines; the first is the cause, the rest its consequences."""
    for text in errors:
        if match := _LACKING.search(text):
            lacking = ", ".join(_capability(name) for name in match["targets"].split(","))
            types = ", ".join(_TYPES.get(name.strip(), name.strip()) for name in match["types"].split(","))
            return (
                f"compute capability {lacking} lacks {types}: remove it from target.compute_capabilities, "
                "or choose another precision"
            )
        if match := _CUDA.search(text):
            return f"it needs an NVIDIA GPU and its driver; none works here ({match['text']})"
        if "Plugin not found" in text:
            return "it has neither a layer nor a plugin for an operator of the graph"
    return clean(errors[0]) if errors else "it gave no reason"


def clean(text: str) -> str:
    """The first line of a message, without places in TensorRT's source."""
    line = _PLACES.sub("", next(iter(text.strip().splitlines()), "")).strip()
    return line.rstrip(" .")


def _capability(target: str) -> str:
    """`8.9` for `sm89`."""
    return name_of(int(target.strip().removeprefix("sm")))
