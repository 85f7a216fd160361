"""Rounds: every contender once, in an order that rotates, and the machine beside them."""

from __future__ import annotations

import json
import statistics
import subprocess
import time
from typing import TYPE_CHECKING

from peers.environments import BENCHMARKS, REPOSITORY, python_of, variables_of
from peers.machine import describe, int8_throughput
from peers.prepare import model_path
from peers.results import MACHINE, Figures, Results, write_results

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from peers.contenders import Contender, EngineName

WORKERS: dict[EngineName, str] = {
    "ours": "peers.our_worker",
    "llama.cpp": "peers.llama_worker",
    "llama.cpp for AVX2": "peers.llama_worker",
    "onnxruntime-genai": "peers.genai_worker",
    "openvino-genai": "peers.openvino_worker",
}
DISTRIBUTIONS = {
    "llama.cpp": "llama-cpp-python",
    "llama.cpp for AVX2": "llama-cpp-python",
    "onnxruntime-genai": "onnxruntime-genai",
    "openvino-genai": "openvino-genai",
}
MOST_SECONDS = 600
READ_AT_ONCE = 1 << 24


def rotated(contenders: Sequence[Contender], number: int) -> list[Contender]:
    """The order of a round, so that nobody always follows the same neighbor's heat and noise from the start."""
    start = number % len(contenders)
    return [*contenders[start:], *contenders[:start]]


def run_rounds(
    folder: Path, contenders: Sequence[Contender], *, rounds: int, threads: int, quick: bool = False
) -> Results:
    """Measure, and keep the results after every round in `results.json`.

    A contender that fails in a round has no figures in it; why is printed and kept.
    """
    results = Results(threads=threads, machine=describe(), versions=versions(folder, contenders), quick=quick)
    results.model_bytes = {one.name: size_on_disk(model_path(folder, one)) for one in contenders}
    for number in range(rounds):
        started = time.monotonic()
        figures: dict[str, Figures] = {}
        for contender in rotated(contenders, number):
            try:
                figures[contender.name] = run_worker(folder, contender, threads=threads, seed=number, quick=quick)
            except RuntimeError as error:
                results.failures.append(f"round {number + 1}: {error}")
                print(f"error: {results.failures[-1]}", flush=True)
                continue
            print(_line(contender.name, figures[contender.name]), flush=True)
        readings = [each["read_bandwidth"] for each in figures.values()]
        figures[MACHINE] = {"int8_throughput": int8_throughput(threads)}
        if readings:
            figures[MACHINE]["read_bandwidth"] = statistics.median(readings)
        results.rounds.append(figures)
        write_results(results, folder / "results.json")
        print(f"round {number + 1} of {rounds}: {time.monotonic() - started:.0f} s", flush=True)
    return results


def run_worker(folder: Path, contender: Contender, *, threads: int, seed: int, quick: bool) -> Figures:
    """Run a contender in a fresh process, its model in the page cache.

    Raises:
        RuntimeError: it failed; the message has the end of what it said.
    """
    path = model_path(folder, contender)
    touch(path)
    command = [str(python_of(contender.engine, folder)), "-m", WORKERS[contender.engine], str(path)]
    command += ["--threads", str(threads), "--seed", str(seed), *contender.flags, *(["--quick"] if quick else [])]
    variables = {**variables_of(contender.engine), **contender.environment}
    try:
        done = subprocess.run(
            command, cwd=BENCHMARKS, env=variables, capture_output=True, text=True, timeout=MOST_SECONDS, check=True
        )
        figures: Figures = json.loads(done.stdout.splitlines()[-1])
    except subprocess.CalledProcessError as error:
        said = " / ".join((error.stderr or error.stdout).strip().splitlines()[-3:])
        message = f"{contender.name}: status {error.returncode}: {said}"
        raise RuntimeError(message) from error
    except (subprocess.TimeoutExpired, ValueError, IndexError) as error:
        message = f"{contender.name}: {error}"
        raise RuntimeError(message) from error
    return figures


def touch(path: Path) -> None:
    """Read a model's files once, so that every contender opens them from the page cache."""
    for file in _files(path):
        with file.open("rb") as stream:
            while stream.read(READ_AT_ONCE):
                pass


def size_on_disk(path: Path) -> int:
    """Bytes of a model's files."""
    return sum(file.stat().st_size for file in _files(path))


def versions(folder: Path, contenders: Sequence[Contender]) -> dict[str, str]:
    """The installed version of each peer, and our commit."""
    found: dict[str, str] = {}
    for engine in dict.fromkeys(one.engine for one in contenders):
        if engine == "ours":
            command = ["git", "-C", str(REPOSITORY), "rev-parse", "--short", "HEAD"]
        else:
            show = f"import importlib.metadata as m; print(m.version({DISTRIBUTIONS[engine]!r}))"
            command = [str(python_of(engine, folder)), "-c", show]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        found[engine] = done.stdout.strip() or "unknown"
    return found


def _files(path: Path) -> list[Path]:
    return [path] if path.is_file() else sorted(each for each in path.rglob("*") if each.is_file())


def _line(name: str, figures: Figures) -> str:
    return (
        f"{name:<24} prefill {figures['prefill']:7.1f}  decode {figures['decode_short']:6.1f}"
        f"  at depth {figures['decode_long']:6.1f}  {figures['peak_rss'] / 1e9:.2f} GB"
    )
