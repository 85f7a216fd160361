"""What goes into an engine: a request, checked as far as that goes without a model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, fields, replace
from typing import Any, Literal, TypeAlias

from qwen3_runtime.arguments import (
    integer,
    items,
    kind,
    names_unknown_options,
    number,
    refuse_unknown,
    shown,
    switch,
    text,
)
from qwen3_runtime.errors import RequestError
from qwen3_runtime.sampling import Sampling
from qwen3_runtime.text.stops import checked_stops

Messages: TypeAlias = str | Sequence[Mapping[str, Any]]
Prompt: TypeAlias = str | Sequence[int]
Tools: TypeAlias = Sequence[Mapping[str, Any]]
Budget: TypeAlias = int | Literal["default"] | None

ANSWER_RESERVE = 32
SAMPLING_FIELDS = tuple(field.name for field in fields(Sampling))
_MAX_TOKENS = 2**31 - 1  # beyond any context
_MAX_TOKEN_ID = 1 << 62  # whether the model has an embedding for it is another question
_MAX_DEADLINE_SECONDS = 1e9  # thirty years, far within what a clock can add
_PLURAL = {"messages": "messages", "tools": "tools", "prompt": "token ids"}


@names_unknown_options
@dataclass(frozen=True)
class Request:
    """One completion to make. Either `messages` (a chat) or `prompt` (raw text or token ids) is given.

    Values are checked when a request is made: integers and numbers may be numpy's. What depends on the model is
    checked when the request is handed to an engine.

    Attributes:
        messages: the conversation, as the chat template expects it: `{"role": ..., "content": ...}`. Text alone is one
            message of the user.
        prompt: a raw prompt, fed as it is.
        tools: JSON schemas of functions, for the chat template.
        thinking: whether to think; None for the engine's default. Only hybrid models can switch.
        thinking_budget: maximum number of tokens of reasoning; None for no budget, "default" for the engine's. 0 is the
            same as thinking=False for hybrid models; a model that always thinks is told to answer at once.
        max_tokens: maximum number of tokens after the prompt, including thinking, tags and the stop sentence; None for
            the engine's default.
        stop: strings that end the answer, or one string; reasoning may mention them.
        deadline: seconds from submission after which the request ends with what it has.
        sampling: a whole `Sampling`, or a mapping of some of its fields. What is given neither here nor below is as
            the engine has it for the mode that the turn is in, thinking or not.
        seed: of the sampler. This and the following are the fields of `Sampling`, by themselves.
        temperature: 0 to 100; 0 is greedy.
        top_k: tokens to keep; 0 keeps all.
        top_p: probability mass to keep, above 0 and at most 1.
        min_p: smallest probability relative to the most probable token, 0 to 1.
        presence_penalty: -2 to 2, subtracted once from each token that was generated.
        frequency_penalty: -2 to 2, subtracted for each time that a token was generated.
        repetition_penalty: 0.01 to 100; above 1 makes tokens of prompt and generation less likely.
        cache_salt: requests of one salt share the KV cache of prompts that begin alike, and nothing with requests of
            another salt. Name a tenant: then nobody learns from the time to the first token what others have asked.
            Requests without one share among themselves.
        answer_reserve: minimum number of tokens that a thinking budget leaves for the think tag and the answer, from 2.

    Raises:
        RequestError: a value of the wrong type or out of range, or one given twice.
        UnknownOptionError: a name that is none of these; a `RequestError` and a `TypeError`.
    """

    messages: Messages | None = None
    prompt: Prompt | None = None
    _: KW_ONLY
    tools: Tools | None = None
    thinking: bool | None = None
    thinking_budget: Budget = "default"
    max_tokens: int | None = None
    stop: str | Sequence[str] | None = ()
    deadline: float | None = None
    sampling: Sampling | Mapping[str, float] | None = None
    seed: int | None = None
    temperature: float | None = None
    top_k: int | None = None
    top_p: float | None = None
    min_p: float | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    repetition_penalty: float | None = None
    answer_reserve: int = ANSWER_RESERVE
    cache_salt: str | None = None

    def __post_init__(self) -> None:
        for name, value in _checked(self).items():
            object.__setattr__(self, name, value)

    def __repr__(self) -> str:
        given = ((field, getattr(self, field.name)) for field in fields(self))
        shown_fields = [
            f"{field.name}={_short(field.name, value)}"
            for field, value in given
            if value is not None and not (isinstance(value, type(field.default)) and value == field.default)
        ]
        return f"Request({', '.join(shown_fields)})"

    @property
    def source(self) -> Literal["messages", "prompt"]:
        """The field that the prompt comes from; `messages` where neither or both are given."""
        return "messages" if self.prompt is None or self.messages is not None else "prompt"

    @property
    def conversation(self) -> Sequence[Mapping[str, Any]] | None:
        """The messages; a text alone is one of the user."""
        if isinstance(self.messages, str):
            return [{"role": "user", "content": self.messages}]
        return self.messages

    def sampling_over(self, default: Sampling) -> Sampling:
        """How to choose tokens, where `default` holds for what the request leaves open."""
        apart = {name: value for name in SAMPLING_FIELDS if (value := getattr(self, name)) is not None}
        if isinstance(self.sampling, Sampling):
            return replace(self.sampling, **apart)
        return replace(default, **{**(self.sampling or {}), **apart})


def _checked(request: Request) -> dict[str, object]:
    """The fields of a request that have to be replaced: by plain values of Python's own types."""
    values: dict[str, object] = {
        "stop": checked_stops(request.stop),
        "answer_reserve": integer(
            "answer_reserve", request.answer_reserve, 2, _MAX_TOKENS, expected="a number of tokens from 2"
        ),
    }
    if request.prompt is not None and not isinstance(request.prompt, str):
        values["prompt"] = tuple(
            integer(f"prompt[{index}]", token, -_MAX_TOKEN_ID, _MAX_TOKEN_ID, expected="a token id")
            for index, token in enumerate(items("prompt", request.prompt, "text or token ids"))
        )
    if request.thinking is not None:
        values["thinking"] = switch("thinking", request.thinking, expected="True, False or None")
    budget = request.thinking_budget
    if budget is not None and not (isinstance(budget, str) and budget == "default"):
        expected = "a number of tokens from 0, None or 'default'"
        values["thinking_budget"] = integer("thinking_budget", budget, 0, _MAX_TOKENS, expected=expected)
    if request.cache_salt is not None:
        values["cache_salt"] = text("cache_salt", request.cache_salt)
    if request.max_tokens is not None:
        values["max_tokens"] = integer(
            "max_tokens", request.max_tokens, 1, _MAX_TOKENS, expected="a number of tokens from 1"
        )
    if request.deadline is not None:
        expected = f"seconds above 0, up to {_MAX_DEADLINE_SECONDS:g}"
        values["deadline"] = number(
            "deadline", request.deadline, 0, _MAX_DEADLINE_SECONDS, above_low=True, expected=expected
        )
    return values | _checked_sampling(request)


def _checked_sampling(request: Request) -> dict[str, object]:
    apart = {name: value for name in SAMPLING_FIELDS if (value := getattr(request, name)) is not None}
    plain = Sampling(**apart)
    values: dict[str, object] = {name: getattr(plain, name) for name in apart}
    together = request.sampling
    if together is None:
        return values
    if isinstance(together, Sampling):
        named = {name for name in SAMPLING_FIELDS if name != "seed" or together.seed is not None}
    elif isinstance(together, Mapping):
        refuse_unknown(together, SAMPLING_FIELDS)
        given = {name: value for name, value in together.items() if value is not None}
        plain, named = Sampling(**given), set(given)  # type: ignore[arg-type]
        values["sampling"] = {name: getattr(plain, name) for name in given}
    else:
        raise RequestError.at("sampling", f"expected a Sampling or a mapping of its fields, found {kind(together)}")
    for name in apart:
        if name in named:
            raise RequestError.at(
                name, "given twice, by itself and in sampling; give it once (a mapping may name some fields only)"
            )
    return values


def _short(name: str, value: object) -> str:
    """A value without the kilobytes that it may hold."""
    if isinstance(value, list | tuple) and name in _PLURAL:
        return f"<{len(value)} {_PLURAL[name]}>"
    return shown(value)
