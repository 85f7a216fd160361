"""How far 4-bit weights in groups of 32 move a trained model, by the rule that rounds them.

    python benchmarks/rounding.py              # examples/tiny/dense
    python benchmarks/rounding.py --model moe --draws 8

Mean KL(float32 || rounded weights) in nats over the positions of conversations that the model knows, everything else
in float32. One rounding of one small model is a lottery: a few positions at which a digit flips carry the mean, and
which ones they are depends on which weights happen to share a group. So each rule rounds the model many times, each
time with the inputs of every matrix in another order, which regroups them; the mean over the draws is compared.
"""

from __future__ import annotations

import argparse
import itertools
import math
import sys
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from qwen3_compile.checkpoint.opening import open_checkpoint
from qwen3_compile.quantize import quantize
from qwen3_compile.validate.reference import Reference
from qwen3_graphs.formats import WeightFormat

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from qwen3_compile.checkpoint import Checkpoint

    Rule = Callable[[NDArray[np.float32]], NDArray[np.float32]]

REPOSITORY = Path(__file__).resolve().parent.parent
TINY = REPOSITORY / "examples" / "tiny"
GROUP = 32


def ours(weight: NDArray[np.float32]) -> NDArray[np.float32]:
    """This project's search, with its scales rounded to float16 as engines hold them."""
    quantized = quantize(weight, WeightFormat("int4", GROUP))
    scales = quantized.scales.astype(np.float16).astype(np.float32)
    codes = quantized.codes.reshape(*scales.shape, GROUP)
    return (codes * scales[..., None]).reshape(weight.shape)


def above_zero(weight: NDArray[np.float32]) -> NDArray[np.float32]:
    """This project's search for TensorRT: scales above zero, rounded to float16 before the codes are chosen."""
    return quantize(weight, WeightFormat("int4", GROUP), positive=True, scale_type="fp16").dequantize()


def extreme_at_minus_8(weight: NDArray[np.float32]) -> NDArray[np.float32]:
    """The rule of llama.cpp's Q4_0: the element farthest from zero becomes -8, halves round up, scales are float16."""
    values, largest = _grouped(weight)
    exact = largest / -8
    codes = np.clip(np.floor(_quotient(values, exact) + 0.5), -8, 7)
    return (codes * exact.astype(np.float16).astype(np.float32)).reshape(weight.shape)


def largest_at_7(weight: NDArray[np.float32]) -> NDArray[np.float32]:
    """Plain symmetric rounding: absmax / 7."""
    values, largest = _grouped(weight)
    scale = (np.abs(largest) / 7).astype(np.float16).astype(np.float32)
    return (np.clip(np.rint(_quotient(values, scale)), -8, 7) * scale).reshape(weight.shape)


RULES: dict[str, Rule] = {
    "this project": ours,
    "scales above zero": above_zero,
    "extreme at -8 (Q4_0)": extreme_at_minus_8,
    "absmax / 7": largest_at_7,
}


def _grouped(weight: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    values = weight.reshape(len(weight), -1, GROUP)
    return values, np.take_along_axis(values, np.abs(values).argmax(axis=-1)[..., None], axis=-1)


def _quotient(values: NDArray[np.float32], scale: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.divide(values, scale, out=np.zeros_like(values), where=scale != 0)


class Rounded:
    """A checkpoint whose matrices are rounded, all but the router, which engines keep in float32.

    Args:
        checkpoint: the weights.
        rule: how a matrix [N, K] is rounded in groups along K.
        draw: names the order of the inputs.
    """

    def __init__(self, checkpoint: Checkpoint, rule: Rule, draw: int) -> None:
        self._checkpoint, self._rule, self._draw = checkpoint, rule, draw
        self._rounded: dict[str, NDArray[Any]] = {}

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - whatever a checkpoint has
        return getattr(self._checkpoint, name)

    def read(self, name: str) -> NDArray[Any]:
        """A tensor; of a tied matrix both readers see the same codes."""
        weight = self._checkpoint.read(name)
        if weight.ndim != 2 or name.endswith("mlp.gate.weight"):
            return weight
        if name not in self._rounded:
            order = np.random.default_rng([self._draw, zlib.crc32(name.encode())]).permutation(weight.shape[1])
            rounded = np.empty(weight.shape, np.float32)
            rounded[:, order] = self._rule(np.asarray(weight, np.float32)[:, order])
            self._rounded[name] = rounded
        return self._rounded[name]


def log_probabilities(checkpoint: Any, sequences: list[NDArray[np.int64]]) -> NDArray[np.float64]:  # noqa: ANN401
    """float64 [positions, vocab] of the eager model in float32."""
    reference = Reference(checkpoint, checkpoint.architecture, "logits")
    logits = reference.read_out(np.concatenate(reference.hidden_states(sequences))).astype(np.float64)
    logits -= logits.max(axis=-1, keepdims=True)
    return logits - np.log(np.exp(logits).sum(axis=-1, keepdims=True))


def conversations(model: Path, count: int) -> list[NDArray[np.int64]]:
    """Token ids of conversations that the tiny model was trained on the like of."""
    sys.path.insert(0, str(TINY))
    from conversations import Mix, Renderer, examples

    drawn = examples(Renderer(model), np.random.default_rng(0), Mix())
    return [np.array(one.ids, np.int64) for one in itertools.islice(drawn, count)]


def main() -> None:
    """Round, compare, print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--model", choices=["dense", "moe"], default="dense")
    parser.add_argument("--conversations", type=int, default=48)
    parser.add_argument("--draws", type=int, default=24)
    arguments = parser.parse_args()
    checkpoint = open_checkpoint(str(TINY / arguments.model), base_dir=REPOSITORY)
    sequences = conversations(TINY / arguments.model, arguments.conversations)
    exact = log_probabilities(checkpoint, sequences)
    print(f"tiny {arguments.model}, {len(exact)} positions, {arguments.draws} draws: mean KL +- its standard error")
    for name, rule in RULES.items():
        means = []
        for draw in range(arguments.draws):
            rounded = log_probabilities(Rounded(checkpoint, rule, draw), sequences)
            means.append(float((np.exp(exact) * (exact - rounded)).sum(axis=-1).mean()))
        error = np.std(means, ddof=1) / math.sqrt(len(means))
        print(f"{name:<22}{np.mean(means):.5f} +- {error:.5f}   smallest {min(means):.5f}, largest {max(means):.5f}")


if __name__ == "__main__":
    main()
