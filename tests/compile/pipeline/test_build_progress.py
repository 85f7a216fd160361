"""What a build tells while it runs."""

from __future__ import annotations

import io
import re

import pytest

from qwen3_compile.pipeline import progress
from qwen3_compile.pipeline.orchestrate import expected_stages
from qwen3_compile.pipeline.progress import Bars, Lines
from qwen3_compile.spec import spec_from_mapping


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


def test_lines_number_the_stages_that_are_expected(clock):
    stream = io.StringIO()
    lines = Lines(stream)
    lines.expect(["checkpoint", "pack"])
    for stage in ("checkpoint", "pack", "another"):
        lines.begin(stage)
        clock[0] += 1
        lines.end("done")
    assert stream.getvalue().splitlines() == [
        "[1/2] checkpoint: done (1.0 s)",
        "[2/2] pack: done (1.0 s)",
        "another: done (1.0 s)",
    ]


@pytest.mark.parametrize("width", [32, 40, 60, 80, 200])
@pytest.mark.parametrize("total", [None, 4_000_000_000])
def test_a_long_note_pushes_neither_stage_nor_clock_away(monkeypatch, width, total):
    """What a terminal shows is read from the escape codes' text: each frame is one line of at most its width."""
    terminal = io.StringIO()
    monkeypatch.setattr(terminal, "isatty", lambda: True, raising=False)
    monkeypatch.setattr("sys.stderr", terminal)
    for name, value in {"COLUMNS": str(width), "TERM": "xterm", "NO_COLOR": "1"}.items():
        monkeypatch.setenv(name, value)
    with Bars() as bars:
        bars.expect(["checkpoint", "trace", "lower", "pack", "validate"])
        bars.begin("validate", total)
        for step in range(3):
            bars.advance(1_000_000_000 if total else 0, f"{step}: " + "a note that is much too long " * 10)
            bars._live.refresh()
    frames = re.split(r"[\r\n]+", re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", terminal.getvalue()))
    shown = [frame for frame in frames if frame.strip()]
    assert len(shown) >= 3
    for frame in shown:
        assert len(frame) <= width
        assert re.match(r"\[5/5\] validate {2,}(-:--:--|[0-9]:[0-9]{2}:[0-9]{2})( |$)", frame)
    assert "2: a note" in shown[-1] or width < 80


@pytest.mark.parametrize("validate", [True, False])
def test_a_build_begins_the_stages_that_it_announces(make, validate):
    info, record = make(options={"validate": validate})
    assert list(record.outcomes) == expected_stages(load(info), validate=validate)


def load(info):
    return spec_from_mapping(info.manifest["spec"], where="manifest", base_dir=info.path)
