"""What a plugin's `enqueue` tells the CUDA driver computes the operator; behind the driver, kernels are interpreted.

Covers: grids, arguments, workspaces; behind an imitated driver the kernels are interpreted
Reference: the eager model in float64
"""

from __future__ import annotations

import io
import json
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch

from qwen3_plugins.tensorrt import kernel_launch
from qwen3_plugins.tensorrt.attention import AttentionOperator
from qwen3_plugins.tensorrt.binary import Binary, deserialize_binaries, for_device, serialize_binaries
from qwen3_plugins.tensorrt.errors import BindingsError, PluginError
from qwen3_plugins.tensorrt.moe import MoEOperator
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
    process.wait(300)


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


def test_attention_as_three_qdp_plugins(run):
    """The file that `importing.as_qdp` writes, node by node: names, attributes, sizes and what lies between."""
    found = run("attention", kind="fp16", new=[9, 0, 1, 33], context=[0, 7, 30, 16], as_qdp=True)
    assert found["out"] < 4 * 2**-10
    assert found["kv"] < 4 * 2**-10


def test_experts_as_six_qdp_plugins(run):
    shape = {**MOE, "dtype": "fp16", "weight_format": "int4", "group_size": 32}
    found = run("experts", tokens=20, as_qdp=True, **shape)
    assert found["y"] < 2 * 2**-10 * found["scale"]


def test_kernels_come_back_from_a_plan_as_they_were():
    assert deserialize_binaries(serialize_binaries(BINARIES)) == BINARIES
    assert serialize_binaries(BINARIES) == serialize_binaries(deserialize_binaries(serialize_binaries(BINARIES)))


@pytest.mark.parametrize("damaged", [b"", b"PK", serialize_binaries(BINARIES)[:-30], serialize_binaries(())[:40]])
def test_damaged_kernels_are_refused_in_one_line(damaged):
    with pytest.raises(PluginError, match=r"^the plan's kernels cannot be read .*: build the engine again$"):
        deserialize_binaries(damaged)


def test_a_damaged_byte_changes_no_kernel():
    whole = (Binary("append", 89, "kernel_a", 64, 2048, bytes(range(256))),)
    content = serialize_binaries(whole)
    for place in range(len(content)):
        for bit in (1, 2, 0x80):
            damaged = bytearray(content)
            damaged[place] ^= bit
            try:
                assert deserialize_binaries(bytes(damaged)) == whole  # a byte that says nothing, such as a date
            except PluginError as error:
                assert "\n" not in str(error)  # noqa: PT017 - either is right


@pytest.mark.parametrize("index", [b"{}x", b"[1]", b"null", b'[{"name": "a"}]', b'[{"name": "a", "capability": "89"}]'])
def test_an_index_of_other_entries_is_refused(index):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("index.json", index)
        archive.writestr("a.sm89.cubin", b"")
    with pytest.raises(PluginError, match=r"^the plan's kernels cannot be read"):
        deserialize_binaries(file.getvalue())


@pytest.mark.parametrize(("found", "taken"), [(80, 80), (86, 80), (89, 89), (120, 120)])
def test_a_gpu_gets_the_nearest_kernels_below_it(found, taken):
    assert for_device(BINARIES, found)["append"].capability == taken


@pytest.mark.parametrize("found", [75, 90, 100, 121])  # what is made for 12.0 does not run on 12.1
def test_a_gpu_of_another_kind_gets_none(found):
    with pytest.raises(PluginError, match=rf"compute capability 8.0, 8.9, 12.0, found a GPU of {found / 10:.1f}"):
        for_device(BINARIES, found)


ATTENTION = AttentionOperator(32, 8, 128, 32, 1e-6)
EXPERTS = MoEOperator(8, 1, "int4", 128)


def attention_shapes(tokens: int = -1, batch: int = -1, **changed: tuple[int, ...]) -> list[tuple[int, ...]]:
    starts = batch + 1 if batch >= 0 else -1
    shapes = {
        "q": (tokens, 4096),
        "k": (tokens, 1024),
        "v": (tokens, 1024),
        "q_norm": (128,),
        "k_norm": (128,),
        "cos": (4096, 64),
        "sin": (4096, 64),
        "kv": (-1, 2, 8, 32, 128),
        "query_start": (starts,),
        "context_len": (batch,),
        "block_table": (batch, -1),
    }
    return list((shapes | changed).values())


def expert_shapes(tokens: int = -1, **changed: tuple[int, ...]) -> list[tuple[int, ...]]:
    shapes = {
        "x": (tokens, 2048),
        "router": (128, 2048),
        "gate_up": (128, 1536, 1024),
        "gate_up_scales": (128, 1536, 16),
        "down": (128, 2048, 384),
        "down_scales": (128, 2048, 6),
    }
    return list((shapes | changed).values())


def test_shapes_of_released_models_are_taken():
    for tokens in (-1, 1, 8192):
        ATTENTION.check(attention_shapes(tokens, tokens))
        EXPERTS.check(expert_shapes(tokens))


@pytest.mark.parametrize(
    ("operator", "shapes", "said"),
    [
        (ATTENTION, attention_shapes(batch=4, query_start=(4,)), r"query_start is \[B \+ 1\], found \[4\] for B = 4"),
        (ATTENTION, attention_shapes()[:-1], "11 inputs expected, found 10"),
        (ATTENTION, attention_shapes(block_table=(-1,)), r"block_table has 2 dimensions, found \[-1\]"),
        (ATTENTION, attention_shapes(k=(7, 512)), r"k is \[T = 7, 1024\], found \[7, 512\]"),
        (EXPERTS, expert_shapes(router=(128 * 2048,)), r"router has 2 dimensions, found \[262144\]"),
        (EXPERTS, expert_shapes()[:4], "6 inputs expected, found 4"),
        (EXPERTS, expert_shapes(down=()), r"down has 3 dimensions, found \[\]"),
    ],
)
def test_other_shapes_are_refused_in_one_line(operator, shapes, said):
    with pytest.raises(PluginError, match=f"^{operator.NAME}: {said}$"):
        operator.check(shapes)


@pytest.mark.parametrize(
    ("operator", "shapes", "name"),
    [
        (ATTENTION, attention_shapes(2**19, 1), "out"),
        (ATTENTION, attention_shapes(2**13, 2**13), "a workspace"),
        (EXPERTS, expert_shapes(2**20), "x"),
        (EXPERTS, expert_shapes(2**19), "a workspace"),
    ],
)
def test_steps_beyond_the_kernels_integers_are_refused(operator, shapes, name):
    with pytest.raises(PluginError, match=rf"{name} has \d+ elements, expected fewer than 2\*\*31"):
        operator.workspace("fp16", shapes)


def test_what_the_driver_refuses_is_told(monkeypatch):
    class Refusing:
        def cuCtxGetCurrent(self):  # noqa: N802
            return (700,)

    monkeypatch.setattr(kernel_launch, "_driver", Refusing)
    with pytest.raises(BindingsError, match=r"CUDA could not start a plugin's kernel: 700"):
        kernel_launch.launch_kernel(Launch("append", (1, 1, 1), (Scratch(0),)), BINARIES[0], {}, 0, 0)
