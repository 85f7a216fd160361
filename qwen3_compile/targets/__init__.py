"""What engines are compiled for: one object for each target, which everything else asks.

A target is a backend, a provider, and whose operators run. To add one, write a subclass of `Target` and list it here.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from qwen3_compile.targets.onnx import Onnx
from qwen3_compile.targets.ort import OrtCpu, OrtCuda, OrtPlugins
from qwen3_compile.targets.target import Target
from qwen3_compile.targets.tensorrt import TENSORRT, TENSORRT_RTX

if TYPE_CHECKING:
    from qwen3_compile.spec.schema import TargetSection
    from qwen3_runtime.manifest import EngineTarget

__all__ = ["TARGETS", "Target", "default_target", "find_named", "find_target", "target_of"]

TARGETS: tuple[Target, ...] = (OrtPlugins(), OrtCpu(), OrtCuda(), Onnx(), TENSORRT, TENSORRT_RTX)


def find_target(backend: object, provider: object, plugins: object) -> Target | None:
    """The target that three values of a spec mean; None where there is none."""
    if isinstance(plugins, tuple):  # as a manifest holds it
        plugins = list(plugins)
    same = (target for target in TARGETS if (target.backend, target.provider) == (backend, provider))
    return next((target for target in same if target.takes(plugins)), None)


def find_named(name: str) -> Target | None:
    """The target that a name means, whatever joins its words: `ort with plugins`, `ort-plugins`."""
    return next((target for target in TARGETS if _words(target.name) == _words(name)), None)


def _words(name: str) -> set[str]:
    return {*re.findall(r"[a-z]+", name.lower())} - {"on", "with"}


def default_target(backend: object, provider: object = None) -> Target:
    """The first target of a backend and a provider, of the backend, or of all: it gives defaults."""
    same = [target for target in TARGETS if target.backend == backend] or [TARGETS[0]]
    return next((target for target in same if target.provider == provider), same[0])


def target_of(section: TargetSection | EngineTarget) -> Target:
    """The target of a checked spec or of a manifest.

    Raises:
        LookupError: a manifest names a target that this version does not know.
    """
    found = find_target(section.backend, section.provider, section.plugins)
    if found is None:
        raise LookupError(f"no target {section.backend} on {section.provider} with plugins {section.plugins}")
    return found
