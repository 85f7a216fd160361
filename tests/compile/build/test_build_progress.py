"""What a build tells while it runs."""

from __future__ import annotations

import io

import pytest

from qwen3_compile.build import progress
from qwen3_compile.build.progress import Bars, Lines


@pytest.fixture
def clock(monkeypatch):
    """A clock that the test sets."""
    now = [100.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    return now


def test_lines_tell_share_rate_and_time_to_go_every_few_seconds(clock):
    stream = io.StringIO()
    lines = Lines(stream, interval=10)
    lines.begin("pack", 4_000_000_000)
    for second in range(1, 21):
        clock[0] = 100.0 + second
        lines.advance(100_000_000, f"{second} of 40 tensors")
    lines.end("4000.0 MB")
    assert stream.getvalue().splitlines() == [
        "pack: 25%, 100 MB/s, 30 s to go  10 of 40 tensors",
        "pack: 50%, 100 MB/s, 20 s to go  20 of 40 tensors",
        "pack: 4000.0 MB (20.0 s)",
    ]


def test_a_short_stage_is_one_line(clock):
    stream = io.StringIO()
    lines = Lines(stream)
    lines.begin("lower")
    lines.note("working")
    clock[0] += 0.5
    lines.end()
    assert stream.getvalue() == "lower: done (0.5 s)\n"


def test_bars_leave_one_line_for_each_finished_stage(capsys):
    with Bars() as bars:
        bars.begin("pack", 1000)
        bars.advance(400, "1 of 2 tensors")
        bars.advance(600, "2 of 2 tensors")
        bars.end("done [2 tensors]")
        bars.begin("validate")
        bars.note("comparing [prefill]")
    captured = capsys.readouterr()
    assert captured.out == ""
    assert [line.split()[0] for line in captured.err.splitlines() if "done [2 tensors]" in line] == ["pack"]
