"""Sequences that grow step by step, and how far their outputs are from the eager model's."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import torch
from lowered_engine import CONTEXT, Engine, eager, reference, relative_error

SEQUENCES = [np.random.default_rng(seed).integers(0, 90, CONTEXT) for seed in range(3)]


@dataclass
class Conversation:
    """Sequences that grow step by step over caches of their own."""

    engine: Engine
    context: list[int] = field(default_factory=lambda: [0, 0, 0])
    outputs: list[list[np.ndarray]] = field(default_factory=lambda: [[], [], []])

    def __post_init__(self) -> None:
        self.caches = self.engine.caches(3)

    def step(self, counts: dict[int, int], *, in_place: bool = True, pad_to: int = 0) -> None:
        """Feed so many further tokens of each sequence in one call."""
        chosen = list(counts)
        caches = {name: np.ascontiguousarray(array[chosen]) for name, array in self.caches.items()}
        tokens = [SEQUENCES[i][self.context[i] : self.context[i] + count] for i, count in counts.items()]
        answers = self.engine.call(tokens, [self.context[i] for i in chosen], caches, in_place=in_place, pad_to=pad_to)
        for name, array in caches.items():
            self.caches[name][chosen] = array
        for (i, count), answer in zip(counts.items(), answers, strict=True):
            self.context[i] += count
            self.outputs[i].append(answer)

    def error(self, dtype: torch.dtype = torch.float32) -> float:
        model = eager(self.engine.architecture, self.engine.formats)
        used = [i for i in range(3) if self.context[i]]
        expected = reference(model, [SEQUENCES[i][: self.context[i]] for i in used], dtype)
        return relative_error([np.concatenate(self.outputs[i]) for i in used], expected)
