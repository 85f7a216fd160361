"""What this project's CPU engine must reach, each row computed from the results."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from peers.contenders import AVX2, CONTENDERS, CheckpointName

if TYPE_CHECKING:
    from collections.abc import Callable

    from peers.results import Figures, Results


@dataclass(frozen=True)
class Goal:
    """One bound on one number.

    Attributes:
        row: what is measured; goals of the same row follow each other.
        bound: the number to reach.
        unit: how the number is written: a multiple, a share, or seconds.
        measured: the number for one of our contenders, or None where the results do not have it.
        ours: the contender that it is asked of.
        at_most: whether less is better.
        against: what the number is relative to.
    """

    row: str
    bound: float
    unit: str
    measured: Callable[[Results, str], float | None]
    ours: str
    against: str
    at_most: bool = False

    def reached(self, value: float) -> bool:
        """Whether a value is as good as the bound or better."""
        return value <= self.bound if self.at_most else value >= self.bound


def rivals(engine: str | None, bits: int, checkpoint: CheckpointName = "dense") -> list[str]:
    """The contenders that are not ours, of one engine or of all, held to AVX2 or not."""
    return [
        one.name
        for one in CONTENDERS
        if not one.ours
        and one.bits == bits
        and one.checkpoint == checkpoint
        and (engine is None or one.engine.startswith(engine))
    ]


def times(figure: str, names: list[str]) -> Callable[[Results, str], float | None]:
    """A contender's figure as a multiple of the best of others in the same round: held to AVX2 as it is, or not."""

    def multiple(results: Results, ours: str) -> float | None:
        equals = [name for name in names if name.endswith(AVX2) == ours.endswith(AVX2)]
        return results.ratio(ours, equals, figure)

    return multiple


def of_bandwidth(depth: str) -> Callable[[Results, str], float | None]:
    """Bytes that decoding reads in a second, as a share of what memory gave just before and after it."""

    def share(round_: dict[str, Figures], ours: str) -> float | None:
        own = round_.get(ours, {})
        if f"bytes_{depth}" not in own or f"per_byte_{depth}" not in own:
            return None
        return own[f"per_byte_{depth}"] * own[f"bytes_{depth}"]

    return lambda results, ours: results.per_round(lambda round_: share(round_, ours))


def of_itself(figure: str, other: str) -> Callable[[Results, str], float | None]:
    """One figure of a contender over another of its own."""

    def quotient(round_: dict[str, Figures], ours: str) -> float | None:
        own = round_.get(ours, {})
        return own[figure] / own[other] if figure in own and other in own else None

    return lambda results, ours: results.per_round(lambda round_: quotient(round_, ours))


def total(*figures: str, without: tuple[str, ...] = ()) -> Callable[[Results, str], float | None]:
    """The sum of figures of a contender, less those `without`."""

    def added(round_: dict[str, Figures], ours: str) -> float | None:
        own = round_.get(ours, {})
        if not all(each in own for each in (*figures, *without)):
            return None
        return sum(own[each] for each in figures) - sum(own[each] for each in without)

    return lambda results, ours: results.per_round(lambda round_: added(round_, ours))


_LLAMA4, _LLAMA8 = rivals("llama.cpp", 4), rivals("llama.cpp", 8)
_LLAMA_MOE = rivals("llama.cpp", 4, "moe")
_PEERS4 = rivals(None, 4)
_OTHERS4 = [name for name in _PEERS4 if name not in _LLAMA4]
_G32, _G128, _MOE = "ours-int4-g32", "ours-int4-g128", "ours-moe-int4-g32"
_SHORT = "decode, int4 group 32, short context"
_DEEP = "decode at 2,048 tokens of context, fp16 cache"
_PREFILL = "prefill 512, int4 group 32"
_MIXTURE = "MoE, 30B-A3B layers (4), int4 group 32"
_OPEN = "open an engine to first token of a 16-token prompt"
_FIRST_TOKEN, _PARSING = ("import_seconds", "load_seconds", "first_token_seconds"), ("tokenizer_seconds",)

GOALS = (
    Goal(_SHORT, 1.6, "x", times("decode_short", _PEERS4), _G32, "the best peer at 4 bits"),
    Goal(_SHORT, 0.75, "%", of_bandwidth("short"), _G32, "read bandwidth"),
    Goal("decode, int4 group 128", 1.75, "x", times("decode_short", _PEERS4), _G128, "the best peer at 4 bits"),
    Goal(_DEEP, 2.0, "x", times("decode_long", _LLAMA4), _G32, "llama.cpp Q4_0, its better flags"),
    Goal(_DEEP, 0.65, "%", of_bandwidth("long"), _G32, "read bandwidth"),
    Goal("decode, int8 by channel", 1.4, "x", times("decode_short", _LLAMA8), "ours-int8", "llama.cpp Q8_0"),
    Goal("decode, fp8 in blocks", 0.65, "%", of_bandwidth("short"), "ours-fp8", "read bandwidth"),
    Goal(_PREFILL, 2.2, "x", times("prefill", _LLAMA4), _G32, "llama.cpp Q4_0"),
    Goal(_PREFILL, 2.0, "x", times("prefill", _OTHERS4), _G32, "the best other peer at 4 bits"),
    Goal(f"{_MIXTURE}: decode", 1.5, "x", times("decode_short", _LLAMA_MOE), _MOE, "llama.cpp Q4_0"),
    Goal(f"{_MIXTURE}: prefill 512", 1.8, "x", times("prefill", _LLAMA_MOE), _MOE, "llama.cpp Q4_0"),
    Goal("8 sequences decoding together", 2.5, "x", of_itself("decode_together", "decode_short"), _G32, "one sequence"),
    Goal(_OPEN, 0.4, "s", total(*_FIRST_TOKEN), _G32, "imports and the tokenizer's file included", True),
    Goal(_OPEN, 0.4, "s", total(*_FIRST_TOKEN, without=_PARSING), _G32, "without parsing the tokenizer's file", True),
    Goal(_OPEN, 0.1, "s", total(*_FIRST_TOKEN[1:], without=_PARSING), _G32, "without imports either", True),
    Goal("time per decode step outside the session", 0.03, "%", total("outside_session"), _G32, "of the step", True),
)
