"""Compare the engine with eager PyTorch, and write what was measured."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, ClassVar

from qwen3_compile.engine.files import file_entry
from qwen3_compile.pipeline.fingerprint import code_fingerprint, tool_versions
from qwen3_compile.pipeline.stage import Stage
from qwen3_compile.validate.continuations import greedy_tokens
from qwen3_compile.validate.facts import facts
from qwen3_compile.validate.report import read_json, write_json
from qwen3_runtime.engine_files import ACCURACY, MANIFEST, PLAN, REPORT

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from qwen3_compile.validate.report import AccuracyReport


class ValidateStage(Stage):
    """Makes `accuracy.json`.

    Figures are kept by what they were measured on, not by the spec's limits: a build with another limit judges them
    anew without measuring. A TensorRT engine is measured by its graph, whatever its plan is.
    """

    name: ClassVar[str] = "validate"

    def prepare(self) -> None:
        """Write the manifest that the engine is opened with."""
        self._document = self.build.write_manifest(verified=False)

    def inputs(self) -> Mapping[str, Any]:
        """The engine, how it is executed, what it is compared with, and on which texts."""
        spec, document = self.build.spec, self._document
        asked = spec.resolved()["accuracy"]
        library = self.build.target.library()
        return {
            "engine": {key: document[key] for key in ("io", "eos_token_ids")},
            "files": {name: entry for name, entry in document["files"].items() if name != PLAN},
            # All that decides how the graph is executed; for which GPUs a plan is does not.
            "target": {
                key: value
                for key, value in document["target"].items()
                if key not in ("compute_capabilities", "profiles")
            },
            "source": document["source"]["files"],
            "architecture": asdict(spec.graph_architecture()),
            "asked": {key: value for key, value in asked.items() if not key.startswith(("min_", "max_"))},
            "greedy_tokens": greedy_tokens(spec),
            "code": code_fingerprint("qwen3_compile.validate", "qwen3_runtime"),
            "tools": tool_versions(("jinja2", "numpy", "onnxruntime", "tokenizers", "torch")),
            "operators": None if library is None else file_entry(library).sha256,
        }

    def outputs(self) -> Mapping[str, Path]:
        """The figures."""
        return {"accuracy": self.build.folder / ACCURACY}

    def produce(self) -> None:
        """Measure.

        Raises:
            EngineError: the engine cannot be run here.
        """
        from qwen3_compile.validate.run import measure_accuracy

        build = self.build
        report = measure_accuracy(
            build.folder, build.checkpoint, build.spec, threads=build.threads, progress=build.progress.note
        )
        write_json(report, build.folder / ACCURACY)

    def finish(self) -> str:
        """Read the figures back even when they were just measured: the page must not depend on rounding."""
        self.build.accuracy = read_json(json.loads((self.build.folder / ACCURACY).read_bytes()))
        return _figures(self.build.accuracy)


class ReportStage(Stage):
    """Makes `report.html`, whose plots take a while to draw."""

    def prepare(self) -> None:
        """Collect what the page says of the engine."""
        self._facts = facts(json.loads((self.build.folder / MANIFEST).read_bytes()))

    def inputs(self) -> Mapping[str, Any]:
        """The figures, the limits, and what is said of the engine."""
        build = self.build
        return {
            "accuracy": file_entry(build.folder / ACCURACY).sha256,
            "name": build.spec.name,
            "limits": build.spec.resolved()["accuracy"],
            "notes": build.notes,
            "facts": self._facts,
            "code": code_fingerprint("qwen3_compile.validate.html"),
            "tools": tool_versions(("matplotlib", "numpy")),
        }

    def outputs(self) -> Mapping[str, Path]:
        """The page."""
        return {"report": self.build.folder / REPORT}

    def produce(self) -> None:
        """Write it."""
        from qwen3_compile.validate.html import write_html

        build = self.build
        assert build.accuracy is not None  # noqa: S101 - the stage before measured
        write_html(
            build.accuracy, build.spec.accuracy, build.spec.name, build.folder / REPORT, build.notes, self._facts
        )


def _figures(report: AccuracyReport) -> str:
    summary = report.summary
    if report.output == "hidden":
        return f"{summary.positions} positions, cosine at least {summary.min_cosine:.6f}"
    return f"{summary.positions} positions, mean KL {summary.mean_kl:.2g}, top-1 {summary.top1_agreement:.2%}"
