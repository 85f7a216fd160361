"""Greedy replies of a compiled engine through the runtime, in the form of the reference's."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from reply import MAX_TOKENS, Reply

from qwen3_runtime import Engine, Request, Sampling

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path


class ThroughEngine:
    """An opened engine directory."""

    def __init__(self, folder: Path) -> None:
        """Open an engine for as many sequences as it was built for."""
        limits = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))["io"]
        self._engine = Engine.open(folder, max_sequences=limits["max_batch"])

    def replies(self, questions: Sequence[str], budget: int | None) -> list[Reply]:
        """Answer single questions greedily, the engine's batch at a time.

        Args:
            questions: the users' messages.
            budget: tokens of thinking; `None` for no budget, 0 for no thinking.
        """
        requests = [
            Request(
                messages=[{"role": "user", "content": question}],
                thinking=budget != 0,
                thinking_budget=budget,
                max_tokens=MAX_TOKENS,
                sampling=Sampling(temperature=0),
            )
            for question in questions
        ]
        return [
            Reply(done.reasoning, done.answer, done.usage.reasoning_tokens, done.budget_hit)
            for done in self._engine.generate(requests)
        ]
