"""What an engine is asked during validation: real prompts, random tokens, and a text for perplexity."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from qwen3_runtime.text import ChatTemplate, Tokenizer

Kind = Literal["prompt", "random", "text"]

# Long enough to cross several chunk borders; short enough that a row of 152 k logits each stays affordable.
MAX_TOKENS = 192
MAX_TEXT_TOKENS = 320
RANDOM_LENGTHS = (33, 64)

PROMPTS = (
    "A train leaves at 9:40 and arrives at 13:05. How long does the journey take? Answer in hours and minutes.",
    "Write a Python function that returns the n-th Fibonacci number without recursion, and say what it costs.",
    "请用两句话解释为什么天空是蓝色的。",
)

TEXT = """\
The lighthouse at the end of the harbour wall has been dark for eleven years. When the last keeper retired, the \
council voted to replace the lamp with a small automatic beacon, and the tall white tower was left to the gulls. \
Visitors still walk out to it on summer evenings, when the stone holds the warmth of the day and the water inside \
the wall is as flat as glass. In winter nobody goes: the waves break over the parapet and the spray freezes on the \
railings before it can run off.

Last spring a student of engineering asked whether she might measure how the tower moves in a storm. She fixed four \
accelerometers to the gallery, each no larger than a matchbox, and ran a cable down the spiral stair to a computer \
in the oil store. For three months the instrument wrote down two hundred numbers every second. Most of them said \
that nothing was happening. On the night of the fourteenth of March, however, the gallery swung eleven millimetres \
to either side, eight times a minute, for almost five hours, and the record of that night is now taught in two \
universities. What surprised her was not the size of the movement but its direction: the tower leaned into the \
wind, as a sailor does, because the gusts arrived in step with its own slow sway.
"""


@dataclass(frozen=True)
class Case:
    """Known tokens that reference and engine both run.

    Attributes:
        name: how the report calls it.
        kind: where the tokens come from.
        ids: int64 [n], n >= 2.
    """

    name: str
    kind: Kind
    ids: NDArray[np.int64]


def collect_cases(
    tokenizer: Tokenizer | None,
    template: ChatTemplate | None,
    *,
    prompts: Sequence[str] | None,
    text: str | None,
    tokenizer_vocab: int,
    max_context: int,
) -> list[Case]:
    """Make the cases of one engine.

    Args:
        tokenizer: the engine's; without one (synthetic weights) only random tokens can be asked.
        template: chat template of a chat model; `None` asks the bare text.
        prompts: replaces the built-in prompts.
        text: replaces the built-in text.
        tokenizer_vocab: token ids below this were trained.
        max_context: the engine's limit in tokens, at least 2; cases are cut to it, less the tokens of a greedy
            continuation.

    Returns:
        Cases in a fixed order, the text last.
    """
    room = max(2, min(MAX_TOKENS, max_context * 3 // 4))
    cases: list[Case] = []
    if tokenizer is not None:
        for number, prompt in enumerate(prompts if prompts is not None else PROMPTS, start=1):
            rendered = prompt if template is None else template.render([{"role": "user", "content": prompt}])
            cases.append(Case(f"prompt {number}", "prompt", _ids(tokenizer.encode(rendered), room)))
    rng = np.random.default_rng(0)
    for length in RANDOM_LENGTHS:
        ids = rng.integers(0, tokenizer_vocab, size=min(length, room))
        cases.append(Case(f"random {length}", "random", ids.astype(np.int64)))
    room = min(MAX_TEXT_TOKENS, max_context)
    if tokenizer is not None:
        cases.append(Case("text", "text", _ids(tokenizer.encode(text or TEXT), room)))
    else:
        cases.append(
            Case("random text", "text", rng.integers(0, tokenizer_vocab, size=min(128, room)).astype(np.int64))
        )
    return [case for case in cases if case.ids.size > 1]


def _ids(tokens: Sequence[int], room: int) -> NDArray[np.int64]:
    return np.array(tokens[:room], dtype=np.int64)
