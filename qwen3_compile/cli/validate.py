"""`qwen3-compile validate`: an engine against eager PyTorch, after the fact."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.text import Text

from qwen3_compile.cli.figures import show_by_mode, show_limits, show_others
from qwen3_compile.cli.options import ENGINE, JSON, STRICT, THREADS
from qwen3_compile.cli.output import print_json, remark, verbosity
from qwen3_compile.terminal import Screen, harmless, write

if TYPE_CHECKING:
    from collections.abc import Sequence

    from qwen3_compile.accuracy_limits import Verdict

HOLDS = "every accuracy limit holds"


@click.command()
@ENGINE
@click.option("--source", help="Location of the checkpoint [default: from the engine's spec].")
@click.option("--report", type=click.Path(path_type=Path), help="Folder for accuracy.json and report.html.")
@click.option(
    "--plan", is_flag=True, help="Execute the plan of a TensorRT engine on the GPU, instead of its graph on the CPU."
)
@STRICT
@THREADS
@JSON
def command(
    engine: Path,
    source: str | None,
    report: Path | None,
    plan: bool,
    strict: bool,
    threads: int | None,
    as_json: bool,
) -> None:
    """Compare ENGINE with eager PyTorch in float32 and judge it by its accuracy limits.

    The engine is not changed: its published report stays as it is. A TensorRT engine is validated by
    executing its graph on the CPU; --plan executes its plan on the GPU instead.
    """
    from qwen3_compile.validate.published import revalidate

    with Screen(stderr=True).status("opening") as status:

        def show(text: str) -> None:
            status.update(Text(harmless(text)))

        found, limits = revalidate(
            engine,
            source=source,
            report_dir=report,
            threads=threads,
            progress=show,
            plan=plan,
            strict=strict,
        )
    document, verdicts = found.to_json(), found.verdicts(limits)
    if as_json:
        judged = [asdict(verdict) for verdict in verdicts]
        print_json({**document["summary"], "accuracy_limits": judged, "violations": found.violations(limits)})
    elif verbosity() >= 0:
        _show(document, verdicts)
    if found.executed:
        remark(found.executed)
    found.check(limits)
    if verbosity() < 0 and not as_json:
        write(f"{HOLDS}\n")  # the result of a quiet command
    remark(HOLDS)


def _show(document: dict[str, Any], verdicts: Sequence[Verdict]) -> None:
    screen = Screen()
    show_by_mode(screen, document["output"], {**document["by_mode"], "all": document["summary"]})
    show_limits(screen, verdicts)
    show_others(screen, document["summary"], verdicts)
    for entry in document["greedy"]:
        screen.print(f"greedy agreement on {entry['case']}: {entry['agreed']} of {entry['generated']} tokens")
