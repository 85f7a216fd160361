"""The polygraphy commands of the documentation work on an engine's file, without a GPU.

Covers: `inspect model`, `inspect capability`, `run --onnxrt`
Reference: polygraphy
"""

import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

PAGE = Path(__file__).parents[3] / "docs" / "tensorrt.md"
COMMANDS = [line.strip() for line in PAGE.read_text(encoding="utf-8").splitlines() if "polygraphy " in line[:60]]
COMMANDS = [line for line in COMMANDS if "ENGINE/model.onnx" in line]
SAYS = ("kv_out.1.value [dtype=float16", "Graph is fully supported by TensorRT", "PASSED")


def test_three_commands_are_documented():
    assert len(COMMANDS) == len(SAYS)


@pytest.mark.parametrize(("command", "words"), list(zip(COMMANDS, SAYS, strict=False)))
def test_a_documented_command_works(make, command, words, tmp_path):
    target = {"backend": "tensorrt-rtx", "compute_capabilities": ["8.9"]}
    info, _ = make(precision={"weights": "fp16"}, target=target, options={"validate": False})
    arguments = shlex.split(command.replace("ENGINE", str(info.path)))
    setting = dict(argument.split("=", 1) for argument in arguments if argument.startswith("POLYGRAPHY_"))
    arguments = arguments[len(setting) :]
    assert arguments[0] == "polygraphy"
    script = "from polygraphy.tools import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", script, *arguments[1:]],
        env=os.environ | setting,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert words in done.stdout, done.stderr
    assert done.returncode == 0
