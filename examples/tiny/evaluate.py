"""Accuracy of tiny engines on held-out sums: thinking, not thinking, and against the thinking budget.

    python examples/tiny/evaluate.py examples/tiny/dense build/tiny-dense

Folders with a `manifest.json` are engines and run in the runtime; others are checkpoints and run in eager
`transformers`. Prints a table and writes `OUTPUT.json` and `OUTPUT.svg`. Decoding is greedy, so that two runs agree.
"""

from __future__ import annotations

import argparse
import json
import time
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from problems import COUNTS, Problem, is_correct, problems
from rich.console import Console
from rich.table import Table

from qwen3_compile.drawing import CURVES, svg_file

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from matplotlib.figure import Figure
    from reply import Reply

    Answerer = Callable[[Sequence[str], int | None], list[Reply]]

BUDGETS: tuple[int | None, ...] = (0, 8, 16, 24, 32, 48, 64, 80, 96, 128, None)
"""Tokens of thinking; 0 is no thinking, `None` is no budget."""

NO_BUDGET = 144
"""Where the picture puts what has no budget."""

BATCH = 64


def held_out_problems(count: int, seed: int = 1) -> list[Problem]:
    """The first `count` problems of the evaluation's side of the split."""
    return list(islice(problems(np.random.default_rng(seed), held_out=True), count))


def measure(answer: Answerer, tested: Sequence[Problem], budget: int | None) -> dict[str, Any]:
    """Accuracy at one budget, overall and by how many numbers a problem has."""
    replies: list[Reply] = []
    for start in range(0, len(tested), BATCH):
        replies += answer([problem.question for problem in tested[start : start + BATCH]], budget)
    right = np.array([is_correct(problem, reply.answer) for problem, reply in zip(tested, replies, strict=True)])
    counts = np.array([len(problem.numbers) for problem in tested])
    return {
        "budget": budget,
        "accuracy": float(right.mean()),
        "cut_share": float(np.mean([reply.cut for reply in replies])),
        "mean_reasoning_tokens": float(np.mean([reply.reasoning_tokens for reply in replies])),
        "accuracy_by_count": {str(n): float(right[counts == n].mean()) for n in COUNTS if (counts == n).any()},
    }


def evaluate(answer: Answerer, tested: Sequence[Problem]) -> dict[str, Any]:
    """The whole curve of one model."""
    start = time.monotonic()
    curve = [measure(answer, tested, budget) for budget in BUDGETS]
    return {
        "problems": len(tested),
        "thinking": curve[-1]["accuracy"],
        "no_thinking": curve[0]["accuracy"],
        "curve": curve,
        "seconds": round(time.monotonic() - start, 1),
    }


def report(results: dict[str, dict[str, Any]]) -> Table:
    """A table with one row for each budget and one column for each model."""
    table = Table("thinking budget (tokens)", *results, title="accuracy on held-out sums")
    for row, budget in enumerate(BUDGETS):
        label = {0: "0 (no thinking)", None: "no budget"}.get(budget, str(budget))
        table.add_row(label, *(f"{100 * result['curve'][row]['accuracy']:.1f} %" for result in results.values()))
    return table


def plot(results: dict[str, dict[str, Any]], path: Path) -> None:
    """Accuracy against the budget: a line for each engine, rings for the checkpoints they were made from."""
    places = [NO_BUDGET if budget is None else budget for budget in BUDGETS]
    engines = [name for name in results if name.endswith("(engine)")] or list(results)

    def draw(figure: Figure) -> None:
        axes = figure.subplots()
        for name, color in zip(engines, CURVES, strict=False):
            axes.plot(places, _percent(results[name]), lw=2, color=color, label=name)
        for name, color in zip([name for name in results if name not in engines], CURVES, strict=False):
            axes.plot(places, _percent(results[name]), "o", ms=6, mfc="none", color=color, label=name)
        ticks = [0, 32, 64, 96, 128, NO_BUDGET]
        axes.set_xticks(ticks, [*map(str, ticks[:-1]), "none"])
        axes.set(xlabel="thinking budget (tokens)", ylabel="% of sums right", ylim=(0, 103), xlim=(-2, NO_BUDGET + 3))
        axes.legend(loc="upper left")

    last = "; ".join(
        f"{name} {_percent(result)[0]:.0f} % to {_percent(result)[-1]:.0f} %" for name, result in results.items()
    )
    alt = (
        f"Share of held-out sums answered right, which rises with the thinking budget from none to 128 tokens: {last}."
    )
    path.write_text(svg_file(draw, (6.4, 3.4), alt), encoding="utf-8")


def _percent(result: dict[str, Any]) -> list[float]:
    return [100 * point["accuracy"] for point in result["curve"]]


def answerer(folder: Path) -> Answerer:
    """What answers: an engine through the runtime, or a checkpoint through eager transformers."""
    if (folder / "manifest.json").is_file():
        from through_engine import ThroughEngine

        return ThroughEngine(folder).replies
    from reference import Reference

    return Reference(folder).replies


def main() -> None:
    """Parse the command line, measure, and write the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="*", type=Path, help="engines or checkpoints; none, with --add, draws again")
    parser.add_argument("--problems", type=int, default=200, help="held-out problems to ask (default 200)")
    parser.add_argument("--output", type=Path, default=Path("tiny-accuracy"), help="path of the results, no suffix")
    parser.add_argument("--add", action="store_true", help="keep the models that OUTPUT.json already holds")
    options = parser.parse_args()
    if not options.folders and not options.add:
        parser.error("expected engines or checkpoints to measure")
    tested = held_out_problems(options.problems)
    stored = options.output.with_name(options.output.name + ".json")
    results = json.loads(stored.read_text(encoding="utf-8")) if options.add else {}
    for folder in options.folders:
        kind = "engine" if (folder / "manifest.json").is_file() else "eager"
        results[f"{folder.name} ({kind})"] = evaluate(answerer(folder), tested)
    Console().print(report(results))
    options.output.parent.mkdir(parents=True, exist_ok=True)
    stored.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
    plot(results, options.output.with_name(options.output.name + ".svg"))


if __name__ == "__main__":
    main()
