"""Where thinking begins and ends: in the prompt, in what the user asks for, and in the stream of tokens."""

from __future__ import annotations

import enum
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from qwen3_runtime.text.tokenizer import Tokenizer

OPEN_TAG = "<think>"
CLOSE_TAG = "</think>"
_ASSISTANT = "<|im_start|>assistant\n"
_END_OF_TURN = "<|im_end|>"

# A switch stands by itself: not inside a path (/usr/think, /think/x, /think.md) or a longer word (/thinking).
# Only ASCII letters count as a word, since languages without spaces write the switch right after their text.
_SWITCH = re.compile(r"(?<![A-Za-z0-9_/~])/(no_)?think(?![A-Za-z0-9_/-])(?!\.[A-Za-z0-9_])")


class ThinkingStart(enum.Enum):
    """How generation starts, as the prompt's last assistant turn leaves it."""

    MAY_OPEN = "may open"
    """No tag yet: the model may open a think block itself, or answer at once."""
    INSIDE = "inside"
    """The prompt opened the block (Thinking-2507): the first token is already reasoning."""
    OFF = "off"
    """The prompt holds a closed, usually empty, block: everything is the answer."""


class Part(enum.Enum):
    """What a generated token belongs to."""

    REASONING = "reasoning"
    ANSWER = "answer"
    TAG = "tag"
    """`<think>` or `</think>`, which belong to neither text."""


def thinking_start(prompt: str) -> ThinkingStart:
    """How generation starts after `prompt`, a rendered chat or a raw text.

    Only the unfinished assistant turn at the end counts: thinking in the history changes nothing.
    """
    _, opened_turn, turn = prompt.rpartition(_ASSISTANT)
    if not opened_turn:
        return ThinkingStart.INSIDE if prompt.rstrip("\n").endswith(OPEN_TAG) else ThinkingStart.MAY_OPEN
    if _END_OF_TURN in turn:
        return ThinkingStart.MAY_OPEN
    opened, closed = turn.rfind(OPEN_TAG), turn.rfind(CLOSE_TAG)
    if opened == closed:
        return ThinkingStart.MAY_OPEN
    return ThinkingStart.INSIDE if opened > closed else ThinkingStart.OFF


def soft_switch(messages: Sequence[Mapping[str, object]]) -> bool | None:
    """The last `/think` (True) or `/no_think` (False) in a system or user message, or None without any.

    The switch is an instruction to the model, which Qwen3 was trained to follow; the prompt does not change.
    Content is read as text, and text parts of a list of parts in their order.
    """
    for message in reversed(messages):
        if message.get("role") not in ("user", "system"):
            continue
        for text in reversed(_texts(message.get("content"))):
            found = _SWITCH.findall(text)
            if found:
                return not found[-1]
    return None


def _texts(content: object) -> list[str]:
    if isinstance(content, str):
        return [content]
    parts = content if isinstance(content, list | tuple) else ()
    return [part["text"] for part in parts if isinstance(part, dict) and isinstance(part.get("text"), str)]


class ReasoningSplitter:
    """Attributes each generated token to the reasoning or to the answer.

    `<think>` enters reasoning, also again after an answer has begun; `</think>` leaves it; a tag without effect (a
    second `</think>`) is still a tag, so that it shows in neither text. A `<tool_call>` within reasoning is reasoning:
    a call counts once it stands in the answer. After `ThinkingStart.OFF` every token that is not a tag is the answer,
    whatever the model opens: an answer is never lost in reasoning that was not asked for.

    Attributes:
        thinking: whether the next token (unless a tag) is reasoning.
    """

    def __init__(self, open_id: int | None, close_id: int | None, start: ThinkingStart) -> None:
        self._open_id = open_id
        self._close_id = close_id
        self._may_open = start is not ThinkingStart.OFF
        self.thinking = start is ThinkingStart.INSIDE

    @classmethod
    def for_tokenizer(cls, tokenizer: Tokenizer, start: ThinkingStart) -> ReasoningSplitter:
        """A splitter with the think tags of `tokenizer`; without such tags all tokens are the answer."""
        return cls(tokenizer.token_id(OPEN_TAG), tokenizer.token_id(CLOSE_TAG), start)

    def push(self, token_id: int) -> Part:
        """What `token_id` belongs to."""
        if token_id == self._open_id:
            self.thinking = self._may_open
            return Part.TAG
        if token_id == self._close_id:
            self.thinking = False
            return Part.TAG
        return Part.REASONING if self.thinking else Part.ANSWER


@dataclass(frozen=True)
class Delta:
    """New text of one step; either may be empty."""

    reasoning: str = ""
    answer: str = ""


class Newlines:
    r"""Removes the newlines that belong to the format: around the reasoning, and before an answer that follows a tag.

    Over a whole generation the reasoning is `text.strip("\n")`, and the answer `text.lstrip("\n")` if a tag came
    before it, else unchanged.
    """

    def __init__(self) -> None:
        self._reasoning_begun = False
        self._answer_begun = False
        self._held = ""
        self._tag_seen = False

    def tag(self) -> None:
        """A tag was generated."""
        self._tag_seen = True

    def reasoning(self, text: str) -> str:
        """Reasoning text to show now: trailing newlines wait for more reasoning."""
        if not self._reasoning_begun:
            text = text.lstrip("\n")
            self._reasoning_begun = bool(text)
        text = self._held + text
        shown = text.rstrip("\n")
        self._held = text[len(shown) :]
        return shown

    def answer(self, text: str) -> str:
        """Answer text to show now."""
        if not self._answer_begun:
            text = text.lstrip("\n") if self._tag_seen else text
            self._answer_begun = bool(text)
        return text
