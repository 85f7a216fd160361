"""A scripted model that thinks."""

from __future__ import annotations

from scripted import (
    IM_END,
    THINK,
    THINK_END,
    ScriptedBackend,
    in_turn,
)

QUESTION = [{"role": "user", "content": "How much is 6 times 7?"}]
FILLER = 1154  # an ordinary token
SENTENCE_TOKENS = 24


def thinker(answer: list[int], thoughts: int | None = None) -> ScriptedBackend:
    """Thinks `thoughts` tokens (or for ever) and, once its reasoning is closed, gives the answer."""

    def script(turn: list[int]) -> int:
        if THINK_END in turn:
            after = len(turn) - 1 - turn[::-1].index(THINK_END)
            said = [token for token in turn[after + 1 :] if token != 271]
            return answer[len(said)] if len(said) < len(answer) else IM_END
        if not turn:
            return THINK
        thought = len([token for token in turn if token != THINK])
        return THINK_END if thoughts is not None and thought >= thoughts else FILLER + thought % 7

    return ScriptedBackend(in_turn(script))
