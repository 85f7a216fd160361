"""What a model said, whoever ran it."""

from __future__ import annotations

from dataclasses import dataclass

MAX_TOKENS = 256
"""More than the longest train of thought, the stop sentence and the answer together."""


@dataclass(frozen=True)
class Reply:
    """One reply.

    Attributes:
        reasoning: text between the think tags, the stop sentence included where it was used.
        answer: text behind them.
        reasoning_tokens: tokens strictly between the tags, the stop sentence not counted.
        cut: whether the budget ended the thinking.
    """

    reasoning: str
    answer: str
    reasoning_tokens: int
    cut: bool
