"""What was measured: rounds of figures by contender, their medians, and ratios within rounds."""

from __future__ import annotations

import json
import statistics
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

MACHINE = "machine"
"""The name under which a round keeps what the machine gave."""

Figures = dict[str, float]


@dataclass
class Results:
    """Everything that `compare.py run` leaves behind.

    Attributes:
        threads: of every engine.
        machine: what it ran on.
        versions: of the engines, by name.
        model_bytes: size of each contender's model on disk.
        rounds: in each round the figures of every contender that ran, and of `MACHINE`.
        failures: what went wrong, in words.
        quick: whether the lengths were only for trying the path, and the figures mean nothing.
    """

    threads: int
    machine: dict[str, str]
    versions: dict[str, str] = field(default_factory=dict)
    model_bytes: dict[str, int] = field(default_factory=dict)
    rounds: list[dict[str, Figures]] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    quick: bool = False

    def values(self, name: str, figure: str) -> list[float]:
        """A figure of one contender in all rounds that have it."""
        return [each[name][figure] for each in self.rounds if figure in each.get(name, {})]

    def median(self, name: str, figure: str) -> float | None:
        """The median over the rounds; None where nothing was measured."""
        values = self.values(name, figure)
        return statistics.median(values) if values else None

    def per_round(self, compute: Callable[[dict[str, Figures]], float | None]) -> float | None:
        """The median of something computed within each round; None where no round has it.

        Ratios are taken so, because whatever disturbs a round disturbs what it divides alike.
        """
        found = [value for each in self.rounds if (value := compute(each)) is not None]
        return statistics.median(found) if found else None

    def ratio(self, name: str, rivals: Iterable[str], figure: str) -> float | None:
        """How many times a contender's figure is the best rival's of the same round."""
        rivals = tuple(rivals)

        def compute(figures: dict[str, Figures]) -> float | None:
            best = max((figures[rival][figure] for rival in rivals if figure in figures.get(rival, {})), default=None)
            own = figures.get(name, {}).get(figure)
            return own / best if own is not None and best is not None else None

        return self.per_round(compute)


def read_results(path: Path) -> Results:
    """Read what `write_results` wrote."""
    return Results(**json.loads(path.read_text(encoding="utf-8")))


def write_results(results: Results, path: Path) -> None:
    """Write the results; a file is either the old one or the whole new one."""
    partial = path.with_name(f"{path.name}.partial")
    partial.write_text(json.dumps(asdict(results), indent=1) + "\n", encoding="utf-8")
    partial.replace(path)
