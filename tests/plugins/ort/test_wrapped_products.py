"""Sizes whose products wrap to sizes that the inputs have: each in a process of its own, which used to crash."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

CRASHES = {
    "heads that wrap to none": """
step = make_step(0, heads=4, kv_heads=2, head_dim=32, block=8, new=[3, 1], context=[5, 0])
step.qkv = step.qkv[:, :128].copy()
run_operator("Attention", inputs_of(step), ["out"], **{**attributes_of(step), "num_heads": 1 << 59})
""",
    "a table whose bytes wrap to none": """
nothing = {"ids": np.array([5], np.int64), "codes": np.zeros(0, np.uint8)}
run_operator("Embedding", nothing, ["out"], format="fp32", n=1 << 31, k=1 << 31)
""",
    "a matrix whose bytes wrap to none": """
nothing = {"x": np.zeros((0, 1 << 31), np.float32), "codes": np.zeros(0, np.uint8)}
run_operator("Linear", nothing, ["y"], format="fp32", n=1 << 31, k=1 << 31)
""",
}


@pytest.mark.parametrize("name", CRASHES)
def test_a_product_that_wraps_is_refused(name: str) -> None:
    lines = ["import numpy as np", "from operator_session import run_operator", "from paged_attention import make_step"]
    lines += ["from test_attention_operator import attributes_of, inputs_of", CRASHES[name]]
    path = os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, "PYTHONPATH": path}
    done = subprocess.run(
        [sys.executable, "-c", "\n".join(lines)], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1, done.stderr
    assert ", expected 1 to " in done.stderr
