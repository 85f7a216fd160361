"""What goes into an engine and what comes out: requests, events and completions."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypedDict

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from qwen3_runtime.sampling import Sampling

FinishReason = Literal["stop", "stop_string", "length", "deadline", "context", "cancelled"]

ANSWER_RESERVE = 32
_TOOL_CALL = re.compile(r"<tool_call>\s*(.*?)\s*</tool_call>", re.DOTALL)


@dataclass(frozen=True)
class Request:
    """One completion to make. Either `messages` (a chat) or `prompt` (raw text or token ids) is given.

    Attributes:
        messages: the conversation, as the chat template expects it: `{"role": ..., "content": ...}`.
        prompt: a raw prompt, fed as it is.
        tools: JSON schemas of functions, for the chat template.
        thinking: whether to think; None for what the engine does by default. Hybrid models only can switch.
        thinking_budget: tokens of reasoning; None for no budget, "default" for the engine's. 0 is the same as
            thinking=False for hybrid models; a model that always thinks is told to answer at once.
        max_tokens: cap of all tokens after the prompt, tags and stop sentence included; None for the engine's.
        sampling: None for the engine's default of the mode (thinking or not).
        stop: strings that end the answer; reasoning may mention them.
        deadline: seconds from submission after which the request ends with what it has.
        seed: of the sampler; given here it replaces the one in `sampling`.
        answer_reserve: tokens that a thinking budget has to leave for the think tag and the answer, at least 2.
    """

    messages: Sequence[Mapping[str, Any]] | None = None
    prompt: str | Sequence[int] | None = None
    tools: Sequence[Mapping[str, Any]] | None = None
    thinking: bool | None = None
    thinking_budget: int | Literal["default"] | None = "default"
    max_tokens: int | None = None
    sampling: Sampling | None = None
    stop: Sequence[str] = ()
    deadline: float | None = None
    seed: int | None = None
    answer_reserve: int = ANSWER_RESERVE


class Options(TypedDict, total=False):
    """The fields of `Request` but for the prompt, as keyword arguments."""

    tools: Sequence[Mapping[str, Any]] | None
    thinking: bool | None
    thinking_budget: int | Literal["default"] | None
    max_tokens: int | None
    sampling: Sampling | None
    stop: Sequence[str]
    deadline: float | None
    seed: int | None
    answer_reserve: int


@dataclass(frozen=True)
class Usage:
    """Where the tokens went.

    Attributes:
        prompt_tokens: tokens of the prompt.
        reasoning_tokens: sampled tokens strictly between the think tags.
        forced_tokens: tokens of the stop sentence; neither sampled nor counted as reasoning.
        answer_tokens: sampled tokens outside the reasoning, without tags and the end of turn.
        completion_tokens: everything after the prompt, tags and end of turn included.
    """

    prompt_tokens: int
    reasoning_tokens: int
    forced_tokens: int
    answer_tokens: int
    completion_tokens: int


@dataclass(frozen=True)
class Timings:
    """How long it took, in seconds from submission and tokens a second; None where nothing was measured.

    Attributes:
        queued: until the first step that the request took part in.
        time_to_first_token: until the first sampled token.
        total: until the end.
        prefill_tokens_per_second: prompt tokens over the time from the first step to the first token.
        decode_tokens_per_second: sampled tokens after the first, over the time that they took.
    """

    queued: float | None
    time_to_first_token: float | None
    total: float
    prefill_tokens_per_second: float | None
    decode_tokens_per_second: float | None


@dataclass(frozen=True)
class Completion:
    """The outcome of a request.

    Attributes:
        reasoning: text between the think tags, the stop sentence included where it was used.
        answer: text outside them.
        finish_reason: which end or cap was met.
        budget_hit: whether the thinking budget cut the reasoning.
        tokens: every token after the prompt, as the model saw them, the stop sentence included.
        usage: token counts.
        timings: durations and rates.
    """

    reasoning: str
    answer: str
    finish_reason: FinishReason
    budget_hit: bool
    tokens: tuple[int, ...]
    usage: Usage
    timings: Timings

    @property
    def tool_calls(self) -> tuple[str, ...]:
        """The bodies of the complete `<tool_call>` blocks of the answer, unparsed. Calls in the reasoning are not."""
        return tuple(_TOOL_CALL.findall(self.answer))


@dataclass(frozen=True)
class TextDelta:
    """New text, of the reasoning or of the answer."""

    kind: Literal["reasoning", "answer"]
    text: str


@dataclass(frozen=True)
class Finished:
    """The last event of a request."""

    completion: Completion


Event = TextDelta | Finished
