"""What is allowed in a spec and yet says little: a warning, by the name of the key."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qwen3_compile.spec.source import SyntheticSource, parse_source

if TYPE_CHECKING:
    from qwen3_compile.spec.schema import Spec

# Random weights prefer no token: which one is largest, and so every continuation, hangs on the last digit, and a text
# is as unlikely to the engine as to the model whatever the engine does wrong.
# Distances between logits mean what they mean for trained weights.
_DECIDED_BY_CHANCE = ("min_top1_agreement", "min_greedy_tokens")
_WITHOUT_MEANING = ("max_perplexity_ratio",)


def cautions(spec: Spec) -> list[str]:
    """One line for each group of keys that says little of this spec."""
    if not isinstance(parse_source(spec.model.source), SyntheticSource):
        return []
    chance, empty = (
        [f"accuracy.{key}" for key in keys if getattr(spec.accuracy, key) is not None]
        for keys in (_DECIDED_BY_CHANCE, _WITHOUT_MEANING)
    )
    found = []
    if chance:
        found.append(f"{' and '.join(chance)}: random weights prefer no token, so it holds by chance: set null")
    if empty:
        found.append(f"{' and '.join(empty)}: random weights predict no text, so it says nothing: set null")
    return found
