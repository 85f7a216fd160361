"""What a build tells of itself while it runs, on stderr: live bars in a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Protocol, TextIO

from qwen3_compile.terminal import Screen, harmless

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import TracebackType
    from typing import Self

    from rich.progress import TaskID

_MIN_COLUMNS_FOR_RATE = 60  # columns from which on there is room for a rate


class Progress(Protocol):
    """Receives the course of a build. Stages follow one another; only the latest one advances."""

    def expect(self, stages: Sequence[str]) -> None:
        """These stages will follow, in this order; told once, before the first."""

    def begin(self, stage: str, total: int | None = None) -> None:
        """A stage starts; `total` bytes are to be worked through, where that is known."""

    def advance(self, count: int, what: str = "") -> None:
        """So many more bytes are done."""

    def note(self, text: str) -> None:
        """What the stage is doing now, in a few words."""

    def end(self, outcome: str = "") -> None:
        """The stage is finished; `outcome` says how."""


class Silent:
    """Tells nothing."""

    def expect(self, stages: Sequence[str]) -> None:
        """Ignore it."""

    def begin(self, stage: str, total: int | None = None) -> None:
        """Ignore it."""

    def advance(self, count: int, what: str = "") -> None:
        """Ignore it."""

    def note(self, text: str) -> None:
        """Ignore it."""

    def end(self, outcome: str = "") -> None:
        """Ignore it."""


class _Numbered:
    """Puts `[2/5]` before the name of a stage, where it is known how many there are."""

    def __init__(self) -> None:
        self._expected: Sequence[str] = ()

    def expect(self, stages: Sequence[str]) -> None:
        """Remember how many there are."""
        self._expected = tuple(stages)

    def _numbered(self, stage: str) -> str:
        if stage not in self._expected:
            return stage
        return f"[{self._expected.index(stage) + 1}/{len(self._expected)}] {stage}"


class Lines(_Numbered):
    """One line when a stage ends, and in a long one a line every few seconds."""

    def __init__(self, stream: TextIO | None = None, *, interval: float = 10.0) -> None:
        super().__init__()
        self._stream = stream or sys.stderr
        self._interval = interval
        self._stage = ""
        self._total: int | None = None
        self._done = 0
        self._started = self._told = 0.0

    def begin(self, stage: str, total: int | None = None) -> None:
        """Start the stage's clock."""
        self._stage, self._total, self._done = self._numbered(stage), total, 0
        self._started = self._told = time.monotonic()

    def advance(self, count: int, what: str = "") -> None:
        """Count, and write a line when the last one is some seconds old."""
        self._done += count
        now = time.monotonic()
        if self._total and now - self._told >= self._interval:
            self._told = now
            rate = self._done / (now - self._started)
            left = (self._total - self._done) / max(rate, 1.0)
            self._write(f"{self._done / self._total:.0%}, {rate / 1e6:.0f} MB/s, {left:.0f} s to go  {what}".rstrip())

    def note(self, text: str) -> None:
        """Write it when the last line is some seconds old."""
        now = time.monotonic()
        if now - self._told >= self._interval:
            self._told = now
            self._write(text)

    def end(self, outcome: str = "") -> None:
        """Write the outcome and the time taken."""
        took = time.monotonic() - self._started
        self._write(f"{outcome} ({took:.1f} s)" if outcome else f"done ({took:.1f} s)")

    def _write(self, text: str) -> None:
        print(f"{self._stage}: {harmless(text)}", file=self._stream, flush=True)


class Bars(_Numbered):
    """A live bar for each stage, with rate and time to go; use as a context.

    Stage and clock keep their places however narrow the terminal: the note behind them is cut, and the bar is short.
    """

    def __init__(self) -> None:
        from rich.progress import BarColumn, TaskProgressColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
        from rich.progress import Progress as Live
        from rich.progress import TransferSpeedColumn as Speed
        from rich.table import Column

        super().__init__()

        def whole() -> Column:
            return Column(no_wrap=True)

        stage = TextColumn("{task.description:<16}", markup=False, table_column=whole())
        cut = Column(ratio=2, no_wrap=True, overflow="ellipsis")
        note = TextColumn("{task.fields[note]}", style="dim", markup=False, table_column=cut)
        console = Screen(stderr=True, soft_wrap=False)
        bar = BarColumn(bar_width=None, table_column=Column(ratio=1))
        share = TaskProgressColumn(table_column=whole())
        left = TimeRemainingColumn(table_column=whole())
        speed = [Speed(table_column=whole())] if console.width >= _MIN_COLUMNS_FOR_RATE else []
        elapsed = TimeElapsedColumn(table_column=whole())
        self._plain = Live(stage, elapsed, note, console=console, transient=True, expand=True)
        self._bytes = Live(stage, left, share, bar, *speed, note, console=console, transient=True, expand=True)
        self._live: Live | None = None
        self._task: TaskID | None = None
        self._stage = ""
        self._started = 0.0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Clear the bar of a stage that did not end."""
        self._stop()

    def begin(self, stage: str, total: int | None = None) -> None:
        """Show the stage's bar, or a clock where no total is known."""
        self._stop()
        self._stage, self._started = self._numbered(stage), time.monotonic()
        self._live = self._plain if total is None else self._bytes
        self._task = self._live.add_task(self._stage, total=total, note="")
        self._live.start()

    def advance(self, count: int, what: str = "") -> None:
        """Move the bar."""
        if self._live is not None and self._task is not None:
            self._live.update(self._task, advance=count, note=harmless(what))

    def note(self, text: str) -> None:
        """Write behind the bar."""
        if self._live is not None and self._task is not None:
            self._live.update(self._task, note=harmless(text))

    def end(self, outcome: str = "") -> None:
        """Replace the bar by one line."""
        self._stop()
        took = time.monotonic() - self._started
        self._plain.console.print(f"{self._stage:<16} {took:6.1f} s  {outcome}", soft_wrap=True)

    def _stop(self) -> None:
        if self._live is not None and self._task is not None:
            self._live.stop()
            self._live.remove_task(self._task)
        self._live = self._task = None
