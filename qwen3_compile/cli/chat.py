"""`qwen3-compile chat`: a conversation in the terminal."""

from __future__ import annotations

import sys
from contextlib import suppress
from typing import Any

import click

from qwen3_compile.cli.building import engine_for
from qwen3_compile.cli.conversation import Command, Conversation, apply, error, note, read_turn
from qwen3_compile.cli.input import read_line
from qwen3_compile.cli.options import MODEL_OR_ENGINE, STRICT, THREADS
from qwen3_compile.cli.output import verbosity
from qwen3_compile.cli.requests import bind, generation_options, require_tokenizer
from qwen3_compile.cli.run import stream
from qwen3_compile.terminal import write, write_aside
from qwen3_runtime import Engine
from qwen3_runtime.errors import RequestError


@click.command()
@MODEL_OR_ENGINE
@click.option("--system", help="System message.")
@click.option("--hide-thinking", is_flag=True, help="Print only answers.")
@STRICT
@THREADS
@generation_options
def command(
    engine: str, system: str | None, hide_thinking: bool, strict: bool, threads: int | None, generation: dict[str, Any]
) -> None:
    """Talk with ENGINE. Thinking is shown dimmed; /help lists the commands.

    MODEL is whatever `build` takes (Qwen/Qwen3-0.6B, a spec, a checkpoint); its engine is built once and kept.
    """
    with Engine.open(engine_for(engine, threads=threads), strict=strict, threads=threads) as opened:
        if opened.manifest.io.task != "chat":
            raise RequestError(
                f"{engine} holds a model for {opened.manifest.io.task}, not for chat: use `qwen3-compile run`",
                field="engine",
            )
        require_tokenizer(opened)
        if sys.stdin.isatty():
            note(f"{opened.manifest.name} · /help lists the commands, Ctrl-D leaves")
        _converse(opened, Conversation(generation, system=system), hide_thinking=hide_thinking or verbosity() < 0)


def _converse(engine: Engine, talk: Conversation, *, hide_thinking: bool) -> None:
    while True:
        try:
            turn = read_turn(_ask)
        except KeyboardInterrupt:
            if not sys.stdin.isatty():
                raise
            write_aside("\n")  # what was being typed is dropped, as in a shell
            continue
        match turn:
            case None:
                return
            case Command():
                if not apply(talk, turn):
                    return
            case text if text.strip():
                _answer(engine, talk, text, hide_thinking=hide_thinking)


def _ask(prompt: str) -> str | None:
    """The next line, or None at the end of the conversation; a paste of several lines may come as one, with breaks."""
    if not sys.stdin.isatty():
        return read_line()
    if not sys.stdout.isatty():  # `input` would write the prompt among the answers
        write_aside(prompt)
        return read_line()
    with suppress(ImportError):
        import readline  # noqa: F401 - gives input() a history and line editing where the platform has it
    try:
        return input(prompt)  # not printed before it: line editing redraws the prompt that it knows
    except EOFError:
        write_aside("\n")
        return None


def _answer(engine: Engine, talk: Conversation, text: str, *, hide_thinking: bool) -> None:
    talk.messages.append({"role": "user", "content": text})
    try:
        finished = stream(engine, talk.rendered(), bind(talk.generation), hide_thinking=hide_thinking)
    except KeyboardInterrupt:
        # The iterator was closed, which cancelled the generation; an unanswered question would confuse the template.
        talk.messages.pop()
        write("\n")
        note("(interrupted: the question was removed)")
    except RequestError as found:
        talk.messages.pop()
        error(str(found))
    else:
        talk.messages.append({"role": "assistant", "content": finished.completion.answer})
