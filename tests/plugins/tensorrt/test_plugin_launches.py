"""What a plugin's `enqueue` tells the CUDA driver computes the operator; behind the driver, kernels are interpreted."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch

from qwen3_plugins.tensorrt import launch
from qwen3_plugins.tensorrt.binary import Binary, for_device, packed, unpacked
from qwen3_plugins.tensorrt.errors import PluginError
from qwen3_plugins.tensorrt.operator import Launch, Scratch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

MOE = {"experts": 5, "top_k": 2, "normalize": True, "hidden_size": 64, "inner_size": 32, "group_size": 0}
BINARIES = (
    Binary("append", 80, "kernel_a", 64, 1024, b"eighty"),
    Binary("append", 89, "kernel_a", 64, 2048, b"eighty-nine"),
    Binary("append", 120, "kernel_a", 128, 0, bytes(1000)),
)


@pytest.fixture(scope="module")
def run() -> Iterator[Callable[..., dict[str, float]]]:
    script = Path(__file__).with_name("driver_session.py")
    process = subprocess.Popen([sys.executable, str(script)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdin is not None
    assert process.stdout is not None

    def ask(what: str, **details: Any) -> dict[str, float]:
        process.stdin.write(json.dumps({"run": what, **details}) + "\n")
        process.stdin.flush()
        answer = process.stdout.readline()
        assert answer, "the process ended: what it printed to stderr says why"
        return json.loads(answer)

    yield ask
    process.stdin.close()
    process.wait(20)


@pytest.mark.parametrize("kind", ["fp16", "bf16"])
@pytest.mark.parametrize(
    ("new", "context"), [([1, 1, 1], [5, 40, 0]), ([9, 0, 1, 33], [0, 7, 30, 16])], ids=["decode", "mixed"]
)
def test_attention(run, kind, new, context):
    unit = torch.finfo({"fp16": torch.float16, "bf16": torch.bfloat16}[kind]).eps
    found = run("attention", kind=kind, new=new, context=context)
    assert found["out"] < 4 * unit
    assert found["kv"] < 4 * unit


@pytest.mark.parametrize(
    "shape",
    [
        {**MOE, "dtype": "fp16", "weight_format": "fp16"},
        {**MOE, "dtype": "bf16", "weight_format": "fp8", "normalize": False},
        {**MOE, "dtype": "fp16", "weight_format": "int4", "group_size": 32},
    ],
    ids=["fp16", "fp8", "int4"],
)
@pytest.mark.parametrize("tokens", [1, 50], ids=["decode", "prefill"])
def test_experts(run, shape, tokens):
    unit = torch.finfo({"fp16": torch.float16, "bf16": torch.bfloat16}[shape["dtype"]]).eps
    found = run("experts", tokens=tokens, **shape)
    assert found["y"] < 2 * unit * found["scale"]


def test_attention_as_three_quick_plugins(run):
    """The file that `importing.as_quick` writes, node by node: names, attributes, sizes and what lies between."""
    found = run("attention", kind="fp16", new=[9, 0, 1, 33], context=[0, 7, 30, 16], quickly=True)
    assert found["out"] < 4 * 2**-10
    assert found["kv"] < 4 * 2**-10


def test_experts_as_six_quick_plugins(run):
    shape = {**MOE, "dtype": "fp16", "weight_format": "int4", "group_size": 32}
    found = run("experts", tokens=20, quickly=True, **shape)
    assert found["y"] < 2 * 2**-10 * found["scale"]


def test_kernels_come_back_from_a_plan_as_they_were():
    assert unpacked(packed(BINARIES)) == BINARIES
    assert packed(BINARIES) == packed(unpacked(packed(BINARIES)))


@pytest.mark.parametrize("damaged", [b"", b"PK", packed(BINARIES)[:-30], packed(())[:40]])
def test_damaged_kernels_are_refused_in_one_line(damaged):
    with pytest.raises(PluginError, match=r"^the plan's kernels cannot be read .*: build the engine again$"):
        unpacked(damaged)


@pytest.mark.parametrize(("found", "taken"), [(80, 80), (86, 80), (89, 89), (120, 120)])
def test_a_gpu_gets_the_nearest_kernels_below_it(found, taken):
    assert for_device(BINARIES, found)["append"].capability == taken


@pytest.mark.parametrize("found", [75, 90, 100, 121])  # what is made for 12.0 does not run on 12.1
def test_a_gpu_of_another_kind_gets_none(found):
    with pytest.raises(PluginError, match=rf"compute capability 8.0, 8.9, 12.0, found a GPU of {found / 10:.1f}"):
        for_device(BINARIES, found)


def test_what_the_driver_refuses_is_told(monkeypatch):
    class Refusing:
        def cuCtxGetCurrent(self):  # noqa: N802
            return (700,)

    monkeypatch.setattr(launch, "_driver", Refusing)
    with pytest.raises(PluginError, match=r"CUDA refused .*: 700"):
        launch.run(Launch("append", (1, 1, 1), (Scratch(0),)), BINARIES[0], {}, 0, 0)
