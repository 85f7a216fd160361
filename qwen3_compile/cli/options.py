"""Parameters that several commands share."""

from __future__ import annotations

import click

from qwen3_compile.cli.completion import EngineOrModel, EnginePath, Override

ENGINE = click.argument("engine", type=EnginePath())
MODEL_OR_ENGINE = click.argument("engine", metavar="ENGINE|MODEL", type=EngineOrModel())
OVERRIDES = click.option(
    "--set",
    "overrides",
    multiple=True,
    type=Override(),
    metavar="KEY.PATH=VALUE",
    help="Override one key; repeatable.",
)
THREADS = click.option(
    "--threads", type=click.IntRange(1, 1024), help="Threads of the session [default: one for each physical core]."
)
JSON = click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
STRICT = click.option(
    "--strict/--no-strict",
    default=True,
    help="Refuse an engine with links or unknown files; --no-strict accepts them and checks as much.",
)
