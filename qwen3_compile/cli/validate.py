"""`qwen3-compile validate`: an engine against eager PyTorch, after the fact."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
from rich.table import Table
from rich.text import Text

from qwen3_compile.cli.options import ENGINE, JSON, THREADS
from qwen3_compile.cli.output import print_json, remark
from qwen3_compile.terminal import Screen, harmless


@click.command()
@ENGINE
@click.option("--source", help="Where the checkpoint is now, if not where the engine's spec says.")
@click.option("--report", type=click.Path(path_type=Path), help="Folder for accuracy.json and report.html.")
@click.option("--plan", is_flag=True, help="Execute the plan of a TensorRT engine, on the GPU, not its graph.")
@THREADS
@JSON
def command(
    engine: Path, source: str | None, report: Path | None, plan: bool, threads: int | None, as_json: bool
) -> None:
    """Compare ENGINE with eager PyTorch in float32 and judge it by its accuracy contract.

    The engine is not changed: its published report stays as it is. Of a TensorRT engine the graph is executed, on the
    CPU, unless --plan asks for the plan.
    """
    from qwen3_compile.validate import revalidate

    with Screen(stderr=True).status("opening") as status:

        def show(text: str) -> None:
            status.update(Text(harmless(text)))

        found, contract = revalidate(
            engine,
            source=source,
            report_dir=report,
            threads=threads,
            progress=show,
            plan=plan,
        )
    document = found.to_json()
    if as_json:
        print_json({**document["summary"], "violations": found.violations(contract)})
    else:
        _show(document)
    if found.executed:
        remark(found.executed)
    found.check(contract)
    remark("the accuracy contract holds")


def _show(document: dict[str, Any]) -> None:
    from qwen3_compile.validate.report import FIGURES

    titles = FIGURES[document["output"]]
    table = Table("mode", "positions", *titles.values(), box=None, header_style="bold")
    table.columns[0].no_wrap = True
    for mode, summary in {**document["by_mode"], "all": document["summary"]}.items():
        figures = (summary[key] for key in titles)
        table.add_row(mode, str(summary["positions"]), *(f"{float(value):.4g}" for value in figures))
    screen = Screen()
    screen.print(table)
    summary = document["summary"]
    if summary["perplexity_ratio"] is not None:
        reference, engine = summary["reference_perplexity"], summary["engine_perplexity"]
        screen.print(f"perplexity: reference {reference:.5g}, engine {engine:.5g}")
    for entry in document["greedy"]:
        screen.print(f"greedy agreement on {entry['case']}: {entry['agreed']} of {entry['generated']} tokens")
