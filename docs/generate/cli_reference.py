"""The command line as Markdown: every command with its arguments, options, defaults and help."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

import click

from qwen3_compile.cli.root import root

if TYPE_CHECKING:
    from collections.abc import Iterator

_EVERYWHERE = ("quiet", "verbose", "help")
_HEAD = """\
# Command line

Generated from the code by `python docs/generate`. `qwen3-compile COMMAND --help` shows the same.

Every command takes `-q` (results, warnings and errors only), `-v` (every step of a build) and `--help`.
Results go to stdout, everything else to stderr. Exit code: 0, 1 for an error, 2 for wrong usage, 130 and 143 when
interrupted or terminated."""


def page() -> str:
    """The page: the program itself, then each command in the order of `--help`."""
    context = click.Context(root, info_name="qwen3-compile")
    return "\n\n".join([_HEAD, *_command(root, context)]) + "\n"


def _command(command: click.Command, context: click.Context) -> Iterator[str]:
    yield f"## `{context.command_path}`"
    yield f"    {context.command_path} {' '.join(command.collect_usage_pieces(context))}"
    yield from inspect.cleandoc(command.help or "").replace("\b\n", "").split("\n\n")
    rows = [_row(each, context) for each in command.params if isinstance(each, click.Option) and _own(each, command)]
    if rows:
        yield "\n".join(["| option | value | default | meaning |", "|---|---|---|---|", *rows])
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            nested = command.get_command(context, name)
            if nested is not None:
                yield from _command(nested, click.Context(nested, info_name=name, parent=context))


def _own(option: click.Option, command: click.Command) -> bool:
    return not option.hidden and (command is root or option.name not in _EVERYWHERE)


def _row(option: click.Option, context: click.Context) -> str:
    names = ", ".join(f"`{name}`" for name in [*option.opts, *option.secondary_opts])
    value = "" if option.is_flag or option.count else f"`{_value(option, context)}`"
    cells = (names, value, _default(option), option.help or "")
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _value(option: click.Option, context: click.Context) -> str:
    if isinstance(option.type, click.IntRange | click.FloatRange) and option.metavar is None:
        kind = "INTEGER" if isinstance(option.type, click.IntRange) else "NUMBER"
        low, high = option.type.min, option.type.max
        bounds = {(True, True): f" {low} to {high}", (True, False): f" from {low}", (False, True): f" to {high}"}
        return kind + bounds.get((low is not None, high is not None), "")
    return option.make_metavar(context)


def _default(option: click.Option) -> str:
    default: Any = option.default
    if option.required:
        return "**required**"
    if isinstance(option.show_default, str):
        return option.show_default
    if default in (None, False, (), []) or option.count or callable(default) or not _plain(default):
        return ""
    if option.is_flag and option.secondary_opts:
        return f"`{option.opts[0] if default else option.secondary_opts[0]}`"
    return f"`{default}`"


def _plain(value: object) -> bool:
    return isinstance(value, str | int | float | bool)
