"""`qwen3-compile run`: one prompt, one answer."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from qwen3_compile.cli.building import engine_for
from qwen3_compile.cli.input import whole_prompt
from qwen3_compile.cli.options import JSON, MODEL_OR_ENGINE, STRICT, THREADS
from qwen3_compile.cli.output import print_json, remark, verbosity
from qwen3_compile.cli.requests import bind, generation_options, require_tokenizer
from qwen3_compile.terminal import THINKING, write, write_aside
from qwen3_runtime import Engine, Finished
from qwen3_runtime.errors import RequestError

if TYPE_CHECKING:
    from collections.abc import Sequence


@click.command()
@MODEL_OR_ENGINE
@click.argument("prompt", required=False)
@click.option("--system", help="System message.")
@click.option("--messages", is_flag=True, help="PROMPT is a JSON list of chat messages.")
@click.option("--document", "documents", multiple=True, help="A document for a reranker to score; repeatable.")
@click.option("--hide-thinking", is_flag=True, help="Print only the answer.")
@STRICT
@THREADS
@JSON
@generation_options
def command(
    engine: str,
    prompt: str | None,
    system: str | None,
    messages: bool,
    documents: Sequence[str],
    hide_thinking: bool,
    strict: bool,
    threads: int | None,
    as_json: bool,
    generation: dict[str, Any],
) -> None:
    """Answer PROMPT with ENGINE.

    Without PROMPT, or where it is -, standard input is the prompt. What is piped in beside PROMPT follows it, after an
    empty line.

    MODEL is whatever `build` takes (Qwen/Qwen3-0.6B, a spec, a checkpoint); its engine is built once and kept.

    A base model continues the text; an embedding model prints its vector; a reranker takes PROMPT for the query and
    prints the relevance of each document.
    """
    prompt = whole_prompt(prompt, alone=messages or bool(documents))
    with Engine.open(engine_for(engine, threads=threads), strict=strict, threads=threads) as opened:
        require_tokenizer(opened)
        task, arguments = opened.manifest.io.task, bind(generation)
        if task != "chat" and (system or messages):
            problem = f"--system and --messages need a chat engine: {engine} is for {task}"
            raise RequestError(problem, field="messages" if messages else "system")
        if task != "reranker" and documents:
            raise RequestError(f"--document needs a reranker: {engine} is for {task}", field="documents")
        if task in ("chat", "completion") and not prompt.strip():
            raise RequestError("the prompt is empty", field="prompt")
        if task == "embedding":
            print_json({"embedding": [float(x) for x in opened.embed([prompt])[0]]})
        elif task == "reranker":
            scores = opened.rerank(prompt, documents).tolist()
            print_json({"scores": scores}) if as_json else write("".join(f"{score:.6f}\n" for score in scores))
        elif task == "completion":
            completion = opened.complete(prompt, **arguments)
            print_json(asdict(completion)) if as_json else write(f"{completion.answer}\n")
        elif as_json:
            print_json(asdict(opened.chat(conversation(prompt, system, messages), **arguments)))
        else:
            stream(
                opened,
                conversation(prompt, system, messages),
                arguments,
                hide_thinking=hide_thinking or verbosity() < 0,
            )


def conversation(prompt: str, system: str | None, messages: bool) -> list[dict[str, Any]]:
    """The chat messages of a prompt: the prompt as user message, or, with `messages`, the JSON list that it is."""
    head: list[dict[str, Any]] = [{"role": "system", "content": system}] if system else []
    if not messages:
        return [*head, {"role": "user", "content": prompt}]
    try:
        listed = json.loads(prompt)
    except (ValueError, RecursionError) as error:
        problem = f"--messages expects a JSON list of messages, found invalid JSON: {error}"
        raise RequestError(problem, field="messages") from error
    if not isinstance(listed, list):
        problem = f"--messages expects a JSON list of messages, found {type(listed).__name__}"
        raise RequestError(problem, field="messages")
    return head + listed


def stream(
    engine: Engine, messages: list[dict[str, Any]], arguments: dict[str, Any], *, hide_thinking: bool
) -> Finished:
    """Print an answer as it comes to standard output; thinking, dimmed, and a line of figures to standard error.

    So a terminal shows everything, and a pipe gets the answer alone, character by character, and one newline.

    Returns:
        The closing event, for a caller that continues the conversation.
    """
    thought = False
    for event in engine.stream(messages, **arguments):
        if isinstance(event, Finished):
            break
        if event.kind == "answer":
            if thought:
                write_aside("\n\n")
                thought = False
            write(event.text)
        elif not hide_thinking:
            write_aside(event.text, THINKING)
            thought = True
    else:
        raise AssertionError("the stream ended without its closing event")
    if thought:
        write_aside("\n")
    write("\n")
    remark(figures(event), style="dim")
    return event


def figures(finished: Finished) -> str:
    """One line: tokens by kind, rate, and what ended the answer."""
    completion = finished.completion
    usage, timing = completion.usage, completion.timings
    parts = [f"{usage.prompt_tokens} prompt"]
    if usage.reasoning_tokens or usage.forced_tokens:
        parts.append(f"{usage.reasoning_tokens} thinking" + (" (budget reached)" if completion.budget_hit else ""))
    parts.append(f"{usage.answer_tokens} answer tokens")
    rate = timing.decode_tokens_per_second
    speed = "" if rate is None else f" · {rate:.0f} tokens/s"
    ended = "" if completion.finish_reason == "stop" else f" · ended by {completion.finish_reason}"
    return f"[{' + '.join(parts)}{speed}{ended}]"
