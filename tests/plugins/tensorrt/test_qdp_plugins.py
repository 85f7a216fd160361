"""Our kernels as quickly deployable plugins (QDP), told to the Python half of TensorRT 11: shapes, launches, PTX.

Covers: NVIDIA's TensorRT 11.4, Python half, over an imitated expression builder: registration, types, shapes, grids
    and scalars over random sizes, tactics, PTX and its parameters; files of such plugins, executed node by node
    with interpreted kernels
Reference: what the kernels' descriptions give for the same integers; the eager model in float64
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from qwen3_plugins.ort.compile import compiler
from qwen3_plugins.tensorrt import qdp
from qwen3_plugins.tensorrt.attention import AttentionOperator
from qwen3_plugins.tensorrt.kernels.attention import AttentionShape
from qwen3_plugins.tensorrt.kernels.moe import Experts
from qwen3_plugins.tensorrt.moe import MoEOperator

if TYPE_CHECKING:
    from collections.abc import Iterator

_SYMBOLS = (
    "createInferBuilder_INTERNAL",
    "createInferRefitter_INTERNAL",
    "createInferRuntime_INTERNAL",
    "createNvOnnxParserRefitter_INTERNAL",
    "createNvOnnxParser_INTERNAL",
    "getBuilderPluginRegistry",
    "getNvOnnxParserVersion",
    "getPluginRegistry",
    "initLibNvInferPlugins",
)
HEADS = AttentionShape(16, 8, 128, 32, 1e-6, "fp16")
EXPERTS = Experts(8, 2, True, 64, 32, "bf16", "int4", 32)
TYPES = {"fp16": "HALF", "bf16": "BF16", "fp32": "FLOAT", "i32": "INT32", "i8": "INT8"}


class Session:
    """Asks `qdp_session`."""

    def __init__(self, folder: Path) -> None:
        source = folder / "empty.cpp"
        source.write_text('extern "C" {' + "".join(f"void* {name}() {{ return 0; }}" for name in _SYMBOLS) + "}")
        for name in ("libnvinfer", "libnvinfer_plugin", "libnvonnxparser"):
            library = f"{name}.so.11"
            command = [str(compiler()), "-shared", "-fPIC", f"-Wl,-soname,{library}", "-o", str(folder / library)]
            subprocess.run([*command, str(source)], check=True)
        script = Path(__file__).with_name("qdp_session.py")
        self._process = subprocess.Popen(
            [sys.executable, str(script), str(folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.version = self._answer()["version"]

    def ask(self, what: str, **details: Any) -> dict[str, Any]:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"ask": what, **details}) + "\n")
        self._process.stdin.flush()
        answer = self._answer()
        assert "error" not in answer, answer["error"]
        return answer

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if line.startswith("{"):
                return json.loads(line)
        raise AssertionError("the process ended")

    def close(self) -> None:
        self._process.stdin.close()
        self._process.wait(300)


@pytest.fixture(scope="module")
def session(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Session]:
    made = Session(tmp_path_factory.mktemp("stubs"))
    yield made
    made.close()


def _operator_tensors(shape: Any, tokens: int, batch: int, width: int) -> dict[str, tuple[str, list[int]]]:
    """Every tensor that some kernel of an operator sees: its type and dimensions, written down once more by hand."""
    if isinstance(shape, AttentionShape):
        x, heads, kv_heads, dim = shape.type, shape.heads, shape.kv_heads, shape.head_dim
        rows = max(16, shape.group)
        return {
            "q": (x, [tokens, heads * dim]),
            "k": (x, [tokens, kv_heads * dim]),
            "v": (x, [tokens, kv_heads * dim]),
            "q_norm": (x, [dim]),
            "k_norm": (x, [dim]),
            "cos": ("fp32", [512, dim // 2]),
            "sin": ("fp32", [512, dim // 2]),
            "kv": (x, [77, 2, kv_heads, shape.block_size, dim]),
            "query_start": ("i32", [batch + 1]),
            "context_len": ("i32", [batch]),
            "block_table": ("i32", [batch, width]),
            "rotated": (x, [tokens, heads * dim]),
            "kv_out": (x, [77, 2, kv_heads, shape.block_size, dim]),
            "partial": ("fp32", [batch, kv_heads, 16, rows, dim]),
            "lse": ("fp32", [batch, kv_heads, 16, rows]),
            "out": (x, [tokens, heads * dim]),
        }
    x, experts, hidden, inner, slots = (
        shape.dtype,
        shape.experts,
        shape.hidden_size,
        shape.inner_size,
        tokens * shape.top_k,
    )
    return {
        "x": (x, [tokens, hidden]),
        "router": (x, [experts, hidden]),
        "logits": ("fp32", [tokens, experts]),
        "choice": ("i32", [tokens, shape.top_k]),
        "share": ("fp32", [tokens, shape.top_k]),
        "offsets": ("i32", [experts + 1]),
        "order": ("i32", [slots]),
        "gate_up": ("i8", [experts, 2 * inner, hidden // 2]),
        "gate_up_scales": (x, [experts, 2 * inner, hidden // 32]),
        "hidden": (x, [slots, inner]),
        "down": ("i8", [experts, hidden, inner // 2]),
        "down_scales": (x, [experts, hidden, inner // 32]),
        "answers": (x, [slots, hidden]),
        "y": (x, [tokens, hidden]),
    }


def _launch(
    session: Session, plugin: qdp.QdpPlugin, shape: Any, tensors: dict[str, Any], tactic: int
) -> dict[str, Any]:
    inputs = [tensors[name] for name in plugin.inputs()]
    return session.ask(
        "launch",
        name=plugin.name,
        kinds=[TYPES[kind] for kind, _ in inputs],
        shapes=[dims for _, dims in inputs],
        attributes=asdict(shape),
        tactic=tactic,
    )


def _shape(plugin: qdp.QdpPlugin) -> Any:
    return HEADS if plugin.family is AttentionShape else EXPERTS


def test_the_python_half_is_that_of_tensorrt_11(session):
    assert session.version.startswith("11.")


@pytest.mark.parametrize("plugin", qdp.PLUGINS, ids=lambda plugin: plugin.name)
@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(tokens=st.integers(1, 3000), batch=st.integers(1, 64), width=st.integers(1, 300))
def test_sizes_and_launches_follow_the_step(session, plugin, tokens, batch, width):
    shape = _shape(plugin)
    tensors = _operator_tensors(shape, tokens, batch, width)
    for tactic, kernel in enumerate(plugin.kernels(shape, 89), start=1):
        found = _launch(session, plugin, shape, tensors, tactic)
        assert found["outputs"] == [tensors[name][1] for name in plugin.results()]
        assert found["types"] == [TYPES[tensors[name][0]] for name in (*plugin.inputs(), *plugin.results())]
        sizes = {"tokens": tokens} if isinstance(shape, Experts) else {"tokens": tokens, "batch": batch}
        assert found["grid"] == list(kernel.grid(**sizes))
        known = {**sizes, "batch": batch, "table_width": width}
        assert found["scalars"] == [known[name] for name in kernel.of_role("scalar")]


@pytest.mark.parametrize("plugin", qdp.PLUGINS, ids=lambda plugin: plugin.name)
def test_ptx_takes_what_tensorrt_passes(session, plugin):
    """Inputs, scalars and outputs, nothing else: TensorRT knows no scratch pointers."""
    shape = _shape(plugin)
    kernels = plugin.kernels(shape, 89)
    for tactic, kernel in enumerate(kernels, start=1):
        found = _launch(session, plugin, shape, _operator_tensors(shape, 5, 2, 3), tactic)
        assert found["tactics"] == list(range(1, len(kernels) + 1))
        declared = re.search(rf"\.visible \.entry {found['entry']}\(([^)]*)\)", found["ptx"])
        assert declared is not None
        kinds = re.findall(r"\.param \.(u64|u32)", declared[1])
        assert kinds == ["u32" if argument.role == "scalar" else "u64" for argument in kernel.arguments]
        assert ".target sm_89" in found["ptx"]
        assert found["threads"] == 32 * kernel.warps


def test_ptx_is_for_the_gpu_that_was_named_last(session):
    plugin = qdp.ATTENTION[0]
    tensors = _operator_tensors(HEADS, 5, 2, 3)
    try:
        session.ask("build_for", capability=120)
        assert ".target sm_120a" in _launch(session, plugin, HEADS, tensors, 1)["ptx"]
    finally:
        session.ask("build_for", capability=89)
    assert ".target sm_89" in _launch(session, plugin, HEADS, tensors, 1)["ptx"]


def test_tiles_of_the_experts_are_two_tactics(session):
    (plugin,) = (one for one in qdp.PLUGINS if one.name == "moe_gate_up")
    few, many = (_launch(session, plugin, EXPERTS, _operator_tensors(EXPERTS, 4096, 1, 1), tactic) for tactic in (1, 2))
    assert few["grid"][1] > many["grid"][1]


@pytest.mark.parametrize("plugin", qdp.PLUGINS, ids=lambda plugin: plugin.name)
def test_the_cache_is_the_only_output_in_an_inputs_memory(session, plugin):
    tensors, shape = _operator_tensors(_shape(plugin), 5, 2, 3), _shape(plugin)
    inputs = [tensors[name] for name in plugin.inputs()]
    kinds, ranks = [TYPES[kind] for kind, _ in inputs], [len(dims) for _, dims in inputs]
    found = session.ask("types", name=plugin.name, kinds=kinds, ranks=ranks, attributes=asdict(shape))
    assert found["types"] == [TYPES[tensors[name][0]] for name in plugin.results()]
    aliases = [plugin.inputs().index("kv") if name == "kv_out" else -1 for name in plugin.results()]
    assert found["aliases"] == aliases


@pytest.mark.parametrize(("operator", "plugins"), [(AttentionOperator, qdp.ATTENTION), (MoEOperator, qdp.EXPERTS)])
def test_the_plugins_in_a_row_compute_the_operator(operator, plugins):
    """Each reads the operator's inputs or what one before it made, and all the operator's outputs are made, once."""
    made: list[str] = []
    for plugin in plugins:
        assert set(plugin.inputs()) <= {*operator.INPUTS, *made}
        made += plugin.results()
    assert len(made) == len(set(made))
    assert set(operator.OUTPUTS) <= set(made)
