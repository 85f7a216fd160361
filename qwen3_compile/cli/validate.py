"""`qwen3-compile validate`: an engine against eager PyTorch, after the fact."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from qwen3_compile.cli.options import ENGINE, JSON, THREADS
from qwen3_compile.cli.output import print_json, remark


@click.command()
@ENGINE
@click.option("--source", help="Where the checkpoint is now, if not where the engine's spec says.")
@click.option("--report", type=click.Path(path_type=Path), help="Folder for accuracy.json and report.html.")
@THREADS
@JSON
def command(engine: Path, source: str | None, report: Path | None, threads: int | None, as_json: bool) -> None:
    """Compare ENGINE with eager PyTorch in float32 and judge it by its accuracy contract.

    The engine is not changed: its published report stays as it is.
    """
    from qwen3_compile.validate import revalidate

    found, contract = revalidate(engine, source=source, report_dir=report, threads=threads, progress=remark)
    document = found.to_json()
    if as_json:
        print_json({**document["summary"], "violations": found.violations(contract)})
    else:
        _show(document)
    found.check(contract)
    remark("the accuracy contract holds")


def _show(document: dict[str, Any]) -> None:
    from qwen3_compile.validate.report import FIGURES

    titles = FIGURES[document["output"]]
    table = Table("mode", "positions", *titles.values(), box=None, header_style="bold")
    for mode, summary in {**document["by_mode"], "all": document["summary"]}.items():
        figures = (summary[key] for key in titles)
        table.add_row(mode, str(summary["positions"]), *(f"{float(value):.4g}" for value in figures))
    screen = Console(highlight=False)
    screen.print(table)
    summary = document["summary"]
    if summary["perplexity_ratio"] is not None:
        reference, engine = summary["reference_perplexity"], summary["engine_perplexity"]
        screen.print(f"perplexity: reference {reference:.5g}, engine {engine:.5g}")
    for entry in document["greedy"]:
        screen.print(f"greedy agreement on {entry['case']}: {entry['agreed']} of {entry['generated']} tokens")
