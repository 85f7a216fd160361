"""Ctrl-C ends the call that it interrupts, after the step that runs, and no request of another thread.

Reference: scripted backends; real signals
"""

from __future__ import annotations

import os
import signal
import threading
import time
from typing import TYPE_CHECKING

import pytest
from test_scheduling import alone, backend, make_request, open_engine

from qwen3_runtime.interrupts import defer_interrupts

if TYPE_CHECKING:
    from collections.abc import Iterator

    from scripted import ScriptedBackend

    from qwen3_runtime import Completion


@pytest.fixture(autouse=True)
def the_usual_handler() -> Iterator[None]:
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    signal.signal(signal.SIGINT, before)


def interrupt_in_step(stage: ScriptedBackend, number: int, times: int = 1) -> None:
    """Ctrl-C when the main thread is inside the step with this number, or a later one."""
    left = [True]

    def before_step() -> None:
        if len(stage.steps) >= number and left and threading.current_thread() is threading.main_thread():
            left.clear()
            for _ in range(times):
                os.kill(os.getpid(), signal.SIGINT)
                time.sleep(0)  # a place where Python delivers it

    stage.before_step = before_step


def test_requests_of_other_threads_go_on() -> None:
    stage = backend(4)
    engine = open_engine(stage, max_context=256, max_sequences=4, eos=())
    ours, theirs = make_request(1, 5, 60), make_request(2, 5, 60)
    ends: list[Completion] = []
    handle = engine.submit(theirs)  # before the other thread starts: both are in the steps that this thread drives
    other = threading.Thread(target=lambda: ends.append(handle.result()))
    interrupt_in_step(stage, 3)
    with pytest.raises(KeyboardInterrupt):
        engine.generate([ours])
    other.start()
    other.join(120)
    limits = {"max_context": 256, "max_sequences": 1, "eos": ()}
    assert [one.tokens for one in ends] == [one.tokens for one in open_engine(backend(), **limits).generate([theirs])]
    assert not engine._scheduler.in_flight
    assert engine._scheduler.pool.available == 4


def test_the_interrupted_thread_may_go_on_with_its_own_request() -> None:
    """The step was whole: nothing of the request is lost."""
    stage = backend(2)
    engine = open_engine(stage, max_context=256)
    handle = engine.submit(make_request(1, 5, 30))
    interrupt_in_step(stage, 2)
    with pytest.raises(KeyboardInterrupt):
        handle.result()
    assert handle.result().tokens == alone(make_request(1, 5, 30))


def test_a_second_ctrl_c_does_not_wait_for_the_step() -> None:
    stage = backend(2)
    engine = open_engine(stage, max_context=256)
    handle = engine.submit(make_request(1, 5, 30))
    interrupt_in_step(stage, 2, times=2)
    with pytest.raises(KeyboardInterrupt):
        handle.result()
    assert len(stage.steps) == 2
    assert engine.generate([make_request(9, 5, 6)])[0].tokens == alone(make_request(9, 5, 6))


def test_a_handler_of_the_program_is_called_after_the_step() -> None:
    called: list[str] = []
    signal.signal(signal.SIGINT, lambda *_: called.append("handler"))
    with defer_interrupts():
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0.01)
        called.append("block")
    assert called == ["block", "handler"]
    signal.signal(signal.SIGINT, signal.default_int_handler)


def test_an_ignored_ctrl_c_stays_ignored() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with defer_interrupts():
        os.kill(os.getpid(), signal.SIGINT)
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    signal.signal(signal.SIGINT, signal.default_int_handler)


def test_other_threads_leave_the_handler_alone() -> None:
    found = []

    def look() -> None:
        with defer_interrupts():
            found.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=look)
    thread.start()
    thread.join(60)
    assert found == [signal.default_int_handler]
