"""The spec that an engine was built from, as its manifest records it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from qwen3_compile.spec import shipped_specs, spec_from_mapping

if TYPE_CHECKING:
    from qwen3_compile.spec import Spec
    from qwen3_runtime.manifest import Manifest


def recorded_spec(manifest: Manifest, engine: Path) -> Spec:
    """Read the spec back from a manifest.

    An engine does not know the folder of its spec, so a relative source counts from the current folder or, if it
    is not there, from the folder of the shipped specs. Whoever uses it compares hashes, so a wrong guess is found.

    Args:
        manifest: of an engine.
        engine: its directory, to name in errors.

    Raises:
        SpecError: the recorded spec is not valid for this version.
    """
    places = [Path(), *{path.parent for path in shipped_specs().values()}]
    spec = spec_from_mapping(dict(manifest.spec), where=f"{engine}/manifest.json: spec", base_dir=Path())
    found = next((place for place in places if (place / spec.model.source).is_dir()), Path())
    return spec_from_mapping(dict(manifest.spec), where=f"{engine}/manifest.json: spec", base_dir=found)
