"""What a model reads while its inputs are measured: texts of many kinds, in the form in which it will be asked."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from qwen3_runtime.text import ChatTemplate, Tokenizer

# Of each text; the built-in ones have 1,211 tokens in all with the released tokenizer and template.
MAX_TOKENS = 320
RANDOM_LENGTHS = (64, 128, 192, 256)

_BETWEEN_PAIRS, _BEFORE_ANSWER = "\n=====\n", "\n-----\n"


def built_in() -> tuple[tuple[str, str], ...]:
    """Pairs of a question and the beginning of an answer; none is among the prompts that engines are validated with."""
    pairs = Path(__file__).with_name("texts.txt").read_text(encoding="utf-8").rstrip("\n").split(_BETWEEN_PAIRS)
    return tuple((question, answer) for question, _, answer in (pair.partition(_BEFORE_ANSWER) for pair in pairs))


def collect_sequences(
    tokenizer: Tokenizer | None,
    template: ChatTemplate | None,
    *,
    prompts: Sequence[str] | None,
    tokenizer_vocab: int,
    max_context: int,
) -> list[NDArray[np.int64]]:
    """Make the sequences of one calibration.

    Args:
        tokenizer: the model's; without one (synthetic weights) tokens are random.
        template: chat template of a chat model; `None` reads the bare texts.
        prompts: replaces the built-in texts.
        tokenizer_vocab: token ids below this were trained.
        max_context: the engine's limit in tokens, at least 2; sequences are cut to it.

    Returns:
        Token ids int64 [n], n >= 1, in a fixed order.
    """
    room = min(MAX_TOKENS, max_context)
    if tokenizer is None:
        rng = np.random.default_rng(0)
        return [rng.integers(0, tokenizer_vocab, min(length, room)) for length in RANDOM_LENGTHS]
    asked = built_in() if prompts is None else tuple((prompt, "") for prompt in prompts)
    tokens = (tokenizer.encode(_text(template, *pair)) for pair in asked)
    return [np.array(ids[:room], np.int64) for ids in tokens if ids]


def _text(template: ChatTemplate | None, question: str, answer: str) -> str:
    if template is None:
        return f"{question}\n\n{answer}" if answer else question
    return template.render([{"role": "user", "content": question}]) + answer
