"""The decode loop of one request: sample, split, stream, and stop at the first cap that is met."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol

from qwen3_runtime.completion import Completion, Event, Finished, FinishReason, TextDelta, Timings, Usage
from qwen3_runtime.text.reasoning import Delta, Part, ThinkingStart

if TYPE_CHECKING:
    from collections.abc import Callable

    from qwen3_runtime.budget import ThinkingBudget
    from qwen3_runtime.sampling import ReferenceSampler, Sampler
    from qwen3_runtime.sequence import Interruption
    from qwen3_runtime.step import Output


class Reply(Protocol):
    """Turns tokens into text: `qwen3_runtime.text.ReplyStream`, or `TokensOnly`."""

    @property
    def stopped_by(self) -> str | None:
        """The stop string that ended the answer, or None."""

    @property
    def thinking(self) -> bool:
        """Whether the next token, unless a tag, is reasoning."""

    def push(self, token_id: int) -> tuple[Part, Delta]:
        """Take one token, sampled or forced."""

    def flush(self) -> Delta:
        """The text still held back at the end."""


class TokensOnly:
    """The reply of an engine without a tokenizer: every token is the answer, and none has text."""

    stopped_by: str | None = None
    thinking: bool = False

    def push(self, token_id: int) -> tuple[Part, Delta]:  # noqa: ARG002 - the protocol's
        """Count the token as answer."""
        return Part.ANSWER, Delta()

    def flush(self) -> Delta:
        """Nothing is ever held back."""
        return Delta()


@dataclass(frozen=True)
class Turn:
    """One turn of the model, after the checks of its request: everything that the decode loop goes by.

    Attributes:
        prompt: token ids, the stop sentence not included.
        start: how generation starts: inside the reasoning, able to open it, or without.
        budget: tokens of reasoning, or None; always None where thinking is off.
        stop_sentence: token ids that end the reasoning when the budget is spent.
        open_id: the `<think>` token, or None where the tokenizer has none.
        close_id: the `</think>` token, likewise.
        room: tokens that may follow the prompt.
        limit: which cap `room` is: `length` (max_tokens) or `context`.
        eos: token ids that end the turn.
    """

    prompt: tuple[int, ...]
    start: ThinkingStart
    budget: int | None
    stop_sentence: tuple[int, ...]
    open_id: int | None
    close_id: int | None
    room: int
    limit: Literal["length", "context"]
    eos: frozenset[int]

    @property
    def cut_at_once(self) -> bool:
        """Whether the prompt ends inside the reasoning and no token of it is allowed."""
        return self.start is ThinkingStart.INSIDE and self.budget == 0


class Generation:
    """One request in flight; the scheduler's `Consumer`.

    The work of a token does not depend on how many came before it.

    Args:
        turn: what the request asks for, checked.
        sampler: chooses tokens; keeps what penalties need.
        reply: turns tokens into text.
        budget: counts the reasoning.
        emit: receives the events, the last of which is `Finished`.
        on_error: receives the backend's error, after which no event follows.
        submitted: seconds on the scheduler's clock.
    """

    def __init__(
        self,
        turn: Turn,
        sampler: Sampler | ReferenceSampler,
        reply: Reply,
        budget: ThinkingBudget,
        *,
        emit: Callable[[Event], None],
        on_error: Callable[[Exception], None],
        submitted: float,
    ) -> None:
        self._turn = turn
        self._sampler = sampler
        self._reply = reply
        self._budget = budget
        self._emit = emit
        self._on_error = on_error
        self._submitted = submitted
        self._started: float | None = None
        self._cached_tokens = 0
        self._first: float | None = None
        self._last = submitted
        self._generated: list[int] = []
        self._sampled = 0
        self._answer_tokens = 0
        self._reasoning: list[str] = []
        self._answer: list[str] = []

    def initial_tokens(self) -> list[int]:
        """The prompt, and the stop sentence behind it when reasoning is over before it began. Call once."""
        forced = self._force_stop_sentence() if self._turn.cut_at_once else ()
        return [*self._turn.prompt, *forced]

    def started(self, now: float, cached: int) -> None:
        """The first tokens are about to run; a second call, after a preemption, changes nothing."""
        if self._started is None:
            self._started = now
            self._cached_tokens = min(cached, len(self._turn.prompt))

    @property
    def top_k(self) -> int:
        """How many of the largest logits the sampler wants."""
        return self._sampler.top_k

    def take(self, output: Output, now: float) -> tuple[int, ...]:
        """Sample the next token from logits float32 [vocab_size]; returns what to feed next, or () at the end."""
        token = self._sample(output)
        self._last = now
        if self._first is None:
            self._first = now
        if self._budget.cut_due and token != self._turn.close_id:
            return self._cut(now)  # the token is as if never sampled, but for the random number that it took
        self._sampler.accept(token)  # no other than sampled tokens: no penalty should act on the stop sentence
        self._sampled += 1
        self._generated.append(token)
        if token in self._turn.eos:
            return self._finish("stop", now)
        part, delta = self._reply.push(token)
        self._budget.observe(part, thinking=self._reply.thinking)
        self._answer_tokens += part is Part.ANSWER
        self._show(delta)
        if self._reply.stopped_by is not None:
            return self._finish("stop_string", now)
        if len(self._generated) >= self._turn.room:
            return self._finish(self._turn.limit, now)
        return (token,)

    def interrupt(self, reason: Interruption, now: float) -> None:
        """Finish with what there is."""
        self._finish(reason, now)

    def fail(self, error: Exception) -> None:
        """Pass the backend's error on."""
        self._on_error(error)

    def _sample(self, output: Output) -> int:
        # Where a cut is due, only the model's own choice tells whether it has finished.
        if self._budget.spent and not self._budget.cut_due and self._turn.open_id is not None:
            self._sampler.forbid(self._turn.open_id)
        return self._sampler.sample(output.values, output.top)

    def _cut(self, now: float) -> tuple[int, ...]:
        """End the reasoning, which the model would go on with, or the turn where no room is left for that."""
        if self._turn.room - len(self._generated) > len(self._turn.stop_sentence):
            return self._force_stop_sentence()
        return self._finish(self._turn.limit, now)

    def _force_stop_sentence(self) -> tuple[int, ...]:
        sentence = self._turn.stop_sentence
        self._generated.extend(sentence)
        self._budget.cut(len(sentence))
        for token in sentence:
            _, delta = self._reply.push(token)
            self._show(delta)
        return sentence

    def _show(self, delta: Delta) -> None:
        if delta.reasoning:
            self._reasoning.append(delta.reasoning)
            self._emit(TextDelta("reasoning", delta.reasoning))
        if delta.answer:
            self._answer.append(delta.answer)
            self._emit(TextDelta("answer", delta.answer))

    def _finish(self, reason: FinishReason, now: float) -> tuple[int, ...]:
        self._show(self._reply.flush())
        usage = Usage(
            prompt_tokens=len(self._turn.prompt),
            cached_tokens=self._cached_tokens,
            reasoning_tokens=self._budget.reasoning_tokens,
            forced_tokens=self._budget.forced_tokens,
            answer_tokens=self._answer_tokens,
            completion_tokens=len(self._generated),
        )
        completion = Completion(
            reasoning="".join(self._reasoning),
            answer="".join(self._answer),
            finish_reason=reason,
            budget_hit=self._budget.hit,
            tokens=tuple(self._generated),
            usage=usage,
            timings=self._timings(now),
        )
        self._emit(Finished(completion))
        return ()

    def _timings(self, now: float) -> Timings:
        prefill = self._first - self._started if self._first is not None and self._started is not None else None
        decode = self._last - self._first if self._first is not None else None
        return Timings(
            queued=None if self._started is None else self._started - self._submitted,
            time_to_first_token=None if self._first is None else self._first - self._submitted,
            total=now - self._submitted,
            prefill_tokens_per_second=(len(self._turn.prompt) - self._cached_tokens) / prefill if prefill else None,
            decode_tokens_per_second=(self._sampled - 1) / decode if decode else None,
        )
