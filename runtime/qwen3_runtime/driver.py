"""Lets any number of threads share one scheduler: the waiting ones drive it, or a thread of its own."""

from __future__ import annotations

import os
import threading
from collections import deque
from contextlib import suppress
from typing import TYPE_CHECKING, Literal, TypeVar

from qwen3_runtime.errors import EngineClosedError, EngineError, OverloadedError, StepFailedError
from qwen3_runtime.interrupts import defer_interrupts

if TYPE_CHECKING:
    from collections.abc import Callable

    from qwen3_runtime.scheduler import Scheduler
    from qwen3_runtime.sequence import TokenSequence

Result = TypeVar("Result")


Stepping = Literal["caller", "thread"]


class Driver:
    """Whoever waits for a result drives the scheduler; the others sleep until that step is over.

    One thread drives at a time, and each step carries the sequences of all threads, so concurrent callers are
    batched. A sequence that nobody waits for advances only while another is being waited for. Ctrl-C falls between
    steps: the thread that it interrupts leaves, and another one drives on.

    Args:
        scheduler: runs the steps; nobody else may use it.
        max_in_flight: sequences, running and waiting, at which no more are taken; None for no limit.
    """

    def __init__(self, scheduler: Scheduler, *, max_in_flight: int | None = None) -> None:
        self._scheduler = scheduler  # belongs to the thread that set `_driving`
        self._changed = threading.Condition()  # guards what follows
        self._max_in_flight = max_in_flight
        self._scheduled = 0  # sequences that the scheduler had when nobody drove it last
        self._arrivals: deque[TokenSequence] = deque()
        self._driving = False
        self._closed = False
        self._process = os.getpid()

    def queue(self, *sequences: TokenSequence) -> None:
        """Hand sequences to the scheduler; they join at its next step. All of them are taken, or none.

        Raises:
            OverloadedError: `max_in_flight` was reached before.
            EngineClosedError: the engine was closed, or belongs to another process.
        """
        self._check_process()
        with self._changed:
            if self._closed:
                raise EngineClosedError("the engine is closed: open it again")
            in_flight = self._scheduled + len(self._arrivals)
            if self._max_in_flight is not None and in_flight >= self._max_in_flight:
                raise OverloadedError(
                    f"{in_flight} requests are running or waiting, which is the limit; try again later"
                )
            self._arrivals.extend(sequences)

    def wait(self, poll: Callable[[], Result | None]) -> Result:
        """Drive steps, or watch another thread drive them, until `poll` finds something.

        Raises:
            EngineClosedError: the engine was closed, or belongs to another process.
        """
        self._check_process()
        while True:
            with self._changed:
                while (found := poll()) is None and self._driving:
                    self._changed.wait()
                if found is None and self._closed:
                    self._cancel_all()  # this thread woke before the one that closes
                    found = poll()
                if found is not None:
                    return found
                if not self._has_work():
                    raise _nothing_left()
            with defer_interrupts():
                self._drive()

    def close(self) -> bool:
        """End every sequence as cancelled, after the step that is running.

        Returns:
            Whether there is something to free: not in a fork, whose parent has it.
        """
        if os.getpid() != self._process:
            return False
        with self._changed:
            self._closed = True
            self._changed.wait_for(lambda: not self._driving)
            self._cancel_all()
            self._changed.notify_all()
        return True

    def _check_process(self) -> None:
        # A fork has none of the provider's threads, and the lock as it was: held for ever, if a step was running.
        if os.getpid() != self._process:
            raise EngineClosedError(
                f"the engine was opened in process {self._process}, and process {os.getpid()} is a fork of it; "
                "open the engine after forking, or start processes with the method 'spawn'"
            )

    def _drive(self) -> None:
        """Run one step, unless another thread has begun to drive since this one looked."""
        with self._changed:
            if self._driving:
                return
            self._driving = True
        try:
            with self._changed:
                self._admit_arrivals()
            self._scheduler.step()
        except Exception as error:  # noqa: BLE001 - it reaches every caller that waits for one of the sequences
            self._scheduler.fail_all(error if isinstance(error, EngineError) else _broken(error))
        except BaseException:
            # It may fall between a sequence's output and its next token: nothing of this step can be trusted.
            self._scheduler.fail_all(StepFailedError("interrupted while a step was running; send the request again"))
            raise
        finally:
            with self._changed:
                self._scheduled = self._scheduler.in_flight
                self._driving = False
                self._changed.notify_all()

    def _has_work(self) -> bool:
        return bool(self._arrivals or self._scheduler.in_flight)

    def _cancel_all(self) -> None:
        self._admit_arrivals()
        self._scheduler.interrupt_all("cancelled")

    def _admit_arrivals(self) -> None:
        while self._arrivals:
            self._scheduler.add(self._arrivals.popleft())
        self._scheduled = self._scheduler.in_flight


class ThreadDriver(Driver):
    """A thread of its own drives the scheduler whenever there is something to run; nobody has to wait for it.

    The thread starts with the first sequence and ends with `close`. Arguments are those of `Driver`.
    """

    def __init__(self, scheduler: Scheduler, *, max_in_flight: int | None = None) -> None:
        super().__init__(scheduler, max_in_flight=max_in_flight)
        self._thread: threading.Thread | None = None

    def queue(self, *sequences: TokenSequence) -> None:
        """Hand sequences to the scheduler; see `Driver.queue`."""
        super().queue(*sequences)
        with self._changed:
            if self._thread is None:
                self._thread = threading.Thread(target=self._drive_on, name="qwen3-steps", daemon=True)
                self._thread.start()
            self._changed.notify_all()

    def wait(self, poll: Callable[[], Result | None]) -> Result:
        """Watch the thread until `poll` finds something; see `Driver.wait`."""
        self._check_process()
        with self._changed:
            while (found := poll()) is None:
                if not (self._driving or self._has_work()):
                    raise _nothing_left()
                self._changed.wait()
            return found

    def close(self) -> bool:
        """End every sequence as cancelled, and the thread; see `Driver.close`."""
        closed = super().close()
        thread = self._thread
        if closed and thread is not None and thread is not threading.current_thread():
            thread.join()
        return closed

    def _drive_on(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._closed or self._has_work())
                if self._closed:
                    return
            # Whatever ended the step was told to everyone who waits; the thread is there for those that come after.
            with suppress(BaseException):
                self._drive()


DRIVERS: dict[Stepping, type[Driver]] = {"caller": Driver, "thread": ThreadDriver}


def _nothing_left() -> EngineClosedError:
    return EngineClosedError("nothing is left to run for this request: the engine was closed before it")


def _broken(error: Exception) -> StepFailedError:
    broken = StepFailedError(f"a step failed: {type(error).__name__}: {error}")
    broken.__cause__ = error
    return broken
