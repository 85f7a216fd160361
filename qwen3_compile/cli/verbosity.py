"""`-q` and `-v`: options of every command, before or after its name, as in uv."""

from __future__ import annotations

import click

from qwen3_compile.cli.output import VERBOSITY


def add_verbosity_options(command: click.Command) -> click.Command:
    """Give a command, and those in it, the two options; they reach `output.verbosity` and not the command."""
    taken = {name for parameter in command.params for name in (*parameter.opts, *parameter.secondary_opts)}
    command.params += [option for option in _options() if taken.isdisjoint(option.opts)]
    if isinstance(command, click.Group):
        for nested in command.commands.values():
            add_verbosity_options(nested)
    return command


def _options() -> list[click.Option]:
    return [
        click.Option(
            ["-q", "--quiet"],
            count=True,
            expose_value=False,
            callback=_lower,
            help="Print results, warnings and errors only.",
        ),
        click.Option(
            ["-v", "--verbose"], count=True, expose_value=False, callback=_raise, help="Show every step of a build."
        ),
    ]


def _lower(context: click.Context, option: click.Parameter, count: int) -> None:  # noqa: ARG001 - click's signature
    context.meta[VERBOSITY] = context.meta.get(VERBOSITY, 0) - count


def _raise(context: click.Context, option: click.Parameter, count: int) -> None:
    _lower(context, option, -count)
