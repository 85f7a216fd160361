"""A signal ends a build although Python drops what its handler raised, as it does inside a weak reference's callback.

Covers: Ctrl-C, SIGTERM
"""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest

from qwen3_compile import stopping
from qwen3_compile.pipeline.stage import Stage, run_stage

LOST = """
import os, sys, weakref
from qwen3_compile.stopping import check_stopped, stop_on_signals
class Thing: pass
stop_on_signals()
check_stopped()
thing = Thing()
reference = weakref.ref(thing, lambda _: os.kill(os.getpid(), int(sys.argv[1])))
del thing
print("the exception was lost", flush=True)
check_stopped()
print("published")
"""


@pytest.fixture(autouse=True)
def forgotten():
    yield
    stopping.forget_signals()


@pytest.mark.parametrize(("sent", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, -signal.SIGINT)])
def test_what_a_callback_swallowed_is_raised_at_the_next_place(sent, code):
    found = subprocess.run([sys.executable, "-c", LOST, str(int(sent))], capture_output=True, text=True, check=False)
    assert found.stdout == "the exception was lost\n"
    assert found.returncode == code


def test_no_stage_begins_after_a_signal(monkeypatch):
    class Never(Stage):
        def prepare(self):
            raise AssertionError("it began")

    monkeypatch.setattr(stopping, "_received", [signal.SIGTERM])
    with pytest.raises(SystemExit) as raised:
        run_stage(Never(None))
    assert raised.value.code == 143


def test_a_signal_of_the_command_before_does_not_stop_the_next(monkeypatch):
    monkeypatch.setattr(stopping, "_received", [signal.SIGINT])
    stopping.forget_signals()
    stopping.check_stopped()
