"""Greedy continuations of the prompts: the engine's, how far PyTorch says the same, and what PyTorch says after it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from qwen3_compile.spec.size import parameter_counts
from qwen3_compile.validate import replay
from qwen3_compile.validate.report import Greedy

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from qwen3_compile.spec import Spec
    from qwen3_compile.validate.cases import Case
    from qwen3_compile.validate.reference import Reference
    from qwen3_runtime import Engine
    from qwen3_runtime.manifest import Manifest
    from qwen3_runtime.text import Tokenizer

    Progress = Callable[[str], None]
    Continued = tuple[Case, NDArray[np.int64]]

GREEDY_TOKENS = 32
# PyTorch's own continuation reads all weights again for each token. This bounds what it reads: 26 tokens of a model
# of 0.6 B parameters in bfloat16, 4 of one of 4 B, one where a model is larger than 8 B.
REFERENCE_BYTES = 32e9
_BYTES_A_PARAMETER = 2


def greedy_tokens(spec: Spec) -> int:
    """How many tokens of each prompt's greedy continuation are compared: at least what the spec asks for."""
    return max(GREEDY_TOKENS, spec.accuracy.min_greedy_tokens or 0)


def engine_continuations(engine: Engine, cases: Sequence[Case], wanted: int, tell: Progress) -> list[Continued]:
    """The engine's own greedy continuation of each prompt (of random tokens, where no prompt can be made)."""
    limits = engine.manifest.io
    prompts = [case for case in cases if case.kind == "prompt"] or [case for case in cases if case.kind == "random"]
    continued = []
    for case in prompts:
        tell(f"continuing {case.name} greedily")
        count = min(wanted, limits.max_context - case.ids.size)
        stops = frozenset(engine.manifest.eos_token_ids)
        tokens = replay.greedy(
            engine.backend, case.ids, count, limits.tokenizer_vocab_size, limits.max_step_tokens, stops
        )
        continued.append((case, np.array(tokens, dtype=np.int64)))
    return continued


def compare_continuations(
    continued: Sequence[Continued],
    states: Sequence[NDArray[np.float32]],
    reference: Reference,
    manifest: Manifest,
    tokenizer: Tokenizer | None,
    tell: Progress,
) -> list[Greedy]:
    """Count the tokens that the reference would have chosen too, and let it go on where it would not.

    Up to the first disagreement both have the same prefix, so one pass over the engine's continuation is the
    reference's own greedy decoding.

    Args:
        continued: cases and the engine's tokens after them, int64 [n].
        states: the reference's hidden states float32 [m + n, hidden] of each case, m tokens, and its continuation.
        reference: reads them out, and continues.
        manifest: the engine's.
        tokenizer: without one (synthetic weights) there are counts and no texts.
        tell: told what is being done.
    """
    vocabulary, stops = manifest.io.tokenizer_vocab_size, frozenset(manifest.eos_token_ids)
    agreed, others = [], []
    for (case, tokens), found in zip(continued, states, strict=True):
        first = case.ids.size - 1
        chosen = reference.read_out(found[first : first + tokens.size])[:, :vocabulary].argmax(axis=-1)
        different = np.flatnonzero(chosen != tokens)
        agreed.append(int(different[0]) if different.size else tokens.size)
        others.append(chosen[agreed[-1] : agreed[-1] + 1])
    if tokenizer is None:
        return [Greedy(case.name, same, tokens.size) for (case, tokens), same in zip(continued, agreed, strict=True)]
    open_ends = [number for number, other in enumerate(others) if other.size and int(other[0]) not in stops]
    if open_ends:
        tell("continuing with PyTorch from the first different token")
    # As long as the engine's, within the bound on what is read.
    most = int(REFERENCE_BYTES // (parameter_counts(reference.architecture)[0] * _BYTES_A_PARAMETER))
    further = reference.continue_greedily(
        [np.concatenate([continued[i][0].ids, continued[i][1][: agreed[i]], others[i]]) for i in open_ends],
        [min(most, continued[i][1].size - agreed[i] - 1) for i in open_ends],
        vocabulary=vocabulary,
        stops=stops,
    )
    for number, tokens in zip(open_ends, further, strict=True):
        others[number] = np.concatenate([others[number], tokens])
    return [
        Greedy(
            case.name,
            same,
            tokens.size,
            prompt=tokenizer.decode(case.ids.tolist()),
            same=tokenizer.decode(tokens[:same].tolist()),
            engine=tokenizer.decode(tokens[same:].tolist()),
            reference=tokenizer.decode(other.tolist()),
        )
        for (case, tokens), same, other in zip(continued, agreed, others, strict=True)
    ]
