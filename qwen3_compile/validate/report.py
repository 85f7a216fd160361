"""The outcome of a validation, its JSON form, and the judgment by accuracy limits."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from qwen3_compile.accuracy_limits import judge
from qwen3_compile.errors import AccuracyError
from qwen3_compile.validate.rotation import Rotation
from qwen3_compile.validate.worst import Guess, WorstPosition

if TYPE_CHECKING:
    from pathlib import Path

    from qwen3_compile.accuracy_limits import Verdict
    from qwen3_compile.spec import AccuracyLimits

SCHEMA_VERSION = 2


@dataclass(frozen=True)
class PositionSeries:
    """One case run in one mode, position by position; the lists are equally long.

    `kl` is in nats, `max_error` in logits (or units of a hidden state), `top1` whether both agree on the most
    likely token, `cosine` of the two rows.
    """

    case: str
    mode: str
    positions: list[int]
    kl: list[float]
    max_error: list[float]
    top1: list[bool]
    cosine: list[float]


@dataclass(frozen=True)
class Greedy:
    """How far the engine's greedy continuation of a prompt is the reference's own: `agreed` of `generated` tokens.

    Texts where the engine has a tokenizer: `prompt`, the continuation that is the `same`, and what the `engine` and the
    `reference` say after it, each fed its own tokens. The reference's text may be shorter (see `REFERENCE_BYTES`).
    """

    case: str
    agreed: int
    generated: int
    prompt: str | None = None
    same: str = ""
    engine: str = ""
    reference: str = ""


@dataclass(frozen=True)
class Summary:
    """Figures over every position of every case and mode; `accuracy_limits` names them and says what is limited.

    `mean_kl` is the mean over positions, `p99_kl` a value that 99 % of them do not exceed, `worst_kl` the largest.
    """

    positions: int
    mean_kl: float
    p99_kl: float
    worst_kl: float
    top1_agreement: float
    max_logit_error: float
    min_cosine: float
    greedy_tokens: int | None
    reference_perplexity: float | None
    engine_perplexity: float | None

    @property
    def perplexity_ratio(self) -> float | None:
        """Engine over reference; above 1 the engine predicts the text less well."""
        if self.reference_perplexity is None or self.engine_perplexity is None:
            return None
        return self.engine_perplexity / self.reference_perplexity


@dataclass(frozen=True)
class Worst:
    """The position with the largest distance: divergence for logits, angle for hidden states."""

    case: str
    mode: str
    position: int
    value: float


@dataclass(frozen=True)
class AccuracyReport:
    """Everything that validation measured on one engine.

    `executed` says what gave the figures, where that is not the engine as it runs in production, and `machine` on what
    processor. `rotation` is None where the engine does not show its keys.
    """

    output: str
    summary: Summary
    by_mode: dict[str, Summary]
    worst: Worst
    greedy: list[Greedy]
    series: list[PositionSeries]
    executed: str | None = None
    worst_positions: list[WorstPosition] = field(default_factory=list)
    machine: str | None = None
    rotation: Rotation | None = None

    def verdicts(self, limits: AccuracyLimits) -> list[Verdict]:
        """Each accuracy limit beside what was measured."""
        summary = {**asdict(self.summary), "perplexity_ratio": self.summary.perplexity_ratio}
        greedy = [asdict(entry) for entry in self.greedy]
        rotation = None if self.rotation is None else asdict(self.rotation)
        return judge(limits.model_dump(), self.output, summary, greedy, rotation)

    def violations(self, limits: AccuracyLimits) -> list[str]:
        """Each broken limit as one line: the figure, the limit and the worst position."""
        where = f"worst: {self.worst.case}, {self.worst.mode}, position {self.worst.position}: {self.worst.value:.4g}"
        broken = [verdict for verdict in self.verdicts(limits) if not verdict.passed]
        return [verdict.failure + (f" ({where})" if verdict.key != "rotation" else "") for verdict in broken]

    def check(self, limits: AccuracyLimits) -> None:
        """Raise `AccuracyError`, one line naming every broken limit, unless every limit holds."""
        broken = self.violations(limits)
        if broken:
            raise AccuracyError("the engine misses its accuracy limits: " + "; ".join(broken))

    def to_json(self) -> dict[str, Any]:
        """A JSON-able form; figures keep six significant digits, beyond which lies the noise of summation order."""
        rounded: dict[str, Any] = _rounded({"schema_version": SCHEMA_VERSION, **asdict(self)})
        rounded["summary"]["perplexity_ratio"] = _rounded(self.summary.perplexity_ratio)
        return rounded


def write_json(report: AccuracyReport, path: Path) -> None:
    """Write `accuracy.json`: sorted keys, strict JSON (an infinity becomes the string "inf")."""
    path.write_text(json.dumps(report.to_json(), sort_keys=True, indent=1, allow_nan=False) + "\n", encoding="utf-8")


def read_json(data: dict[str, Any]) -> AccuracyReport:
    """The report that `to_json` wrote. Raises `KeyError`, `TypeError` or `ValueError` if it is not one."""
    if data["schema_version"] != SCHEMA_VERSION:
        raise ValueError(f"accuracy report of schema {data['schema_version']}, expected {SCHEMA_VERSION}")
    modes = dict.fromkeys(entry["mode"] for entry in data["series"])  # as they ran; JSON's keys are sorted
    worst, positions = data["worst"], data.get("worst_positions", [])
    return AccuracyReport(
        output=data["output"],
        summary=_summary(_restored(data["summary"])),
        by_mode={mode: _summary(_restored(data["by_mode"][mode])) for mode in modes},
        worst=Worst(**{**worst, "value": float(worst["value"])}),
        greedy=[Greedy(**entry) for entry in data["greedy"]],
        series=[PositionSeries(**_restored(entry)) for entry in data["series"]],
        executed=data.get("executed"),
        worst_positions=[_worst_position(entry) for entry in positions],
        machine=data.get("machine"),
        rotation=None if data.get("rotation") is None else Rotation(**_restored(data["rotation"])),
    )


def _worst_position(data: dict[str, Any]) -> WorstPosition:
    guesses = {key: [Guess(**guess) for guess in data[key]] for key in ("reference", "engine")}
    return WorstPosition(**{**data, **guesses, "value": float(data["value"])})


def _summary(data: dict[str, Any]) -> Summary:
    return Summary(**{key: value for key, value in data.items() if key != "perplexity_ratio"})


def _rounded(value: Any) -> Any:  # noqa: ANN401 - walks a JSON tree
    match value:
        case float():
            return float(f"{value:.6g}") if math.isfinite(value) else str(value)
        case dict():
            return {key: _rounded(entry) for key, entry in value.items()}
        case list() | tuple():
            return [_rounded(entry) for entry in value]
        case _:
            return value


def _restored(value: Any) -> Any:  # noqa: ANN401 - walks a JSON tree
    """Numbers again where infinities were written as strings; for figures only, as a token's text may be "inf"."""
    match value:
        case "inf" | "-inf" | "nan":
            return float(value)
        case dict():
            return {key: _restored(entry) for key, entry in value.items()}
        case list():
            return [_restored(entry) for entry in value]
        case _:
            return value
