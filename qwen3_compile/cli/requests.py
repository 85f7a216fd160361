"""Options of one generation, shared by the commands that make one."""

from __future__ import annotations

import functools
from dataclasses import fields
from typing import TYPE_CHECKING, Any, Literal

import click

from qwen3_runtime.errors import RequestError
from qwen3_runtime.sampling import RANGES, Sampling

if TYPE_CHECKING:
    from collections.abc import Callable

    from qwen3_runtime import Engine

SAMPLING_FIELDS = tuple(field.name for field in fields(Sampling) if field.name != "seed")


def read_budget(text: str) -> int | Literal["default"] | None:
    """A number of tokens, `none` (or `off`) for no budget: None, or `default` for the engine's.

    Raises:
        ValueError: it is none of these.
    """
    if text.isascii() and text.isdecimal() and len(text) < 10:
        return int(text)
    match text:
        case "none" | "off":
            return None
        case "default":
            return text
    raise ValueError(f"expected a number of tokens, none or default, found {text!r}")


def _budget_option(ctx: click.Context, param: click.Parameter, value: str) -> int | Literal["default"] | None:
    try:
        return read_budget(value)
    except ValueError as error:
        raise click.BadParameter(str(error), ctx, param) from None


def _number(name: str, text: str) -> Callable[..., Any]:
    """The option of one number of `Sampling`, in the range that it has there."""
    low, high = RANGES[name]
    kind = click.FloatRange(low, high, min_open=name == "top_p")
    return click.option(f"--{name.replace('_', '-')}", type=kind, help=text)


def generation_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options of a generation; the command receives them as one dict `generation` for `Engine`'s methods."""
    options = [
        click.option("--thinking/--no-thinking", default=None, help="Think before answering [default: the engine's]."),
        click.option(
            "--budget",
            default="default",
            metavar="N|none|default",
            callback=_budget_option,
            help="Maximum number of thinking tokens; 0: do not think, none: no limit [default: the engine's].",
        ),
        click.option(
            "--max-tokens", type=click.IntRange(min=1), help="Maximum number of new tokens, including thinking."
        ),
        click.option(
            "--deadline",
            type=click.FloatRange(min=0, min_open=True),
            help="Maximum number of seconds for the whole answer.",
        ),
        click.option("--stop", multiple=True, help="End the answer before this text; repeatable."),
        click.option(
            "--seed", type=click.IntRange(0, 2**64 - 1), help="Seed of the sampler; equal seeds give equal answers."
        ),
        _number("temperature", "Sampling temperature; 0: always the most likely token."),
        click.option(
            "--top-k", type=click.IntRange(0, 2**31 - 1), help="Sample from this many most likely tokens; 0: all."
        ),
        _number("top_p", "Sample from the most likely tokens up to this total probability."),
        _number("min_p", "Drop tokens below this fraction of the highest probability."),
        _number("presence_penalty", "Subtract this from the logits of tokens already seen."),
        _number("frequency_penalty", "Subtract this for each time a token was seen."),
        _number("repetition_penalty", "Divide the logits of seen tokens by this."),
    ]

    @functools.wraps(command)
    def gathered(**values: Any) -> Any:  # noqa: ANN401 - whatever click passes
        generation = {
            "thinking": values.pop("thinking"),
            "thinking_budget": values.pop("budget"),
            "max_tokens": values.pop("max_tokens"),
            "deadline": values.pop("deadline"),
            "stop": values.pop("stop"),
            "seed": values.pop("seed"),
            "sampling": {name: values.pop(name) for name in SAMPLING_FIELDS},
        }
        return command(**values, generation=generation)

    for option in reversed(options):
        gathered = option(gathered)
    return gathered


def require_tokenizer(engine: Engine) -> None:
    """Refuse an engine that takes token ids only, which no command line can type.

    Raises:
        RequestError: the engine has no tokenizer.
    """
    if engine.tokenizer is None:
        raise RequestError(
            f"{engine.manifest.name} was built without a tokenizer and takes token ids only, through the Python API; "
            "name a tokenizer in model.tokenizer of its spec and build it again",
            field="engine",
        )


def bind(generation: dict[str, Any]) -> dict[str, Any]:
    """Turn the gathered options into keyword arguments of `Engine.chat`: what was not given keeps the engine's default.

    A single sampling option overrides that one field of the defaults of the mode that the turn is in.
    """
    options = {**generation, **generation.get("sampling", {})}
    given = {name: value for name, value in options.items() if name != "sampling" and value not in (None, ())}
    return {"thinking_budget": generation.get("thinking_budget", "default"), **given}  # None is a choice: no budget
