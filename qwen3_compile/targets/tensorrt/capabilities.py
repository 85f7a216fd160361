"""Compute capabilities that a spec may name, and whether one has a number format."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qwen3_plugins.tensorrt.bindings.capabilities import FIRST_WITH_FORMAT, WITH_KERNELS, number_of

if TYPE_CHECKING:
    from collections.abc import Iterable

# Those that a TensorRT for RTX engine is built for unless the spec says otherwise: Ampere, Ada, Blackwell.
RTX_DEFAULT = ("8.0", "8.6", "8.9", "12.0")

# Those that our plugins' kernels are compiled for.
PLUGINS = tuple(each.name for each in WITH_KERNELS)

# The first on which TensorRT multiplies float32 (the router of a mixture of experts).
EXPERTS = "8.0"


def has_formats(capability: str, kinds: Iterable[object]) -> bool:
    """Whether an architecture, such as `8.9`, has every number format of `kinds`; what is no format is ignored."""
    first = (FIRST_WITH_FORMAT[kind] for kind in kinds if isinstance(kind, str) and kind in FIRST_WITH_FORMAT)
    return all(at_least(capability, needed) for needed in first)


def at_least(capability: str, needed: str) -> bool:
    """Whether an architecture is `needed` or newer."""
    return number_of(capability) >= number_of(needed)
