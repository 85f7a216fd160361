"""`qwen3-compile chat`: a conversation in the terminal."""

from __future__ import annotations

import sys
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import click
from rich.console import Console

from qwen3_compile.cli.input import read_line
from qwen3_compile.cli.options import ENGINE, STRICT, THREADS
from qwen3_compile.cli.requests import bind, generation_options, require_tokenizer
from qwen3_compile.cli.run import stream
from qwen3_runtime import Engine
from qwen3_runtime.errors import RequestError

if TYPE_CHECKING:
    from pathlib import Path

HELP = """\
/budget N     at most N tokens of thinking (/budget off: the engine's default)
/think        think before answering        /no_think   answer at once
/system TEXT  set the system message        /history    show the conversation
/clear        forget the conversation       /exit       leave (or Ctrl-D)"""


@dataclass
class Conversation:
    """What the user has said and set: the state that slash commands change.

    Attributes:
        generation: options of the next answer, as `generation_options` gathers them; bound anew for each answer,
            since the mode decides the defaults of those that were not given.
        messages: the conversation without its system message.
        system: the system message.
    """

    generation: dict[str, Any]
    messages: list[dict[str, Any]] = field(default_factory=list)
    system: str | None = None

    def rendered(self) -> list[dict[str, Any]]:
        """The messages to send: system first."""
        head = [{"role": "system", "content": self.system}] if self.system else []
        return [*head, *self.messages]


@click.command()
@ENGINE
@click.option("--system", help="System message.")
@click.option("--hide-thinking", is_flag=True, help="Print only answers.")
@STRICT
@THREADS
@generation_options
def command(
    engine: Path, system: str | None, hide_thinking: bool, strict: bool, threads: int | None, generation: dict[str, Any]
) -> None:
    """Talk with ENGINE. Thinking is shown dimmed; /help lists the commands."""
    screen = Console(highlight=False)
    with Engine.open(engine, strict=strict, threads=threads) as opened:
        if opened.manifest.io.task != "chat":
            raise RequestError(
                f"{engine} holds a model for {opened.manifest.io.task}, not for chat: use `qwen3-compile run`"
            )
        require_tokenizer(opened)
        talk = Conversation(generation, system=system)
        screen.print(f"{opened.manifest.name} · /help lists the commands, Ctrl-D leaves", style="dim", markup=False)
        while (line := _ask(screen)) is not None:
            if line.startswith("/"):
                if not apply(talk, line, screen):
                    return
            elif line.strip():
                _answer(opened, talk, line, screen, hide_thinking=hide_thinking)


def _ask(screen: Console) -> str | None:
    """The next line, or None at the end of the conversation."""
    if not sys.stdin.isatty():
        return read_line()
    with suppress(ImportError):
        import readline  # noqa: F401 - gives input() a history and line editing where the platform has it
    try:
        return input("> ")  # not printed before it: line editing redraws the prompt that it knows
    except EOFError:
        screen.print()
        return None
    except KeyboardInterrupt:
        screen.print()
        return ""


def _answer(engine: Engine, talk: Conversation, line: str, screen: Console, *, hide_thinking: bool) -> None:
    talk.messages.append({"role": "user", "content": line})
    try:
        finished = stream(engine, talk.rendered(), bind(talk.generation), hide_thinking=hide_thinking)
    except KeyboardInterrupt:
        # The iterator was closed, which cancelled the generation; an unanswered question would confuse the template.
        talk.messages.pop()
        screen.print("\n[dim](interrupted: the question was taken back)[/dim]")
        return
    except RequestError as error:
        talk.messages.pop()
        screen.print(f"error: {error}", style="red", markup=False)
        return
    talk.messages.append({"role": "assistant", "content": finished.completion.answer})


def apply(talk: Conversation, line: str, screen: Console) -> bool:
    """Carry out a slash command on the conversation. Returns whether to go on."""
    name, _, rest = line.partition(" ")
    rest = rest.strip()
    match name:
        case "/exit" | "/quit":
            return False
        case "/think" | "/no_think":
            talk.generation["thinking"] = name == "/think"
            _note(screen, "thinking on" if name == "/think" else "thinking off")
        case "/budget" if rest.isdecimal():
            talk.generation["thinking_budget"] = int(rest)
            _note(screen, f"at most {int(rest)} tokens of thinking")
        case "/budget" if rest == "off":
            talk.generation["thinking_budget"] = None
            _note(screen, "the engine's default thinking budget")
        case "/budget":
            screen.print(f"/budget expects a number of tokens or off, found {rest!r}", style="red", markup=False)
        case "/system":
            talk.system = rest or None
            _note(screen, f"system message: {rest or 'none'}")
        case "/clear":
            talk.messages.clear()
            _note(screen, "conversation forgotten")
        case "/history":
            for message in talk.rendered():
                screen.print(f"{message['role']}: {message['content']}", markup=False)
        case "/help":
            _note(screen, HELP)
        case _:
            screen.print(f"unknown command {name}; /help lists them", style="red", markup=False)
    return True


def _note(screen: Console, text: str) -> None:
    screen.print(text, style="dim", markup=False)
