"""What comes out of an engine: pieces of text while it runs, and the completion at the end."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from qwen3_runtime.arguments import shown

FinishReason = Literal["stop", "stop_string", "length", "deadline", "context", "cancelled"]

_TOOL_CALL = re.compile(r"<tool_call>\s*(.*?)\s*</tool_call>", re.DOTALL)


@dataclass(frozen=True)
class Usage:
    """Where the tokens went.

    Attributes:
        prompt_tokens: tokens of the prompt.
        cached_tokens: those of them that the cache held already, so that they were not computed.
        reasoning_tokens: sampled tokens strictly between the think tags.
        forced_tokens: tokens of the stop sentence; neither sampled nor counted as reasoning.
        answer_tokens: sampled tokens outside the reasoning, without tags and the end of turn.
        completion_tokens: everything after the prompt, tags and end of turn included.
    """

    prompt_tokens: int
    cached_tokens: int
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
        prefill_tokens_per_second: computed prompt tokens over the time from the first step to the first token.
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

    def __repr__(self) -> str:
        cut = ", budget_hit=True" if self.budget_hit else ""
        thought = f"reasoning={shown(self.reasoning)}, " if self.reasoning else ""
        return (
            f"Completion({thought}answer={shown(self.answer)}, finish_reason={self.finish_reason!r}{cut}, "
            f"tokens=<{len(self.tokens)} token ids>)"
        )

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
