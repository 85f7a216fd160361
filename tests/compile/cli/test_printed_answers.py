"""The bytes of an answer: through a pipe exactly the model's, in a terminal the same but for what it would obey.

The engine's own sampler, detokenizer and stream run in another process; only the logits are made up, so that the model
says what the test wants.

Covers: a pipe, a file and a pseudo-terminal, whatever the locale
Reference: the answer of `--json`
"""

import json
import os
import pty
import re
import select
import subprocess
import sys
import time

import pytest

from qwen3_compile.terminal import harmless

SAYING = """
import os, sys
import numpy as np
from qwen3_compile.cli import main
from qwen3_runtime.backends.ort.packed import PackedSessionBackend
from qwen3_runtime.step import Output
from qwen3_runtime.text import Tokenizer
from pathlib import Path

tokenizer = Tokenizer.open(Path(sys.argv[2]))
tokens = iter([*tokenizer.encode(os.environb[b"SAID"].decode()), tokenizer.token_id("<|im_end|>")])

def run(self, step):
    values = np.zeros((1, vocab), np.float32)
    values[0, next(tokens)] = 50
    return Output(values, None)

import json
vocab = json.loads((Path(sys.argv[2]) / "manifest.json").read_text())["io"]["vocab_size"]
PackedSessionBackend.run = run
sys.exit(main(sys.argv[1:]))
"""
ANSWER = (
    "  no-break\u00a0narrow\u202fideographic\u3000space\n"
    "\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645 \u0915\u094d\u200d\u0937 \U0001f468\u200d\U0001f469"
    "\u200d\U0001f467 \U0001f3f4\U000e0067\U000e007f\n"
    "tab\there\r\nbell\x07 back\x08 esc\x1b[31mred\x1b]0;title\x1b\\ csi\x9b2J del\x7f nul"
    "\u202eoverridden\u202c \u2066isolated\u2069 \u200eltr \ufeff \u2028 \u2029 \x0b\x0c\x85"
    " :x: :smile: [bold]not markup[/bold] \\[ \ufffd \U0001fae9 \u0378 unassigned"
    + " and a line that is far longer than any terminal is wide" * 5
    + "\n\n trailing \n"
)  # fmt: skip
THOUGHT = "hm\u00a0:x:\t\x1b[2J"


def say(engine, text, *arguments, **options):
    command = [sys.executable, "-c", SAYING, "run", str(engine), "hi", "--temperature", "0", *arguments]
    environment = {**os.environ, "SAID": text, **options.pop("env", {})}
    return subprocess.run(command, check=True, timeout=120, env=environment, **options)


def test_a_pipe_gets_the_answer_of_json_and_one_newline_whatever_the_locale(engine, tmp_path):
    said = f"<think>\n{THOUGHT}\n</think>\n\n{ANSWER}"
    strange = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "PYTHONIOENCODING": "latin-1"}
    document = say(engine, said, "--json", stdout=subprocess.PIPE).stdout
    answer = json.loads(document)["answer"]
    assert answer == ANSWER
    with (tmp_path / "answer").open("wb") as file, (tmp_path / "thought").open("wb") as thought:
        say(engine, said, stdout=file, stderr=thought, env={**strange, "FORCE_COLOR": "1"})
    assert (tmp_path / "answer").read_bytes() == answer.encode() + b"\n"
    assert (tmp_path / "thought").read_bytes().startswith(THOUGHT.encode() + b"\n\n")


def test_a_terminal_gets_the_answer_with_its_controls_made_visible(engine):
    said = f"<think>\n{THOUGHT}\n</think>\n\n{ANSWER}"
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        [sys.executable, "-c", SAYING, "run", str(engine), "hi", "--temperature", "0"],
        env={**os.environ, "SAID": said, "TERM": "xterm-256color", "COLUMNS": "40"},
        stdin=subprocess.DEVNULL, stdout=theirs, stderr=theirs,
    ) as process:  # fmt: skip
        os.close(theirs)
        shown = read_all(ours)
    assert process.returncode == 0
    plain = re.sub("\x1b\\[[0-9;]*m", "", shown)
    assert plain.startswith(f"{harmless(THOUGHT)}\n\n{harmless(ANSWER)}\n[")
    assert re.match("\x1b\\[[0-9;]*2[0-9;]*m", shown), "thinking is dimmed"
    assert not set(plain) & (set(map(chr, (*range(0x20), *range(0x7F, 0xA0)))) - {"\n", "\t"})


def test_a_paste_of_several_lines_is_one_message_and_a_path_is_no_command(engine):
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        [sys.executable, "-c", "import sys; from qwen3_compile.cli import main; sys.exit(main())", "chat", str(engine),
         "--max-tokens", "1"],
        env={**os.environ, "TERM": "xterm", "INPUTRC": os.devnull},
        stdin=theirs, stdout=theirs, stderr=theirs,
    ) as process:  # fmt: skip
        os.close(theirs)
        screen = read_until(ours, "> ")
        for typed in ("\x1b[200~/usr/bin\n/exit\x1b[201~\r", "/history\r", "\x04"):
            os.write(ours, typed.encode())
            screen += read_until(ours, "> " if typed != "\x04" else None)
    assert process.returncode == 0
    assert "user: /usr/bin\n/exit\nassistant:" in screen


def read_all(descriptor):
    return read_until(descriptor, None)


def read_until(descriptor, ending):
    """What a terminal shows until it ends so, or until the program has ended; newlines as the program wrote them."""
    data, deadline = b"", time.monotonic() + 60
    while time.monotonic() < deadline:
        if not select.select([descriptor], [], [], 1)[0]:
            continue
        try:
            more = os.read(descriptor, 65536)
        except OSError:  # Linux's way to say that nobody holds the other end any more
            more = b""
        data += more
        text = re.sub("\x1b\\[\\?2004[hl]\r?", "", data.decode(errors="replace")).replace("\r\n", "\n")
        if not more or (ending and text.endswith(ending)):
            return text
    pytest.fail(f"the terminal shows {data!r}")
