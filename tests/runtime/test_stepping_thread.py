"""With a stepping thread requests advance, end and give their blocks back whether anybody waits or not.

Covers: results, cancellation, deadlines, failed steps, many threads, closing
Reference: scripted backends; the same requests with `stepping="caller"`
"""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any

import pytest
from test_scheduling import alone, backend, make_request, open_engine

from qwen3_runtime import Engine, EngineClosedError, EngineError, Request, StepFailedError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from scripted import ScriptedBackend

OPENED: list[Engine] = []


@pytest.fixture(autouse=True)
def closed_engines() -> Iterator[None]:
    """No thread outlives its test."""
    yield
    while OPENED:
        OPENED.pop().close()
    assert not [thread for thread in threading.enumerate() if thread.name == "qwen3-steps"]


def threaded(stage: ScriptedBackend, **limits: Any) -> Engine:
    OPENED.append(open_engine(stage, stepping="thread", **{"max_context": 256, **limits}))
    return OPENED[-1]


def eventually(true: Callable[[], bool]) -> bool:
    """Whether something becomes true, on however busy a machine."""
    end = time.monotonic() + 120
    while not true() and time.monotonic() < end:
        time.sleep(0.001)
    return true()


def test_the_tokens_are_those_of_a_driving_caller() -> None:
    requests = [make_request(seed, 5 + seed, 20) for seed in range(6)]
    found = threaded(backend(4), max_sequences=3).generate(requests)
    assert [one.tokens for one in found] == [alone(request) for request in requests]


def test_a_request_that_nobody_waits_for_runs_to_its_end() -> None:
    stage = backend(2)
    handle = threaded(stage).submit(make_request(1, 5, 20))
    assert eventually(lambda: len(stage.steps) >= len(alone(make_request(1, 5, 20))))
    assert handle.result().tokens == alone(make_request(1, 5, 20))


def test_a_cancelled_request_gives_its_blocks_back_with_no_other_traffic() -> None:
    stage = backend(2)
    engine = threaded(stage, eos=())
    handle = engine.submit(make_request(1, 5, 200))
    assert eventually(lambda: len(stage.steps) >= 3)
    handle.cancel()
    assert eventually(lambda: engine._scheduler.pool.available == 2)
    assert handle.result().finish_reason == "cancelled"


def test_a_deadline_ends_a_request_that_nobody_waits_for() -> None:
    stage = backend(2)
    now = [0.0]
    engine = threaded(stage, eos=(), clock=lambda: now[0])
    handle = engine.submit(Request(prompt=[1, 2], max_tokens=200, deadline=5))
    assert eventually(lambda: len(stage.steps) >= 3)
    now[0] = 6
    assert eventually(lambda: not engine._scheduler.in_flight)
    assert handle.result().finish_reason == "deadline"


def test_a_failed_step_fails_what_runs_and_the_thread_goes_on() -> None:
    stage = backend(2)
    engine = threaded(stage)

    def fail() -> None:
        raise ValueError("broken")

    stage.before_step = fail
    with pytest.raises(StepFailedError, match="broken"):
        engine.complete([1, 2], max_tokens=5)
    stage.before_step = lambda: None
    assert engine.generate([make_request(9, 5, 6)])[0].tokens == alone(make_request(9, 5, 6))


def test_not_even_an_exit_inside_a_step_ends_the_thread() -> None:
    stage = backend(2)
    engine = threaded(stage)

    def stop() -> None:
        raise SystemExit

    stage.before_step = stop
    with pytest.raises(EngineError, match="interrupted"):
        engine.complete([1, 2], max_tokens=5)
    stage.before_step = lambda: None
    assert engine.generate([make_request(9, 5, 6)])[0].tokens == alone(make_request(9, 5, 6))


def test_many_threads_are_served_together() -> None:
    stage = backend(4)
    engine = threaded(stage, max_sequences=4)
    requests = [make_request(seed, 3, 12) for seed in range(24)]
    found: dict[int, tuple[int, ...]] = {}

    def ask(index: int) -> None:
        found[index] = engine.generate([requests[index]])[0].tokens

    threads = [threading.Thread(target=ask, args=(index,)) for index in range(24)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert found == {index: alone(request) for index, request in enumerate(requests)}
    assert any(len(step.context_len) > 1 for step in stage.steps)


def test_closing_ends_what_runs_and_the_thread() -> None:
    stage = backend(2)
    engine = threaded(stage, eos=())
    handle = engine.submit(make_request(1, 5, 200))
    assert eventually(lambda: len(stage.steps) >= 2)
    engine.close()
    assert handle.result().finish_reason == "cancelled"
    assert stage.closed
    with pytest.raises(EngineClosedError, match="open it again"):
        engine.complete([1])


def test_waiting_for_what_nobody_runs_ends() -> None:
    engine = threaded(backend(2))
    with pytest.raises(EngineClosedError, match="nothing is left to run"):
        engine._driver.wait(lambda: None)


def test_a_stepping_that_there_is_not_is_refused(tmp_path: Any) -> None:
    with pytest.raises(EngineError, match="stepping: expected 'caller' or 'thread', found 'process'"):
        Engine.open(tmp_path, stepping="process")  # type: ignore[arg-type]
