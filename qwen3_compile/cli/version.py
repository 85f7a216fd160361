"""`qwen3-compile version`: which version this is, and with `--json` what it stands on."""

from __future__ import annotations

import platform

import click

from qwen3_compile import __version__
from qwen3_compile.cli.options import JSON
from qwen3_compile.cli.output import print_json
from qwen3_compile.terminal import write
from qwen3_runtime.manifest import SCHEMA_VERSION


@click.command()
@JSON
def command(as_json: bool) -> None:
    """Print the version; with --json also that of engines, of Python, and of the packages that decide an engine."""
    if not as_json:
        write(f"qwen3-compile {__version__}\n")
        return
    from qwen3_compile.pipeline.fingerprint import tool_versions

    print_json(
        {
            "version": __version__,
            "manifest_schema": SCHEMA_VERSION,
            "python": platform.python_version(),
            "tools": tool_versions(),
        }
    )
