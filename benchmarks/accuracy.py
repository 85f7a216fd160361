"""How far 4-bit engines are from float32, on the same checkpoint and the same tokens.

    python benchmarks/accuracy.py FOLDER    # after `compare.py setup FOLDER --only 'llama-q4*'`

Mean KL(reference || engine) in nats, and its standard error, over the positions of conversations that the trained
model knows and of random tokens; the reference is the eager model in float32. Engines at equal bits a weight are
comparable only with the same format in embedding and head, so that stands beside each figure: llama.cpp's pure Q4_0
has 4 bits everywhere, its usual Q4_0 gives the head more.

The weights are the synthetic ones of Qwen3-0.6B dimensions, and the trained ones of `examples/tiny/dense`.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from peers.environments import BENCHMARKS, REPOSITORY, is_ready, python_of, variables_of
from peers.measuring import IDS, THREADS
from peers.prepare import checkpoint_path

from qwen3_compile.checkpoint.opening import open_checkpoint
from qwen3_compile.contents import bytes_by_part, read_graph
from qwen3_compile.engine.tokens import read_tokens
from qwen3_compile.pipeline import build
from qwen3_compile.spec import find_spec, load_spec
from qwen3_compile.validate.metrics import compare_logits
from qwen3_compile.validate.reference import Reference
from qwen3_compile.validate.replay import replay, whole
from qwen3_runtime import Engine

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from qwen3_compile.checkpoint import Checkpoint
    from qwen3_compile.spec.schema import Spec

POSITIONS, CONVERSATIONS = 320, 64
CONTEXT = 512
TINY = REPOSITORY / "examples" / "tiny"


@dataclass(frozen=True)
class Variant:
    """A 4-bit engine in groups of 32.

    Attributes:
        name: in the table.
        head: format of embedding and head, tied in both checkpoints.
        recipe: overrides of our spec, or arguments of `peers.gguf_file`.
        ours: whether it is built by this project.
    """

    name: str
    head: str
    recipe: tuple[str, ...]
    ours: bool = True


def _target(plugins: str) -> str:
    return f"target={{backend: ort, plugins: {plugins}}}"


def _precision(head: str) -> str:
    return f"precision={{weights: int4, group_size: 32, lm_head: {head}, embedding: {head}}}"


VARIANTS = (
    Variant("ort with plugins int4", "int4", (_target("all"), _precision("int4"))),
    Variant("ONNX Runtime MatMulNBits int4, accuracy level 4", "int4", (_target("none"), _precision("int4"))),
    Variant("llama.cpp Q4_0, pure", "Q4_0", ("q4_0", "--pure"), ours=False),
    Variant("ort with plugins int4, int8 head", "int8", (_target("all"), _precision("int8"))),
    Variant("ONNX Runtime MatMulNBits int4, int8 head", "int8", (_target("none"), _precision("int8"))),
    Variant("llama.cpp Q4_0", "its default", ("q4_0",), ours=False),
)


@dataclass(frozen=True)
class Case:
    """A checkpoint and the tokens to compare on."""

    name: str
    spec: str
    source: Path
    text: bool

    def load(self, *overrides: str) -> Spec:
        """The case's spec on the case's checkpoint."""
        settings = [f"model.source={self.source}", f"limits.max_context={CONTEXT}", "chat={max_tokens: 64}"]
        return load_spec(find_spec(self.spec), [*settings, *overrides])

    def sequences(self) -> list[NDArray[np.int64]]:
        """Token ids int64 [n] of each sequence: conversations that the model knows, or random ones."""
        random = np.random.default_rng(0)
        if not self.text:
            return [random.integers(*IDS, POSITIONS)]
        sys.path.insert(0, str(TINY))
        from conversations import Mix, Renderer, examples

        known = examples(Renderer(self.source), random, Mix())
        return [np.array(one.ids, np.int64) for one in itertools.islice(known, CONVERSATIONS)]

    def open(self) -> Checkpoint:
        """The case's checkpoint."""
        return open_checkpoint(str(self.source), base_dir=REPOSITORY)

    def tokenizer_vocab_size(self) -> int:
        """Ids below it are tokens; engines are compared on them alone, as some give -inf beyond."""
        checkpoint = self.open()
        return read_tokens(checkpoint.assets(), checkpoint.architecture.vocab_size).tokenizer_vocab_size

    def weights(self) -> int:
        """Elements of all matrices."""
        shapes = [info.shape for info in self.open().tensors().values()]
        return sum(math.prod(shape) for shape in shapes if len(shape) > 1)


def reference_logits(case: Case, sequences: list[NDArray[np.int64]]) -> NDArray[np.float32]:
    """Logits float32 [positions, vocab] of the eager model in float32."""
    checkpoint = case.open()
    reference = Reference(checkpoint, checkpoint.architecture, "logits")
    return reference.read_out(np.concatenate(reference.hidden_states(sequences)))


def our_logits(case: Case, variant: Variant, sequences: list[NDArray[np.int64]], path: Path) -> NDArray[np.float32]:
    """Logits of an engine of ours, built if it is not there."""
    if not path.exists():
        build(case.load(*variant.recipe), path, validate=False)
    with Engine.open(path, threads=THREADS) as engine:
        limit = engine.manifest.io.max_step_tokens
        parts = [replay(engine.backend, [ids], [whole(len(ids), limit)]) for ids in sequences]
        return np.concatenate([rows.values for part in parts for rows in part])


def llama_logits(
    folder: Path, case: Case, variant: Variant, sequences: list[NDArray[np.int64]], path: Path
) -> NDArray[np.float32]:
    """Logits of llama.cpp, computed in its own environment."""
    python = str(python_of("llama.cpp", folder))

    def run(module: str, *arguments: str | Path) -> None:
        command = [python, "-m", module, *map(str, arguments)]
        subprocess.run(command, cwd=BENCHMARKS, env=variables_of("llama.cpp"), check=True)

    if not path.exists():
        partial = path.with_name(f"{path.name}.partial")
        run("peers.gguf_file", case.source, partial, *variant.recipe)
        partial.rename(path)
    tokens, result = path.with_suffix(".ids.json"), path.with_suffix(".logits")
    tokens.write_text(json.dumps([ids.tolist() for ids in sequences]), encoding="utf-8")
    run("peers.llama_logits", path, tokens, result)
    return np.fromfile(result, np.float32).reshape(sum(map(len, sequences)), -1)


def matrix_bytes(path: Path) -> int:
    """Bytes of a model's matrices; of a GGUF file all its bytes, of which the rest is little."""
    if path.is_file():
        return path.stat().st_size
    return sum(size for part, size in bytes_by_part(read_graph(path)).items() if part not in ("norms", "RoPE tables"))


def compare(folder: Path, case: Case) -> None:
    """Print the rows of one checkpoint."""
    sequences = case.sequences()
    expected, live = reference_logits(case, sequences), case.tokenizer_vocab_size()
    for variant in VARIANTS:
        name = f"{case.name}-{VARIANTS.index(variant)}{'' if variant.ours else '.gguf'}"
        path = folder / "accuracy" / name
        path.parent.mkdir(exist_ok=True)
        compute = our_logits if variant.ours else lambda *given: llama_logits(folder, *given)
        distance = compare_logits(expected, compute(case, variant, sequences, path), live)
        bits = 8 * matrix_bytes(path) / case.weights()
        print(
            f"| {case.name} | {variant.name} | {variant.head} | {bits:.2f} | {distance.kl.mean():.5f} "
            f"+- {distance.kl.std() / math.sqrt(len(distance.kl)):.5f} "
            f"| {distance.kl.max():.4f} | {distance.top1.mean():.1%} |",
            flush=True,
        )


def main() -> None:
    """Compare on both checkpoints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder.resolve()
    if not checkpoint_path(folder, "dense").exists() or not is_ready("llama.cpp", folder):
        raise SystemExit(f"error: {folder}: run `compare.py setup {folder} --only 'llama-q4*'` first")
    titles = ("checkpoint", "engine", "embedding and head", "bits a weight", "mean KL", "greatest KL", "same top token")
    print(f"| {' | '.join(titles)} |")
    print(f"{'|---' * len(titles)}|")
    compare(folder, Case("tiny, trained", "tiny-dense", TINY / "dense", text=True))
    compare(folder, Case("0.6B, synthetic", "qwen3-0.6b", checkpoint_path(folder, "dense"), text=False))


if __name__ == "__main__":
    main()
