"""Runs a validation: cases, reference, engine, distances, report."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from qwen3_compile.machine import processor
from qwen3_compile.targets import target_of
from qwen3_compile.validate import replay
from qwen3_compile.validate.cases import Case, collect_cases
from qwen3_compile.validate.continuations import compare_continuations, engine_continuations, greedy_tokens
from qwen3_compile.validate.facts import facts
from qwen3_compile.validate.html import write_html
from qwen3_compile.validate.metrics import Distance, compare_hidden, compare_logits, negative_log_likelihood
from qwen3_compile.validate.reference import Reference
from qwen3_compile.validate.report import (
    AccuracyReport,
    Greedy,
    PositionSeries,
    Summary,
    Worst,
    write_json,
)
from qwen3_compile.validate.rotation import measure_rotation
from qwen3_compile.validate.worst import Furthest
from qwen3_runtime import Engine
from qwen3_runtime.engine_files import ACCURACY, REPORT

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from qwen3_compile.checkpoint import Checkpoint
    from qwen3_compile.spec import Spec

    Progress = Callable[[str], None]

ON_CPU = (
    "model.onnx, the graph that the plan was built from, executed by ONNX Runtime on the CPU. "
    "The plan itself was not executed."
)
COMPARED_ROWS = 32


@dataclass(frozen=True)
class Measured:
    """One case in one mode: its position series, and the engine's nats of each next token where those were asked."""

    series: PositionSeries
    nats: tuple[NDArray[np.float64], NDArray[np.float64]] | None


def write_report(report: AccuracyReport, spec: Spec, folder: Path, manifest: Mapping[str, Any]) -> None:
    """Write `accuracy.json` and `report.html` into an existing folder; `manifest` is the engine's, as JSON values."""
    write_json(report, folder / ACCURACY)
    write_html(report, spec.accuracy, spec.name, folder / REPORT, facts=facts(manifest))


def measure_accuracy(
    engine_dir: Path,
    checkpoint: Checkpoint,
    spec: Spec,
    *,
    threads: int | None = None,
    progress: Progress | None = None,
    plan: bool = False,
    strict: bool = True,
) -> AccuracyReport:
    """Compare an engine with eager PyTorch; nothing is written.

    Args:
        engine_dir: the engine, whose manifest must already be in place.
        checkpoint: the weights that it was built from.
        spec: what it was built to be; its accuracy section may name prompts and a text.
        threads: threads of the engine's session.
        progress: told what is being done, in a few words.
        plan: execute a TensorRT engine's plan, which needs the GPU, instead of its graph on the CPU.
        strict: as in `Engine.open`.

    Returns:
        Every distance that was measured. `AccuracyReport.check` holds it to the spec's limits.
    """
    tell = progress or (lambda _: None)
    on_cpu = target_of(spec.target).has_plan and not plan
    with Engine.open(
        engine_dir, threads=threads, max_sequences=spec.limits.max_batch, on_cpu=on_cpu, strict=strict
    ) as engine:
        io = engine.manifest.io
        cases = collect_cases(
            engine.tokenizer,
            engine.template if io.task == "chat" else None,
            prompts=spec.accuracy.prompts,
            text=spec.accuracy.text,
            tokenizer_vocab=io.tokenizer_vocab_size,
            max_context=io.max_context,
        )
        continued = engine_continuations(engine, cases, greedy_tokens(spec), tell) if io.output == "logits" else []
        tell("running the reference, layer by layer")
        reference = Reference(checkpoint, spec.graph_architecture(), io.output)
        hidden = reference.hidden_states(
            [*(case.ids for case in cases), *(np.concatenate([case.ids, tokens]) for case, tokens in continued)]
        )
        measured, furthest = [], Furthest()
        for mode, numbers, rows in _runs(engine, cases):
            tell(f"comparing {mode}: {', '.join(cases[number].name for number in numbers)}")
            measured += _compare(mode, numbers, rows, cases, hidden, reference, io.tokenizer_vocab_size, furthest)
        tokenizer = engine.tokenizer
        tell("running a token near the end of the context")
        rotation = measure_rotation(engine.backend, spec.graph_architecture(), io)
    greedy = compare_continuations(continued, hidden[len(cases) :], reference, engine.manifest, tokenizer, tell)
    return replace(
        _report(io.output, measured, greedy),
        executed=ON_CPU if on_cpu else None,
        worst_positions=furthest.positions({case.name: case.ids for case in cases}, tokenizer),
        machine=processor(),
        rotation=rotation,
    )


def _runs(engine: Engine, cases: Sequence[Case]) -> Iterator[tuple[str, list[int], Iterator[replay.Rows]]]:
    """Each way of reaching the positions: its name, the numbers of its cases, and the engine's rows."""
    limit = engine.manifest.io.max_step_tokens
    everything = list(range(len(cases)))
    for mode, plan in (("prefill", replay.whole), ("chunked prefill", replay.chunked), ("decode", replay.decoding)):
        for number in everything:
            ids = cases[number].ids
            yield mode, [number], replay.replay(engine.backend, [ids], [plan(ids.size, limit)])
    together = everything[: min(engine.manifest.io.max_batch, engine.backend.cache.num_blocks)]
    if len(together) > 1:
        chosen = [cases[number].ids for number in together]
        # Shares of the step's tokens, and a decode next to a chunk next to a prefill.
        share = max(1, limit // len(together))
        plans = [
            (replay.chunked, replay.decoding, replay.whole)[place % 3](ids.size, share)
            for place, ids in enumerate(chosen)
        ]
        yield "ragged batch", together, replay.replay(engine.backend, chosen, plans)


def _compare(
    mode: str,
    numbers: Sequence[int],
    rows: Iterator[replay.Rows],
    cases: Sequence[Case],
    hidden: Sequence[NDArray[np.float32]],
    reference: Reference,
    vocab_size: int,
    furthest: Furthest,
) -> list[Measured]:
    """Distances of one run from the reference, in each of its cases."""
    found: dict[int, list[Distance]] = {number: [] for number in numbers}
    nats: dict[int, list[tuple[NDArray[np.float64], NDArray[np.float64]]]] = {number: [] for number in numbers}
    for row in _slices(rows):
        number = numbers[row.sequence]
        ids, stop = cases[number].ids, row.start + len(row.values)
        expected = reference.read_out(hidden[number][row.start : stop])
        if reference.output == "hidden":
            distance = compare_hidden(expected, row.values)
            found[number].append(distance)
            furthest.offer(cases[number].name, mode, row.start, 1 - distance.cosine, None)
            continue
        distance = compare_logits(expected, row.values, vocab_size)
        found[number].append(distance)
        furthest.offer(
            cases[number].name, mode, row.start, distance.kl, (expected[:, :vocab_size], row.values[:, :vocab_size])
        )
        if mode == "prefill" and cases[number].kind == "text":
            targets = ids[row.start + 1 : stop + 1]
            scores = (
                negative_log_likelihood(logits[: targets.size], targets, vocab_size)
                for logits in (expected, row.values)
            )
            nats[number].append((next(scores), next(scores)))
    return [
        Measured(_series(cases[number].name, mode, found[number]), _joined(nats[number]) if nats[number] else None)
        for number in numbers
    ]


def _slices(rows: Iterator[replay.Rows]) -> Iterator[replay.Rows]:
    """The same rows, few at a time: at 152 k logits a row, comparing takes several times the memory of its input."""
    for row in rows:
        for at in range(0, len(row.values), COMPARED_ROWS):
            yield replay.Rows(row.sequence, row.start + at, row.values[at : at + COMPARED_ROWS])


def _series(case: str, mode: str, distances: Sequence[Distance]) -> PositionSeries:
    kl = np.concatenate([d.kl for d in distances])
    return PositionSeries(
        case=case,
        mode=mode,
        positions=list(range(len(kl))),
        kl=kl.tolist(),
        max_error=np.concatenate([d.max_error for d in distances]).tolist(),
        top1=np.concatenate([d.top1 for d in distances]).tolist(),
        cosine=np.concatenate([d.cosine for d in distances]).tolist(),
    )


def _joined(
    pairs: Sequence[tuple[NDArray[np.float64], NDArray[np.float64]]],
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    return np.concatenate([a for a, _ in pairs]), np.concatenate([b for _, b in pairs])


def _report(output: str, measured: Sequence[Measured], greedy: list[Greedy]) -> AccuracyReport:
    series = [entry.series for entry in measured]
    nats = next((entry.nats for entry in measured if entry.nats is not None), None)
    modes = dict.fromkeys(entry.mode for entry in series)
    overall = _summarize(series, greedy, nats)
    by_mode = {mode: _summarize([entry for entry in series if entry.mode == mode], [], None) for mode in modes}
    return AccuracyReport(output, overall, by_mode, _worst(output, series), greedy, series)


def _summarize(
    series: Sequence[PositionSeries],
    greedy: Sequence[Greedy],
    nats: tuple[NDArray[np.float64], NDArray[np.float64]] | None,
) -> Summary:
    kl, error, top1, cosine = (
        np.concatenate([getattr(entry, field) for entry in series]) for field in ("kl", "max_error", "top1", "cosine")
    )
    return Summary(
        positions=len(kl),
        mean_kl=float(kl.mean()),
        p99_kl=float(np.quantile(kl, 0.99, method="higher")),
        worst_kl=float(kl.max()),
        top1_agreement=float(top1.mean()),
        max_logit_error=float(error.max()),
        min_cosine=float(cosine.min()),
        greedy_tokens=min((g.agreed for g in greedy), default=None),
        reference_perplexity=None if nats is None else float(np.exp(nats[0].mean())),
        engine_perplexity=None if nats is None else float(np.exp(nats[1].mean())),
    )


def _worst(output: str, series: Sequence[PositionSeries]) -> Worst:
    def distance(entry: PositionSeries) -> NDArray[np.float64]:
        return np.array(entry.kl) if output == "logits" else -np.array(entry.cosine)

    entry = max(series, key=lambda candidate: distance(candidate).max())
    position = int(distance(entry).argmax())
    value = entry.kl[position] if output == "logits" else entry.cosine[position]
    return Worst(entry.case, entry.mode, position, value)
