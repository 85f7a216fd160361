"""Measures this project's engine: python -m peers.our_worker ENGINE [--batch 8].

Generation goes through the public `Engine`: scheduler, sampling and book-keeping are in every figure.
"""

from __future__ import annotations

import time

STARTED = time.perf_counter()  # before anything else is imported: opening to the first token counts from here

import statistics  # noqa: E402
from typing import TYPE_CHECKING, Any  # noqa: E402

from peers.measuring import (  # noqa: E402
    FIRST,
    SHORT,
    WARM_UP,
    Durations,
    Lengths,
    Prompts,
    measure,
    print_result,
    worker_arguments,
)
from qwen3_runtime import Engine, Request, Sampling  # noqa: E402
from qwen3_runtime.backends.ort.session import import_onnxruntime  # noqa: E402
from qwen3_runtime.text import Tokenizer  # noqa: E402

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from qwen3_runtime import Completion

import_onnxruntime()  # part of what opening an engine imports
IMPORTED = time.perf_counter()

GREEDY = Sampling(temperature=0.0)
THINKING = Sampling(temperature=0.6, top_p=0.95, top_k=20, seed=0)  # Qwen3's own setting


class OurModel:
    """An engine directory; a `Model`."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine

    def generate(self, prompt: NDArray[np.int64], new: int, sampling: Sampling = GREEDY) -> Durations:
        """Continue a prompt; see `Model`."""
        (done,) = self.complete([prompt], new, sampling)
        first = done.timings.time_to_first_token or 0.0
        return Durations(first, done.timings.total - first)

    def complete(self, prompts: list[NDArray[np.int64]], new: int, sampling: Sampling = GREEDY) -> list[Completion]:
        """Continue prompts together, each by `new` tokens."""
        requests = [Request(prompt=ids.tolist(), max_tokens=new, sampling=sampling) for ids in prompts]
        done = self.engine.generate(requests)
        for one in done:
            if len(one.tokens) != new:
                message = f"expected {new} tokens, found {len(one.tokens)} ({one.finish_reason})"
                raise RuntimeError(message)
        return done

    def together(self, prompts: list[NDArray[np.int64]], new: int) -> float:
        """Tokens a second of all sequences while they decode together."""
        rates = [one.timings.decode_tokens_per_second for one in self.complete(prompts, new)]
        return sum(rate for rate in rates if rate is not None)


class TimedSession:
    """Stands in for an ONNX Runtime session and adds up the seconds of its calls."""

    def __init__(self, session: Any) -> None:  # noqa: ANN401 - onnxruntime has no types
        self._session = session
        self.seconds: list[float] = []

    def run_with_iobinding(self, binding: Any) -> None:  # noqa: ANN401
        """Run and time a call."""
        start = time.perf_counter()
        self._session.run_with_iobinding(binding)
        self.seconds.append(time.perf_counter() - start)

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401
        return getattr(self._session, name)


def share_outside(model: OurModel, prompts: Prompts, decoded: int) -> float:
    """The part of a step that samples a token but is not spent in ONNX Runtime: Python, sampling, book-keeping."""
    backend: Any = model.engine.backend
    session = backend._session
    backend._session = timed = TimedSession(session)
    try:
        seconds = model.generate(prompts.draw(SHORT), decoded + 1, THINKING).others
    finally:
        backend._session = session
    return 1 - sum(timed.seconds[-decoded:]) / seconds


def bytes_per_token(engine: Engine, path: Path, lengths: Lengths) -> dict[str, float]:
    """Bytes of weights and cache that one decoded token reads, on average over what `measure` decodes."""
    from qwen3_compile.cli.bench import token_bytes  # late: the compiler's imports are not the runtime's

    sizes = token_bytes(engine, path)
    depths = {
        "bytes_short": SHORT + lengths.short_decoded / 2,
        "bytes_long": lengths.long + lengths.long_decoded / 2,
    }
    return {name: sizes.weights + sizes.cache_per_token * depth for name, depth in depths.items()}


def main() -> None:
    """Measure the engine that the arguments name."""
    parser = worker_arguments()
    parser.add_argument("--batch", type=int, default=1, help="sequences to decode together as well")
    arguments = parser.parse_args()
    prompts, lengths = Prompts(arguments.seed), arguments.lengths
    opening = time.perf_counter()
    engine = Engine.open(
        arguments.model,
        threads=arguments.threads,
        max_sequences=arguments.batch,
        max_context=lengths.context,
        prefix_cache=False,  # every repetition has to compute its prompt
    )
    opened = time.perf_counter()
    model = OurModel(engine)
    model.generate(prompts.draw(FIRST), 1)
    first = time.perf_counter()
    Tokenizer.open(arguments.model)
    parsed = time.perf_counter()
    result = {
        "import_seconds": IMPORTED - STARTED,
        "tokenizer_seconds": parsed - first,  # again, to know its part of loading
        "load_seconds": opened - opening,
        "first_token_seconds": first - opened,
        **measure(model, prompts, lengths, arguments.threads),
        "outside_session": statistics.median(share_outside(model, prompts, lengths.short_decoded) for _ in range(3)),
    }
    if arguments.batch > 1:
        warm, timed = ([prompts.draw(SHORT) for _ in range(arguments.batch)] for _ in range(2))
        model.together(warm, WARM_UP)
        result["decode_together"] = model.together(timed, lengths.short_decoded + 1)
    print_result({**result, **bytes_per_token(engine, arguments.model, lengths)})
    engine.close()


if __name__ == "__main__":
    main()
