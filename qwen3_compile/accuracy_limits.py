"""Accuracy limits: each limit of a spec beside the figure that it limits, and whether it holds.

The one place that knows what a figure is called, which limit holds for it and from which side.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

Comparison = Literal["<=", ">="]


@dataclass(frozen=True)
class Figure:
    """A figure of validation: what people call it, its unit, and whether hidden states have it too."""

    name: str
    unit: str = ""
    of_hidden: bool = False


@dataclass(frozen=True)
class Limit:
    """A limit of a spec's accuracy section: its key, the figure that it is for, and which way it goes."""

    key: str
    figure: str
    comparison: Comparison


# Each under its name in `accuracy.json`.
FIGURES = {
    "mean_kl": Figure("mean KL", "nats"),
    "p99_kl": Figure("99% KL", "nats"),
    "worst_kl": Figure("worst KL", "nats"),
    "top1_agreement": Figure("top-1 agreement"),
    "max_logit_error": Figure("largest error", of_hidden=True),
    "min_cosine": Figure("smallest cosine", of_hidden=True),
    "perplexity_ratio": Figure("perplexity ratio"),
    "reference_perplexity": Figure("PyTorch perplexity"),
    "engine_perplexity": Figure("engine perplexity"),
    "greedy_tokens": Figure("greedy agreement", "tokens"),
}
LIMITS = (
    Limit("max_kl", "mean_kl", "<="),
    Limit("min_top1_agreement", "top1_agreement", ">="),
    Limit("max_logit_error", "max_logit_error", "<="),
    Limit("min_cosine", "min_cosine", ">="),
    Limit("max_perplexity_ratio", "perplexity_ratio", "<="),
    Limit("min_greedy_tokens", "greedy_tokens", ">="),
)
# The figures that tell one way of reaching a position from another.
BY_MODE = {
    "logits": ("mean_kl", "p99_kl", "worst_kl", "top1_agreement", "max_logit_error", "min_cosine"),
    "hidden": ("min_cosine", "max_logit_error"),
}
WHOLE = "of every continuation, to its end"
_OLD_NAMES = {"max_kl": "worst_kl"}  # in the accuracy.json of engines that were built before


@dataclass(frozen=True)
class Verdict:
    """One limit and what was measured.

    Attributes:
        figure: its name in `accuracy.json`.
        name: what people call it.
        measured: the figure; None where it was not measured.
        comparison: what the figure must be to the limit.
        limit: the limit of the spec.
        key: the limit's name in the accuracy section of a spec.
        passed: whether the limit holds; None where the engine was not validated.
        note: what the figure is about, in a few words.
    """

    figure: str
    name: str
    measured: float | None
    comparison: Comparison
    limit: float
    key: str
    passed: bool | None
    note: str = ""

    @property
    def mark(self) -> str:
        """`pass`, `FAIL`, or nothing where the engine was not validated."""
        return "" if self.passed is None else "pass" if self.passed else "FAIL"

    @property
    def shown(self) -> str:
        """The figure in four digits; in all of its digits where four look like the limit that it misses."""
        text = format_figure(self.measured)
        return text if self.passed is not False or text != format_figure(self.limit) else repr(self.measured)

    @property
    def cells(self) -> tuple[str, ...]:
        """One line of a table: name, figure, comparison, limit, mark, note."""
        return self.name, self.shown, self.comparison, f"{self.limit:g}", self.mark, self.note

    @property
    def failure(self) -> str:
        """What is wrong, in words."""
        bound = "at most" if self.comparison == "<=" else "at least"
        missed = "" if self.measured is None else f", missed by {abs(self.measured - self.limit):.2g}"
        about = f" {self.note}" if self.note else ""
        return f"{self.name} is {self.shown}{about}, the limit is {bound} {self.limit:g}{missed}"


def judge(
    limits: Mapping[str, Any],
    output: str,
    summary: Mapping[str, Any] | None,
    greedy: Sequence[Mapping[str, Any]],
    rotation: Mapping[str, Any] | None = None,
) -> list[Verdict]:
    """Judge figures by accuracy limits.

    Args:
        limits: the accuracy section of a spec, or of an engine's manifest.
        output: `logits` or `hidden`; the latter have no probabilities, and limits on those say nothing of them.
        summary: the summary of `accuracy.json`, an infinity perhaps as a string; None for an engine without one.
        greedy: the greedy continuations of `accuracy.json`.
        rotation: of `accuracy.json`; its limit is the cache's, not the spec's.

    Returns:
        A verdict for each limit that is set, in a fixed order, and one for the rotation. A figure that was not
        measured, or is not a number, breaks its limit.
    """
    found = []
    for limit in LIMITS:
        bound, figure = limits.get(limit.key), FIGURES[limit.figure]
        if bound is None or (output == "hidden" and not figure.of_hidden):
            continue
        measured, note = parse_figure(summary and summary.get(limit.figure)), ""
        if limit.figure == "greedy_tokens" and summary is not None:
            measured, note = _greedy(greedy)
        passed = None if summary is None else note == WHOLE or _holds(measured, limit.comparison, bound)
        found.append(Verdict(limit.figure, figure.name, measured, limit.comparison, bound, limit.key, passed, note))
    if rotation is not None:
        error, bound = parse_figure(rotation["error"]), rotation["limit"]
        note = f"at {rotation['position']:,}"
        found.append(
            Verdict("rotation", "RoPE error", error, "<=", bound, "rotation", _holds(error, "<=", bound), note)
        )
    return found


def format_figure(value: float | None) -> str:
    """A figure in four digits."""
    return "not measured" if value is None else f"{value:.4g}"


def parse_figure(value: object) -> float | None:
    """A figure of `accuracy.json`, where infinities are strings; None where there is none."""
    return float(value) if isinstance(value, int | float | str) else None


def current_names(summary: Mapping[str, Any]) -> dict[str, Any]:
    """The summary of an `accuracy.json` that may be old, under the names of today."""
    return {_OLD_NAMES.get(key, key): value for key, value in summary.items()}


def _greedy(continuations: Sequence[Mapping[str, Any]]) -> tuple[float | None, str]:
    """The least agreement. A continuation that ended by itself, in full agreement, owes nothing more."""
    if not continuations:
        return None, ""
    parted = [entry for entry in continuations if entry["agreed"] < entry["generated"]]
    if not parted:
        return max(entry["agreed"] for entry in continuations), WHOLE
    least = min(parted, key=lambda entry: entry["agreed"])
    return least["agreed"], f"of {least['generated']} tokens on {least['case']}"


def _holds(measured: float | None, comparison: Comparison, limit: float) -> bool:
    if measured is None:
        return False
    return measured <= limit if comparison == "<=" else measured >= limit  # false for NaN
