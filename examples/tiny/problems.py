"""The task of the tiny models: sums of two-digit numbers, with worked totals, an exact checker and a held-out split."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator

COUNTS = range(2, 11)
"""How many numbers a problem may have."""

HELD_OUT_SHARE = 16
"""One problem in this many is never trained on."""


@dataclass(frozen=True)
class Problem:
    """One sum.

    Attributes:
        numbers: distinct integers in 10..99, in the order in which they are added.
    """

    numbers: tuple[int, ...]

    @property
    def expression(self) -> str:
        """The sum as the user writes it, for example `37+45+16`."""
        return "+".join(str(number) for number in self.numbers)

    @property
    def total(self) -> int:
        """The exact sum."""
        return sum(self.numbers)

    @property
    def question(self) -> str:
        """The user's message."""
        return f"What is {self.expression}?"

    @property
    def thinking(self) -> str:
        """The running totals, one line for each number after the first: `37+45=82`, `82+16=98`."""
        total = self.numbers[0]
        lines = []
        for number in self.numbers[1:]:
            lines.append(f"{total}+{number}={total + number}")
            total += number
        return "\n".join(lines)

    @property
    def answer(self) -> str:
        """The reply after the thinking."""
        return f"The sum is {self.total}."


def is_correct(problem: Problem, reply: str) -> bool:
    """Whether a reply states the exact sum, and no other number, after its last `</think>`."""
    stated = re.findall(r"\d+", reply.rsplit("</think>", 1)[-1])
    return stated == [str(problem.total)]


def is_held_out(problem: Problem) -> bool:
    """Whether a problem belongs to the evaluation: decided by a hash of its numbers in any order."""
    key = ",".join(str(number) for number in sorted(problem.numbers))
    return hashlib.sha256(key.encode()).digest()[0] % HELD_OUT_SHARE == 0


def problems(rng: np.random.Generator, *, held_out: bool, short: bool = False) -> Iterator[Problem]:
    """Draw problems for ever, the count of numbers uniform over `COUNTS`.

    Args:
        rng: the source of randomness; the same state gives the same problems.
        held_out: whether to draw from the evaluation's side of the split or from the training's.
        short: prefer few numbers: n of them in proportion to 1 / (n - 1).
    """
    shares = np.array([1 / (count - 1) for count in COUNTS])
    shares /= shares.sum()
    while True:
        count = int(rng.choice(COUNTS, p=shares) if short else rng.integers(COUNTS.start, COUNTS.stop))
        drawn = rng.choice(90, size=count, replace=False) + 10
        problem = Problem(tuple(int(number) for number in drawn))
        if is_held_out(problem) == held_out:
            yield problem
