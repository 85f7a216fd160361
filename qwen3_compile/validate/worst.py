"""The positions at which an engine is furthest from PyTorch, and what each of them would say next there."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np

from qwen3_compile.validate.metrics import log_softmax

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from qwen3_runtime.text import Tokenizer

KEPT_POSITIONS = 5
GUESSES_PER_POSITION = 3
CONTEXT_TOKENS = 48  # tokens shown before a position


@dataclass(frozen=True)
class Guess:
    """A candidate for the next token: its id, its text (None without a tokenizer) and its probability."""

    token: int
    probability: float
    text: str | None = None


@dataclass(frozen=True)
class WorstPosition:
    """One of the positions with the largest distance.

    Attributes:
        case: name of the case.
        mode: how the position was reached.
        position: from 0; what follows it is guessed.
        value: divergence in nats, or 1 - cosine of hidden states.
        reference: PyTorch's most likely next tokens, the likeliest first; empty for hidden states.
        engine: the engine's; empty for hidden states and where its output is not finite.
        before: the text up to the position, its end; None without a tokenizer.
        text: the text of the token at the position.
    """

    case: str
    mode: str
    position: int
    value: float
    reference: list[Guess] = field(default_factory=list)
    engine: list[Guess] = field(default_factory=list)
    before: str | None = None
    text: str | None = None


class Furthest:
    """Keeps the few positions with the largest distance of all that are offered, each at its worst mode."""

    def __init__(self) -> None:
        self._found: dict[tuple[str, int], WorstPosition] = {}

    def offer(
        self,
        case: str,
        mode: str,
        start: int,
        distance: NDArray[np.float64],
        rows: tuple[NDArray[np.float32], NDArray[np.float32]] | None,
    ) -> None:
        """Take the rows of a run.

        Args:
            case: its name.
            mode: how its positions are reached.
            start: position of the first row.
            distance: of each row, [R].
            rows: logits [R, V] of reference and engine; None for hidden states.
        """
        for row in np.argsort(-distance, kind="stable")[:KEPT_POSITIONS]:
            value, place = float(distance[row]), (case, start + int(row))
            known = self._found.get(place)
            if value <= (known.value if known else self._least()):
                continue
            reference, engine = ([], []) if rows is None else (guesses(rows[0][row]), guesses(rows[1][row]))
            self._found[place] = WorstPosition(case, mode, place[1], value, reference, engine)
            if len(self._found) > KEPT_POSITIONS:
                del self._found[min(self._found, key=lambda key: self._found[key].value)]

    def positions(self, ids: dict[str, NDArray[np.int64]], tokenizer: Tokenizer | None) -> list[WorstPosition]:
        """The worst first, with the text around them.

        Args:
            ids: tokens of each case, by name.
            tokenizer: the engine's; None leaves the texts out.
        """
        found = sorted(self._found.values(), key=lambda entry: -entry.value)
        return (
            found if tokenizer is None else [_with_text(entry, ids[entry.case].tolist(), tokenizer) for entry in found]
        )

    def _least(self) -> float:
        return (
            min((entry.value for entry in self._found.values()), default=-1.0)
            if len(self._found) >= KEPT_POSITIONS
            else -1.0
        )


def guesses(logits: NDArray[np.float32]) -> list[Guess]:
    """The most likely tokens of one row of logits [V]; none where it is not finite."""
    if not np.isfinite(logits).all():
        return []
    scores = log_softmax(logits[None])[0]
    best = np.argsort(-scores, kind="stable")[:GUESSES_PER_POSITION]
    return [Guess(int(token), float(np.exp(scores[token]))) for token in best]


def _with_text(entry: WorstPosition, ids: Sequence[int], tokenizer: Tokenizer) -> WorstPosition:
    def named(found: Sequence[Guess]) -> list[Guess]:
        return [replace(guess, text=tokenizer.decode([guess.token])) for guess in found]

    return replace(
        entry,
        reference=named(entry.reference),
        engine=named(entry.engine),
        before=tokenizer.decode(ids[max(0, entry.position - CONTEXT_TOKENS) : entry.position]),
        text=tokenizer.decode([ids[entry.position]]),
    )
