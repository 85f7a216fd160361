"""What a conversation holds, and the slash commands that change it."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any

from qwen3_compile.cli.output import remark
from qwen3_compile.cli.requests import read_budget
from qwen3_compile.terminal import Screen, write

if TYPE_CHECKING:
    from collections.abc import Callable

HELP = """\
/budget N     at most N tokens of thinking; none: no limit, default: the engine's; /budget alone shows it
/think        think before answering        /no_think   answer at once
/system TEXT  set the system message        /history    show the conversation
/clear        clear the conversation       /exit       leave (or Ctrl-D)
/say TEXT     send TEXT, even if it begins with a slash
\"""           begin and end a message of several lines"""

QUOTES = '"""'
_COMMAND = re.compile(r"/[A-Za-z_]+(?=\s|$)|/\?(?=\s|$)")
_ALONE = ("/think", "/no_think", "/clear", "/history", "/help", "/?", "/exit", "/quit", "/bye")
_NAMES = ("/budget", "/system", "/say", *_ALONE)


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


@dataclass(frozen=True)
class Command:
    """A line that is a slash command: its word and what follows, as it was written."""

    name: str
    rest: str


def read_turn(ask: Callable[[str], str | None]) -> str | Command | None:
    """The user's next turn: text to send, a command, or None at the end.

    A line is a command if its first word is a slash and letters; `/usr/bin`, `// note` and every pasted text of
    several lines are text. Lines between triple quotes are one text, whatever they hold; `/say` sends the rest of its
    line.

    Args:
        ask: shows the prompt that it is given and returns the next line, or None at the end.
    """
    line = ask("> ")
    if line is None:
        return None
    if line.startswith(QUOTES):
        return _read_quoted(line.removeprefix(QUOTES), ask)
    word = _COMMAND.match(line)
    if word is None or "\n" in line:
        return line
    rest = line[word.end() :][1:]
    return rest if word[0] == "/say" and rest.strip() else Command(word[0], rest)


def _read_quoted(text: str, ask: Callable[[str], str | None]) -> str | None:
    while not text.rstrip().endswith(QUOTES):
        line = ask("... ")
        if line is None:
            error(f"the message was not sent: the closing {QUOTES} is missing")
            return None
        text += f"\n{line}"
    return text.rstrip().removesuffix(QUOTES).removeprefix("\n").removesuffix("\n")


def apply(talk: Conversation, command: Command) -> bool:
    """Carry out a slash command on the conversation. Returns whether to go on."""
    name, rest = command.name, command.rest.strip()
    if name in _ALONE and rest:
        error(f"{name} takes no text, found {rest!r}; /say sends a line that begins with a slash")
        return True
    match name:
        case "/exit" | "/quit" | "/bye":
            return False
        case "/think" | "/no_think":
            _set_thinking(talk, on=name == "/think")
        case "/budget":
            _set_budget(talk, rest)
        case "/system":
            talk.system = command.rest if rest else None
            note(f"system message: {rest or 'none'}")
        case "/clear":
            talk.messages.clear()
            note("conversation cleared")
        case "/history":
            for message in talk.rendered():
                write(f"{message['role']}: {message['content']}\n")
        case "/help" | "/?":
            note(HELP)
        case "/say":
            error("/say expects the text to send after it")
        case _:
            near = get_close_matches(name, _NAMES, n=1)
            meant = f"did you mean {near[0]}?" if near else "/help lists the commands,"
            error(f"unknown command {name}: {meant} /say {name} sends it as text")
    return True


def note(text: str) -> None:
    """Confirm, on stderr."""
    remark(text, style="dim")


def error(text: str) -> None:
    """Say on stderr what was wrong."""
    Screen(stderr=True).print(f"error: {text}", style="red")  # a quiet command tells errors too


def _set_thinking(talk: Conversation, *, on: bool) -> None:
    talk.generation["thinking"] = on
    if on and talk.generation.get("thinking_budget") == 0:  # which would switch it off again
        talk.generation["thinking_budget"] = "default"
    note("thinking on" if on else "thinking off")


def _set_budget(talk: Conversation, text: str) -> None:
    """Set the budget that a text says, none leaves it, and say which it is."""
    try:
        budget = read_budget(text) if text else talk.generation.get("thinking_budget", "default")
    except ValueError as found:
        error(f"/budget: {found}")
        return
    if text:
        talk.generation["thinking_budget"] = budget
    match budget:
        case None:
            said = "no limit on thinking"
        case "default":
            said = "the engine's default thinking budget"
        case _:
            said = f"at most {budget} tokens of thinking"
    off = talk.generation.get("thinking") is False and budget != 0
    note(f"{said}, once /think switches thinking on" if off else said)
