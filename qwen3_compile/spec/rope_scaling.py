"""Which scaling of RoPE an engine has: the spec's, or else the checkpoint's own."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from qwen3_compile.spec.load import spec_from_mapping

if TYPE_CHECKING:
    from qwen3_compile.spec.schema import Spec
    from qwen3_graphs.architecture import Architecture, YarnScaling

_DEFAULTS = {"attention_factor": None, "beta_fast": 32.0, "beta_slow": 1.0, "truncate": True}


def with_own_scaling(spec: Spec, found: Architecture) -> Spec:
    """The spec with the scaling written down that the checkpoint has, where the spec leaves it to the checkpoint.

    Raises:
        SpecError: the engine's limits do not fit that scaling.
    """
    own = own_scaling(found)
    if spec.rope_scaling is not None or own is None:
        return spec
    values = spec.resolved() | {"rope_scaling": own}
    return spec_from_mapping(values, where=f"{spec.name} with config.json's rope_scaling", base_dir=spec.base_dir)


def own_scaling(found: Architecture) -> dict[str, Any] | None:
    """A checkpoint's scaling as a spec writes it; None where it has none."""
    if found.yarn is not None:
        return {"type": "yarn", **_stated(found.yarn)}
    return None if found.rope_factor == 1.0 else {"type": "linear", "factor": found.rope_factor}


def scaling_note(spec: Spec, found: Architecture) -> list[str]:
    """Say when the engine's scaling is not what a release of this model has: taken over, or put in its place."""
    own = own_scaling(found)
    if own is None:
        return []
    if spec.rope_scaling is None:
        return [f"rope_scaling of config.json is used ({own['type']}, factor {own['factor']:g})"]
    if spec.graph_architecture().yarn == found.yarn and spec.graph_architecture().rope_factor == found.rope_factor:
        return []
    return [f"rope_scaling of the spec ({spec.rope_scaling.type}) replaces config.json's ({own['type']})"]


def _stated(yarn: YarnScaling) -> dict[str, Any]:
    return {key: value for key, value in asdict(yarn).items() if key not in _DEFAULTS or value != _DEFAULTS[key]}
