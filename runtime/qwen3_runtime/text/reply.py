"""A reply as it is generated: tokens in, reasoning text and answer text out."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qwen3_runtime.text.reasoning import Delta, Newlines, Part, ReasoningSplitter, ThinkingStart
from qwen3_runtime.text.stops import StopStrings
from qwen3_runtime.text.stream import StreamDecoder

if TYPE_CHECKING:
    from collections.abc import Sequence

    from qwen3_runtime.text.tokenizer import Tokenizer


class ReplyStream:
    """Joins splitter, detokenizer and stop strings for one sequence.

    Each part is decoded by itself, so a character cut by a tag or by the budget becomes U+FFFD in its own part and
    never eats into the other. Stop strings end the answer; reasoning may mention them freely. Special tokens (the end
    of turn) have no text.

    Attributes:
        stopped_by: the stop string that ended the answer, or None.
    """

    def __init__(self, tokenizer: Tokenizer, start: ThinkingStart, stops: str | Sequence[str] | None = ()) -> None:
        self._splitter = ReasoningSplitter.for_tokenizer(tokenizer, start)
        self._reasoning = StreamDecoder(tokenizer)
        self._answer = StreamDecoder(tokenizer)
        self._newlines = Newlines()
        self._stops = StopStrings(stops)

    @property
    def stopped_by(self) -> str | None:
        """The stop string that ended the answer, or None."""
        return self._stops.matched

    @property
    def thinking(self) -> bool:
        """Whether the next token, unless a tag, is reasoning."""
        return self._splitter.thinking

    def push(self, token_id: int) -> tuple[Part, Delta]:
        """Take one generated (or forced) token; returns what it belongs to and the text that it makes visible."""
        part = self._splitter.push(token_id)
        if part is Part.REASONING:
            return part, Delta(reasoning=self._newlines.reasoning(self._reasoning.push(token_id)))
        if part is Part.ANSWER:
            return part, Delta(answer=self._stops.push(self._newlines.answer(self._answer.push(token_id))))
        delta = self._end_of_part()
        self._newlines.tag()
        return part, delta

    def flush(self) -> Delta:
        """The text still held back when generation ends."""
        delta = self._end_of_part()
        return Delta(delta.reasoning, delta.answer + self._stops.flush())

    def _end_of_part(self) -> Delta:
        reasoning = self._newlines.reasoning(self._reasoning.flush())
        answer = self._stops.push(self._newlines.answer(self._answer.flush()))
        return Delta(reasoning, answer)
