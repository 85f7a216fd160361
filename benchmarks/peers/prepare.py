"""The model of each contender, made from the one checkpoint by the engine's own tools with their best options."""

from __future__ import annotations

import shutil
import subprocess
import time
from typing import TYPE_CHECKING

from peers.checkpoint import CHECKPOINTS, add_tokenizer, write_checkpoint
from peers.environments import python_of, variables_of
from peers.measuring import FULL
from qwen3_compile.pipeline import build
from qwen3_compile.spec import find_spec, load_spec

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from peers.contenders import Contender

OUR_BATCH = 8


def checkpoint_path(folder: Path, name: str) -> Path:
    """Where a checkpoint is."""
    return folder / "checkpoints" / name


def model_path(folder: Path, contender: Contender) -> Path:
    """Where a contender's model is."""
    suffix = ".gguf" if contender.engine.startswith("llama.cpp") else ""
    return folder / "models" / f"{contender.model}{suffix}"


def prepare(folder: Path, contender: Contender, tokenizer: Path | None) -> None:
    """Make a contender's model and the checkpoint under it, unless they are there.

    Raises:
        RuntimeError: an engine's own tool failed; the message names its log.
    """
    path = model_path(folder, contender)
    if path.exists():
        return
    source = checkpoint_path(folder, contender.checkpoint)
    if not source.exists():
        print(f"checkpoint {contender.checkpoint}: writing {source}", flush=True)
        write_checkpoint(contender.checkpoint, source)
    if tokenizer is not None:
        add_tokenizer(tokenizer, source)
    path.parent.mkdir(exist_ok=True)
    print(f"{contender.model}: preparing", flush=True)
    started = time.monotonic()
    if contender.ours:
        build_ours(contender, source, path)
    else:
        export(folder, contender, source, path)
    print(f"{contender.model}: prepared in {time.monotonic() - started:.0f} s", flush=True)


def build_ours(contender: Contender, source: Path, path: Path) -> None:
    """Build our engine. It is not validated here: `benchmarks/accuracy.py` compares accuracy."""
    dimensions = CHECKPOINTS[contender.checkpoint]
    settings = (
        *dimensions.overrides,
        f"model.source={source.resolve()}",
        f"limits.max_context={FULL.context}",
        f"limits.max_batch={OUR_BATCH}",
        "chat={max_tokens: 512}",
    )
    spec = load_spec(find_spec(dimensions.spec), [*settings, *contender.recipe])
    build(spec, path, validate=False)


def export(folder: Path, contender: Contender, source: Path, path: Path) -> None:
    """Run a peer's exporter into a path that appears when it is whole."""
    partial = path.with_name(f"{path.name}.partial")
    for leftover in (partial, partial.with_name(f"{partial.name}.bf16")):
        leftover.unlink() if leftover.is_file() else shutil.rmtree(leftover, ignore_errors=True)
    command = [str(python_of(contender.engine, folder)), *_export_arguments(contender, source, partial)]
    log = path.with_name(f"{path.name}.log")
    with log.open("w", encoding="utf-8") as file:
        done = subprocess.run(command, stdout=file, stderr=file, env=variables_of(contender.engine), check=False)
    if done.returncode:
        message = f"{contender.model}: {' '.join(command)} failed with status {done.returncode}; see {log}"
        raise RuntimeError(message)
    partial.rename(path)


def _export_arguments(contender: Contender, source: Path, result: Path) -> Sequence[str]:
    # -I: without our own modules on the path, one of which (kernels) has the name of a package that exporters look for.
    kind, *options = contender.recipe
    if contender.engine.startswith("llama.cpp"):
        return ["-m", "peers.gguf_file", str(source), str(result), kind, *options]
    if contender.engine == "onnxruntime-genai":
        scratch = result.with_name(f"{result.name}.cache")
        builder = ["-I", "-m", "onnxruntime_genai.models.builder", "-i", str(source), "-o", str(result), "-p", kind]
        return [*builder, "-e", "cpu", "-c", str(scratch), "--extra_options", *options]
    exporter = ["-I", "-m", "optimum.commands.optimum_cli", "export", "openvino", "--task", "text-generation-with-past"]
    grouped = ["--sym", "--group-size", *options, "--ratio", "1.0"] if options else []
    return [*exporter, "-m", str(source), "--weight-format", kind, *grouped, str(result)]
