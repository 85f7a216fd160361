"""`qwen3-compile bench`: an engine's speed on this machine."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from qwen3_compile.bench import FIRST_TOKEN_PROMPT, Benchmark, TokenBytes, measure_speed
from qwen3_compile.cli.options import ENGINE, JSON, STRICT, THREADS
from qwen3_compile.cli.output import print_json
from qwen3_compile.contents import bytes_by_part, bytes_read_per_token, read_graph
from qwen3_compile.terminal import Screen
from qwen3_runtime import Engine
from qwen3_runtime.backends.cores import physical_cores
from qwen3_runtime.errors import RequestError

if TYPE_CHECKING:
    from pathlib import Path


@click.command()
@ENGINE
@click.option("--prompt", type=click.IntRange(min=1), default=512, show_default=True, help="Number of prompt tokens.")
@click.option("--decode", type=click.IntRange(min=1), default=64, show_default=True, help="Number of tokens to decode.")
@click.option(
    "--repeats", type=click.IntRange(min=1), default=3, show_default=True, help="Number of runs; medians are shown."
)
@STRICT
@THREADS
@JSON
def command(
    engine: Path, prompt: int, decode: int, repeats: int, strict: bool, threads: int | None, as_json: bool
) -> None:
    """Measure ENGINE on random tokens: prefill, decode, time to first token, memory.

    Decode is also given as a share of the read bandwidth measured in the same run.
    """
    with Engine.open(engine, strict=strict, threads=threads) as opened:
        limits = opened.manifest.io
        if prompt + decode > limits.max_context:
            raise RequestError(
                f"--prompt {prompt} and --decode {decode} need {prompt + decode} tokens, "
                f"the engine's context is {limits.max_context}: lower one of them",
                field="prompt",
            )
        found = measure_speed(
            opened.backend,
            token_bytes(opened, engine),
            vocab=limits.tokenizer_vocab_size,
            step_tokens=limits.max_step_tokens,
            threads=threads or physical_cores(),
            prompt=prompt,
            decode=decode,
            repeats=repeats,
        )
    print_json(asdict(found)) if as_json else _show(found)


def token_bytes(opened: Engine, engine: Path) -> TokenBytes:
    """Bytes that one decoded token of an engine reads."""
    architecture = opened.manifest.spec["model"]["architecture"]
    experts, chosen = (architecture.get(key) or 0 for key in ("num_experts", "num_experts_per_tok"))
    return TokenBytes(
        weights=bytes_read_per_token(bytes_by_part(read_graph(engine)), experts, chosen),
        cache_per_token=opened.backend.cache.bytes_per_token,
    )


def _show(found: Benchmark) -> None:
    screen = Screen()
    gigabyte = 1e9
    screen.print(f"prefill {found.prompt_tokens:>6}   {found.prefill_rate:>8.1f} tokens/s")
    screen.print(f"decode  {found.decoded_tokens:>6}   {found.decode_rate:>8.1f} tokens/s")
    after = min(FIRST_TOKEN_PROMPT, found.prompt_tokens)
    screen.print(f"first token      {found.first_token_seconds * 1e3:>8.1f} ms (prompt of {after})")
    screen.print(f"peak memory      {found.peak_memory / gigabyte:>8.2f} GB")
    screen.print(f"read per token   {found.bytes_per_token / gigabyte:>8.3f} GB")
    screen.print(
        f"bandwidth        {found.bandwidth_share:>8.1%} of {found.read_bandwidth / gigabyte:.1f} GB/s "
        f"({found.threads} threads, median of {found.repeats})"
    )
