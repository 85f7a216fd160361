"""How far an engine's logits are from the reference's, position by position."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True)
class Distance:
    """Distances of R rows of engine output from the reference's; every field is an array of length R.

    Attributes:
        kl: Kullback-Leibler divergence KL(reference || engine) in nats; NaN-free, zero for hidden states.
        max_error: largest absolute difference of a row.
        top1: whether both rows have their maximum at the same index; true for hidden states.
        cosine: cosine of the angle between the rows.
    """

    kl: NDArray[np.float64]
    max_error: NDArray[np.float64]
    top1: NDArray[np.bool_]
    cosine: NDArray[np.float64]


def log_softmax(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    """Log-probabilities of each row, float32 [R, V]; the sum runs in float64 so that V may be large."""
    shifted: NDArray[np.float32] = logits - logits.max(axis=-1, keepdims=True)
    total = np.exp(shifted).sum(axis=-1, keepdims=True, dtype=np.float64)
    return shifted - np.asarray(np.log(total), dtype=np.float32)


def compare_logits(reference: NDArray[np.float32], engine: NDArray[np.float32], vocab_size: int) -> Distance:
    """Compare logits [R, V] over the first `vocab_size` entries of the vocabulary; the rest was never trained.

    An engine row with a NaN or an infinity is infinitely far: it must miss every limit, not slip through
    a comparison with NaN.
    """
    reference, engine = reference[:, :vocab_size], engine[:, :vocab_size]
    broken = np.asarray(~np.isfinite(engine).all(axis=-1))
    engine = np.where(broken[:, None], np.float32(0), engine)
    expected, found = log_softmax(reference), log_softmax(engine)
    kl = (np.exp(expected) * (expected - found)).sum(axis=-1, dtype=np.float64)
    error = np.abs(reference - engine).max(axis=-1).astype(np.float64)
    top1 = np.asarray(reference.argmax(axis=-1) == engine.argmax(axis=-1))
    return Distance(
        kl=np.where(broken, np.inf, np.maximum(kl, 0.0)),
        max_error=np.where(broken, np.inf, error),
        top1=top1 & ~broken,
        cosine=np.where(broken, -1.0, _cosine(reference, engine)),
    )


def compare_hidden(reference: NDArray[np.float32], engine: NDArray[np.float32]) -> Distance:
    """Compare hidden states [R, H] of an embedding model: the angle decides, not a distribution."""
    broken = np.asarray(~np.isfinite(engine).all(axis=-1))
    engine = np.where(broken[:, None], np.float32(0), engine)
    rows = reference.shape[0]
    error = np.abs(reference - engine).max(axis=-1).astype(np.float64)
    return Distance(
        kl=np.where(broken, np.inf, np.zeros(rows)),
        max_error=np.where(broken, np.inf, error),
        top1=~broken,
        cosine=np.where(broken, -1.0, _cosine(reference, engine)),
    )


def negative_log_likelihood(
    logits: NDArray[np.float32], targets: NDArray[np.int64], vocab_size: int
) -> NDArray[np.float64]:
    """Nats of each target [R] under logits [R, V], over a tokenizer vocabulary; infinite where a row is not finite."""
    scores = log_softmax(logits[:, :vocab_size])
    nats = -scores[np.arange(targets.size), targets].astype(np.float64)
    return np.where(np.isfinite(nats), nats, np.inf)


def _cosine(a: NDArray[np.float32], b: NDArray[np.float32]) -> NDArray[np.float64]:
    product = np.einsum("rv,rv->r", a, b, dtype=np.float64)
    length = np.sqrt(np.einsum("rv,rv->r", a, a, dtype=np.float64) * np.einsum("rv,rv->r", b, b, dtype=np.float64))
    cosine: NDArray[np.float64] = np.divide(product, length, out=np.zeros_like(product), where=length > 0)
    return cosine
