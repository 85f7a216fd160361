"""`qwen3-compile help COMMAND...`: what `COMMAND --help` prints."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from qwen3_compile.terminal import write

if TYPE_CHECKING:
    from collections.abc import Sequence


@click.command()
@click.argument("names", metavar="[COMMAND]...", nargs=-1)
@click.pass_context
def command(context: click.Context, names: Sequence[str]) -> None:
    """Show the help of a command, such as `help build` or `help specs init`."""
    shown = context.find_root()
    for name in names:
        group = shown.command
        found = group.get_command(shown, name) if isinstance(group, click.Group) else None
        if found is None:
            raise click.UsageError(f"{shown.command_path} has no command {name!r}", context)
        shown = click.Context(found, info_name=name, parent=shown)
    write(f"{shown.get_help()}\n")
