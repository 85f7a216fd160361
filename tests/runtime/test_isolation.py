"""What goes wrong with one request, or with the one who waits for it, stays with that request."""

from __future__ import annotations

import threading
import time

import numpy as np
import pytest
from scripted import ScriptedBackend, make_engine

from qwen3_runtime import Engine, EngineClosedError, EngineError, Request, Sampling

WORDS = 64
POISON = 63


def open_engine(backend: ScriptedBackend, **limits: int):
    return make_engine(
        backend, None, None, vocab_size=WORDS, tokenizer_vocab_size=WORDS, task="completion", eos=(), **limits
    )


def counting(tokens: list[int]) -> np.ndarray:
    """Says the last token plus one; a prompt that begins with POISON gets an overflowed row after five tokens."""
    row = np.linspace(1, 2, WORDS, dtype=np.float32)
    row[(tokens[-1] + 1) % POISON] = 10
    if tokens[0] == POISON and len(tokens) >= 5:
        row[3] = np.nan
    return row


def request(*prompt: int, **options: object) -> Request:
    return Request(prompt=prompt, max_tokens=12, sampling=Sampling(temperature=0), **options)  # type: ignore[arg-type]


def test_overflowed_logits_fail_their_own_request_alone() -> None:
    engine = open_engine(ScriptedBackend(logits=counting, num_blocks=3, block_size=64, vocab=WORDS))
    first, poisoned, last = (engine.submit(request(*prompt)) for prompt in ((1, 2), (POISON, 2), (7, 8)))
    with pytest.raises(EngineError, match="found nan: the engine's numbers overflowed"):
        poisoned.result()
    assert first.result().tokens == tuple(range(3, 15))
    assert last.result().tokens == tuple(range(9, 21))
    assert engine._scheduler.pool.available == 3


def test_a_penalty_that_overflows_fails_the_request_that_asked_for_it() -> None:
    def enormous(tokens: list[int]) -> np.ndarray:
        return counting(tokens) * np.float32(1e37)

    engine = open_engine(ScriptedBackend(logits=enormous, num_blocks=2, block_size=64, vocab=WORDS))
    harsh = Request(prompt=[1, 2], max_tokens=12, temperature=0.5, repetition_penalty=0.01)
    greedy, broken = engine.submit(request(1, 2)), engine.submit(harsh)
    with pytest.raises(EngineError, match="found inf"):
        broken.result()
    assert greedy.result().tokens == tuple(range(3, 15))


def test_closing_cancels_every_request_that_threads_wait_for() -> None:
    """Whoever waits gets what there is, also if it wakes before the one who closes the engine."""
    for _ in range(20):
        backend = ScriptedBackend(logits=counting, num_blocks=4, block_size=4096, vocab=WORDS)
        begun = threading.Event()
        engine = open_engine(backend, max_tokens=4000)

        def before_step(
            backend: ScriptedBackend = backend, engine: Engine = engine, begun: threading.Event = begun
        ) -> None:
            begun.set()
            while (
                len(backend.steps) > 1000 and not engine._driver._closed
            ):  # none ends by itself, however late we close
                time.sleep(0.001)

        backend.before_step = before_step
        ends: list[object] = []

        def wait(engine: object = engine, ends: list[object] = ends) -> None:
            try:
                ends.append(engine.complete([1], max_tokens=4000).finish_reason)  # type: ignore[attr-defined]
            except EngineError as error:
                ends.append(error)

        threads = [threading.Thread(target=wait) for _ in range(3)]
        for thread in threads:
            thread.start()
        assert begun.wait(120)
        engine.close()
        for thread in threads:
            thread.join(120)
        refused = [end for end in ends if "closed: open it again" in str(end)]  # came after the close
        assert ends.count("cancelled") + len(refused) == 3, ends


def test_a_caller_that_is_interrupted_while_another_drives_leaves_nothing_running() -> None:
    backend = ScriptedBackend(logits=counting, num_blocks=2, block_size=4096, vocab=WORDS)
    engine = open_engine(backend, max_tokens=4000)

    def interrupted(_: object) -> None:
        raise KeyboardInterrupt

    wait = engine._driver.wait
    engine._driver.wait = interrupted  # type: ignore[assignment, method-assign]
    with pytest.raises(KeyboardInterrupt):
        engine.complete([1], max_tokens=4000)
    engine._driver.wait = wait  # type: ignore[method-assign]
    assert engine.generate([request(1, 2)])[0].tokens == tuple(range(3, 15))
    assert not engine._scheduler.in_flight
    assert engine._scheduler.pool.available == 2


def test_whoever_waits_for_what_nobody_runs_is_told_and_does_not_wait_for_ever() -> None:
    engine = open_engine(ScriptedBackend(logits=counting, num_blocks=2, block_size=64, vocab=WORDS))
    polls = iter([None] * 3)
    with pytest.raises(EngineClosedError, match="nothing is left to run for this request"):
        engine._driver.wait(lambda: next(polls))


def test_closing_waits_for_the_step_that_is_running() -> None:
    """Or the backend would free the cache that the step writes to."""
    backend = ScriptedBackend(logits=counting, num_blocks=2, block_size=64, vocab=WORDS)
    engine = open_engine(backend)
    begun, freed = threading.Event(), []

    def before_step() -> None:
        begun.set()
        while not engine._driver._closed:
            time.sleep(0.001)
        for _ in range(100):  # a close that does not wait has its chance
            time.sleep(0.001)
        freed.append(backend.closed)

    backend.before_step = before_step
    handle = engine.submit(request(1, 2))
    waiter = threading.Thread(target=handle.result)
    waiter.start()
    assert begun.wait(120)
    engine.close()
    waiter.join(120)
    assert (freed, backend.closed) == ([False], True)
    assert (handle.result().finish_reason, len(handle.result().tokens)) == (
        "cancelled",
        1,
    )  # what the step gave is kept
