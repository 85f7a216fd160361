"""A stage of a build: it looks its result up by everything that the result depends on, and only then works.

To add one, write a subclass and put it into the row of `qwen3_compile.pipeline.orchestrate`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from qwen3_compile.pipeline.fingerprint import digest, source_sha256
from qwen3_compile.stopping import check_stopped

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from qwen3_compile.pipeline.context import BuildContext
    from qwen3_compile.spec import Spec
    from qwen3_compile.targets import Target

CACHED = "from the cache"


class Stage:
    """One stage of one build.

    Attributes:
        name: how progress calls it; None for one that is not told.
        build: what it works on.
    """

    name: ClassVar[str | None] = None

    def __init__(self, build: BuildContext) -> None:
        self.build = build

    @classmethod
    def expected(cls, spec: Spec, target: Target) -> bool:
        """Whether builds of a spec have this stage."""
        return True

    def size(self) -> int | None:
        """Bytes to be worked through, where that is known."""
        return None

    def prepare(self) -> None:
        """Find out what there is to do, and refuse what cannot be done."""

    def inputs(self) -> Mapping[str, Any] | None:
        """All that the result depends on, as JSON-able values; None for a result that is not kept.

        The stage's own source counts besides, without what it imports: that is the stage's to name.
        """
        return None

    def key(self) -> str | None:
        """What the result is kept under; None for a result that is not kept."""
        inputs = self.inputs()
        return None if inputs is None else digest({"stage": source_sha256(type(self).__module__), "inputs": inputs})

    def outputs(self) -> Mapping[str, Path]:
        """The files that `produce` makes, by the name of their entries in the cache."""
        return {}

    def produce(self) -> None:
        """Do the work: make every file of `outputs`."""

    def finish(self) -> str:
        """Take the result into the build, whether it was made or found; returns what progress says of it."""
        return ""


def run_stage(stage: Stage) -> None:
    """Run a stage, or take its result from the cache."""
    check_stopped()
    build = stage.build
    if stage.name is not None:
        build.progress.begin(stage.name, stage.size())
    stage.prepare()
    key = stage.key()
    found = key is not None and _fetch(stage, key)
    if not found:
        stage.produce()
        if key is not None:
            _keep(stage, key)
    said = stage.finish()
    if stage.name is not None:
        build.progress.end(", ".join(filter(None, [said, CACHED if found else ""])))


def _fetch(stage: Stage, key: str) -> bool:
    """Fetch every output from the cache, or none; returns whether they came."""
    fetched: list[Path] = []
    for entry, path in stage.outputs().items():
        if stage.build.cache.fetch(entry, key, path) is None:
            for each in fetched:
                each.unlink()
            return False
        fetched.append(path)
    return bool(fetched)


def _keep(stage: Stage, key: str) -> None:
    """Store the outputs; a cache that cannot be written costs time in the next build, it does not fail this one."""
    try:
        for entry, path in stage.outputs().items():
            stage.build.cache.store(entry, key, path)
    except OSError as error:
        stage.build.progress.note(f"not cached: {error}")
