"""The `qwen3-compile` group. Subcommands are named here with their help and imported only when they run."""

from __future__ import annotations

from difflib import get_close_matches
from importlib import import_module

import click
from click.shell_completion import CompletionItem

from qwen3_compile import __version__
from qwen3_compile.cli.verbosity import add_verbosity_options

COMMANDS = {
    "build": "Compile a model into a verified engine.",
    "validate": "Compare an engine with eager PyTorch and judge it by its accuracy limits.",
    "run": "Answer one prompt with an engine.",
    "chat": "Chat with an engine; show its thinking.",
    "sign": "Sign an engine with your private key.",
    "inspect": "Show what an engine is made of.",
    "bench": "Measure an engine's speed and memory on this machine.",
    "ls": "List engines.",
    "diff": "Compare two engines.",
    "cache": "Show, prune or clear results of builds.",
    "specs": "List, show, check and create specs.",
    "doctor": "Check what this machine can build and run.",
    "version": "Print the version.",
    "help": "Show the help of a command.",
}


class LazyGroup(click.Group):
    """A group whose commands live in `qwen3_compile.cli.<name>`, each as `command`."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        """Return the names in the order of the table, which is the order of use."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import the module of a command.

        Raises:
            click.UsageError: there is no such command; the message names the nearest.
        """
        if cmd_name not in COMMANDS:
            if ctx.resilient_parsing:  # a shell is completing: silence
                return None
            near = get_close_matches(cmd_name, COMMANDS, n=1)
            hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(COMMANDS)}"
            raise click.UsageError(f"no command {cmd_name!r}; {hint}", ctx)
        try:
            command = import_module(f"qwen3_compile.cli.{cmd_name}").command
        except ModuleNotFoundError:
            if ctx.resilient_parsing:
                return None
            raise
        if not isinstance(command, click.Command):
            raise TypeError(f"qwen3_compile.cli.{cmd_name}.command is not a click command")
        return add_verbosity_options(command)

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Complete commands from the table and options from click, importing no command."""
        names = [CompletionItem(name, help=text) for name, text in COMMANDS.items() if name.startswith(incomplete)]
        return names + click.Command.shell_complete(self, ctx, incomplete)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002 - as above
        """Write the list of commands from the table, importing none of them."""
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


@click.command(
    cls=LazyGroup,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog='Shell completion: eval "$(_QWEN3_COMPILE_COMPLETE=bash_source qwen3-compile)" (zsh_source, fish_source).',
)
@click.version_option(__version__, prog_name="qwen3-compile")
@click.option(
    "--traceback", is_flag=True, help="Show Python's traceback of an error (or set QWEN3_COMPILE_TRACEBACK=1)."
)
def root(traceback: bool) -> None:
    """Compile Qwen3 checkpoints into verified engines, and run them with an exact thinking budget."""
    del traceback  # `failures.run_command` looks for it itself: it must know even when the arguments cannot be parsed


add_verbosity_options(root)
