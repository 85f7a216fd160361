"""How far eight-bit inputs with a static scale move a trained model, by the rule that finds the scale.

    python benchmarks/calibration.py              # examples/tiny/dense
    python benchmarks/calibration.py --model moe

Mean KL(float32 || W8A8) in nats over the positions of conversations that the model knows. Weights are those of an
engine (fp8: one scale a matrix, int8: one a row); the head stays in float32. Scales are found twice: on conversations
like those that are measured, and on the built-in texts of `qwen3_compile.calibrate`, which are like nothing that the
tiny models were trained on.
"""

from __future__ import annotations

import argparse
import itertools
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from qwen3_compile.calibrate import collect_sequences
from qwen3_compile.calibrate.observe import watched_states
from qwen3_compile.calibrate.scales import scale_of
from qwen3_compile.checkpoint import open_checkpoint
from qwen3_compile.checkpoint.weights import torch_weights
from qwen3_compile.quantize import as_float8, quantize
from qwen3_graphs.formats import WeightFormat
from qwen3_runtime.text import ChatTemplate, Tokenizer

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from numpy.typing import NDArray

    from qwen3_compile.checkpoint.protocol import Checkpoint

    Rule = Callable[[Tensor, str], float]  # magnitudes of an input and what it is rounded to -> its scale
    Sequences = list[NDArray[np.int64]]

REPOSITORY = Path(__file__).resolve().parent.parent
TINY = REPOSITORY / "examples" / "tiny"
LARGEST = {"fp8": 448.0, "int8": 127.0}
WEIGHTS = {"fp8": WeightFormat("fp8", per_tensor=True), "int8": WeightFormat("int8")}


def times(factor: float) -> Rule:
    """The largest magnitude, times a factor."""
    return lambda x, kind: factor * float(x.max()) / LARGEST[kind]


def percentile(share: float) -> Rule:
    """The magnitude that so many percent of the elements do not exceed."""
    return lambda x, kind: float(x.kthvalue(int(np.ceil(share / 100 * x.numel()))).values) / LARGEST[kind]


def least_squares(x: Tensor, kind: str) -> float:
    """The scale of least squared error among 33 from a fifth of the largest magnitude up."""
    scales = [float(ratio * x.max()) / LARGEST[kind] for ratio in np.linspace(0.2, 1, 33)]
    return min(scales, key=lambda scale: float((rounded(x, scale, kind) - x).square().sum()))


RULES: dict[str, Rule] = {
    "this project": lambda x, kind: scale_of(float(x.max()), kind),  # type: ignore[arg-type]
    "amax": times(1),
    "2 x amax": times(2),
    "4 x amax": times(4),
    "8 x amax": times(8),
    "99.999 %": percentile(99.999),
    "99.99 %": percentile(99.99),
    "99.9 %": percentile(99.9),
    "least squares": least_squares,
}


def rounded(x: Tensor, scale: float, kind: str) -> Tensor:
    """What is left of x after it was stored in eight bits."""
    if kind == "int8":
        return (x / scale).round().clamp(-128, 127) * scale
    return (x / scale).clamp(-448, 448).to(torch.float8_e4m3fn).float() * scale


def rounded_weights(checkpoint: Checkpoint, kind: str) -> Callable[[str], Tensor]:
    """The weights of an engine: projections and experts in eight bits."""
    load = torch_weights(checkpoint, checkpoint.architecture)

    def one(matrix: Tensor) -> Tensor:
        values = matrix.float().numpy()
        quantized = (
            as_float8(values, WEIGHTS[kind]) if kind == "fp8" else quantize(values, WEIGHTS[kind], positive=True)
        )
        return torch.from_numpy(quantized.dequantize())

    def rounding(name: str) -> Tensor:
        weight = load(name)
        if not name.endswith("_proj.weight"):
            return weight
        return one(weight) if weight.ndim == 2 else torch.stack([one(expert) for expert in weight])

    return rounding


def magnitudes(checkpoint: Checkpoint, sequences: Sequences) -> dict[str, Tensor]:
    """Absolute values of all inputs of each matrix, flat."""
    seen: dict[str, list[Tensor]] = {}

    def watch(name: str, x: Tensor) -> Tensor:
        seen.setdefault(name, []).append(x.abs().flatten())
        return x

    watched_states(checkpoint.architecture, torch_weights(checkpoint, checkpoint.architecture), sequences, watch)
    return {name: torch.cat(parts) for name, parts in seen.items()}


def log_probabilities(
    checkpoint: Checkpoint, load: Callable[[str], Tensor], sequences: Sequences, watch: Callable[[str, Tensor], Tensor]
) -> Tensor:
    """float64 [positions, vocab]."""
    tied = checkpoint.architecture.tie_word_embeddings
    head = load("model.embed_tokens.weight" if tied else "lm_head.weight").float()
    states = watched_states(checkpoint.architecture, load, sequences, watch)
    return torch.log_softmax((states @ head.T).double(), -1)


def rounding_inputs(scales: Mapping[str, float], kind: str) -> Callable[[str, Tensor], Tensor]:
    """Round the inputs of projections and experts; the head's pass."""
    return lambda name, x: rounded(x, scales[name], kind) if name.endswith("_proj.weight") else x


def conversations(model: Path, seed: int, count: int) -> Sequences:
    """Token ids of conversations that the tiny model was trained on the like of."""
    sys.path.insert(0, str(TINY))
    from conversations import Mix, Renderer, examples

    drawn = examples(Renderer(model), np.random.default_rng(seed), Mix())
    return [np.array(one.ids, np.int64) for one in itertools.islice(drawn, count)]


def main() -> None:
    """Calibrate, round, compare, print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--model", choices=["dense", "moe"], default="dense")
    parser.add_argument("--conversations", type=int, default=96)
    arguments = parser.parse_args()
    folder = TINY / arguments.model
    checkpoint = open_checkpoint(str(folder), base_dir=REPOSITORY)
    tokenizer, template = Tokenizer.open(folder), ChatTemplate.open(folder)
    texts = {
        "known": conversations(folder, 1, 16),
        "built-in": collect_sequences(tokenizer, template, prompts=None, tokenizer_vocab=448, max_context=2048),
    }
    asked = conversations(folder, 0, arguments.conversations)
    exact = log_probabilities(checkpoint, torch_weights(checkpoint, checkpoint.architecture), asked, lambda _, x: x)
    counts = ", ".join(f"{sum(map(len, ids))} tokens of {name} texts" for name, ids in texts.items())
    print(f"tiny {arguments.model}, {len(exact)} positions, calibrated on {counts}")
    seen = {name: magnitudes(checkpoint, ids) for name, ids in texts.items()}
    for kind in LARGEST:
        load = rounded_weights(checkpoint, kind)

        def divergence(watch: Callable[[str, Tensor], Tensor], load: Callable[[str], Tensor] = load) -> float:
            found = log_probabilities(checkpoint, load, asked, watch)
            return float((exact.exp() * (exact - found)).sum(-1).mean())

        print(f"{kind}: weights alone {divergence(lambda _, x: x):.5f}")
        for rule, scale in RULES.items():
            figures = []
            for inputs in seen.values():
                scales = {name: scale(x, kind) for name, x in inputs.items()}
                figures.append(divergence(rounding_inputs(scales, kind)))
            print(f"  {rule:<14}" + "   ".join(f"{name} {f:.5f}" for name, f in zip(texts, figures, strict=True)))


if __name__ == "__main__":
    main()
