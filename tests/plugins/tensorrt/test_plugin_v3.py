"""TensorRT-RTX builds files with our plugins, without a GPU: what it asks them, is told, and makes of it.

Covers: `IPluginV3` of both operators for SM89 and SM120: types, shapes, formats, workspaces, cache in place without
    copies, fields and cubins in the plan, refusals
Reference: what the tests state; the builder's own list of layers
"""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import onnx_ir as ir
import pytest

from qwen3_plugins.tensorrt import importing

TESTS = Path(__file__).parents[2]
sys.path[:0] = [str(TESTS / "graphs"), str(TESTS / "graphs" / "lower" / "tensorrt")]

from plugin_engine import ATTENTION, BOTH, imported, precision  # noqa: E402
from plugin_engine import EXPERTS as TWO_LAYERS  # noqa: E402
from plugin_engine import WIDE as DENSE  # noqa: E402

from qwen3_graphs.formats import WeightFormat  # noqa: E402

PROFILES = [
    {"T": [1, 16, 64], "B": [1, 2, 4], "B+1": [2, 3, 5], "M": [1, 3, 3], "R": [1, 2, 64], "blocks": [3, 6, 12]},
    {"T": [1, 2, 4], "B": [1, 2, 4], "B+1": [2, 3, 5], "M": [1, 3, 3], "R": [1, 2, 4], "blocks": [3, 6, 12]},
]
INT4 = WeightFormat("int4", 32)
EXPERTS, WIDE = replace(TWO_LAYERS, num_hidden_layers=1), replace(DENSE, num_hidden_layers=1)


def build(
    model: Path, *, capabilities: tuple[int, ...] = (89,), profiles: Any = PROFILES, **more: Any
) -> dict[str, Any]:
    request = {"model": str(model), "capabilities": capabilities, "profiles": profiles, **more}
    script = Path(__file__).with_name("plugin_v3_session.py")
    ran = subprocess.run(
        [sys.executable, str(script)],
        input=json.dumps(request),
        capture_output=True,
        text=True,
        check=False,
        timeout=400,
    )
    lines = [line for line in ran.stdout.splitlines() if line.startswith("{")]
    assert ran.returncode == 0, ran.stderr[-2000:]
    return json.loads(lines[-1])


@pytest.fixture(scope="module")
def experts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("experts") / "model.onnx"
    path.write_bytes(imported(EXPERTS, precision("fp16", INT4), BOTH).SerializeToString())
    return path


@pytest.fixture(scope="module")
def built(experts: Path) -> dict[str, Any]:
    return build(experts)


def _calls(built: dict[str, Any], operator: str, name: str) -> list[Any]:
    found = [call[2:] for call in built["calls"] if call[:2] == [operator, name]]
    assert found, f"{name} of {operator} was not asked for"
    return found


def test_each_layer_becomes_two_plugins_and_a_plan(built):
    assert built["parsed"]
    assert built["layers"].count("PLUGIN_V3") == 2 * EXPERTS.num_hidden_layers
    assert built["plan"] > 100_000
    assert built["refused"] == []


def test_types_of_the_operators_are_those_of_the_file(built):
    x, codes = "HALF", "INT8"
    given = [x, x, x, x, x, "FLOAT", "FLOAT", x, "INT32", "INT32", "INT32"]
    assert [given, [x, x]] in _calls(built, "Qwen3Attention", "get_output_data_types")
    assert [[x, x, codes, x, codes, x], [x]] in _calls(built, "Qwen3MoE", "get_output_data_types")


@pytest.mark.parametrize("operator", ["Qwen3Attention", "Qwen3MoE"])
def test_only_linear_formats_are_accepted(built, operator):
    asked = _calls(built, operator, "supports_format_combination")
    assert {answer for _, (_, layout), answer in asked if layout == "LINEAR"} == {True}
    assert {answer for _, (_, layout), answer in asked if layout != "LINEAR"} <= {False}


def test_both_profiles_are_configured(built):
    for operator, first in (("Qwen3Attention", "q"), ("Qwen3MoE", "x")):
        longest = {call[0][0][1][0] for call in _calls(built, operator, "configure_plugin")}
        assert longest == {64, 4}, first


def test_the_workspace_holds_the_longest_step(built):
    """Rotated queries, and of each sequence 16 pieces of a tile of 16 rows; for experts, what lies between kernels."""
    tokens, heads, head_dim, batch = 64, EXPERTS.num_attention_heads, EXPERTS.head_dim, 4
    pieces = batch * EXPERTS.num_key_value_heads * 16 * 16
    wanted = 2 * tokens * heads * head_dim + 4 * pieces * head_dim + 4 * pieces
    assert max(size for (size,) in _calls(built, "Qwen3Attention", "get_workspace_size")) == wanted
    slots = tokens * EXPERTS.num_experts_per_tok
    buffers = [4 * tokens * 6, 4 * slots, 4 * slots, 4 * 7, 4 * slots, 2 * slots * 64, 2 * slots * 128]
    rounded = sum(-(-size // 256) * 256 for size in buffers)
    assert max(size for (size,) in _calls(built, "Qwen3MoE", "get_workspace_size")) == rounded


def test_the_cache_is_written_in_place_without_copies(built):
    assert {answer for (answer,) in _calls(built, "Qwen3Attention", "get_aliased_input")} == {-1, 7}
    touching = [line for line in built["engine"] if "kv.0" in line]
    assert touching
    for line in touching:  # the network's own input and output, with nothing between them and the plugin
        assert line.startswith("Layer(PluginV3)")
        assert "kv_out.0" in line


def test_a_plan_holds_attributes_and_kernels(built):
    attributes, kernels = _calls(built, "Qwen3Attention", "get_fields_to_serialize")[-1]
    assert attributes == ["block_size", "epsilon", "head_dim", "kv_num_heads", "num_heads"]
    assert [(name, capability) for name, capability, *_ in kernels] == [
        ("attention_append", 89),
        ("attention_split", 89),
        ("attention_attend", 89),
    ]
    attributes, kernels = _calls(built, "Qwen3MoE", "get_fields_to_serialize")[-1]
    assert attributes == ["group_size", "normalize", "top_k", "weight_format"]
    assert {name for name, *_ in kernels} == {
        *("moe_logits", "moe_select", "moe_sort", "moe_combine"),
        *("moe_gate_up.decode", "moe_gate_up.prefill", "moe_down.decode", "moe_down.prefill"),
    }
    assert all(threads in (32, 64, 128, 256) and size > 1000 for _, _, _, threads, _, size in kernels)


def test_a_plugin_made_of_the_plans_fields_launches_the_plans_kernels(built):
    opened = {one["operator"]: one for one in built["opened"]}
    attention, experts = opened["Qwen3Attention"], opened["Qwen3MoE"]
    assert attention["same"]
    assert experts["same"]
    names = ("q", "k", "v", "q_norm", "k_norm", "cos", "sin", "kv", "query_start", "context_len", "block_table")
    places = dict(zip((*names, "out", "kv_out"), range(13), strict=True))
    kernels = ("attention_append", "attention_split", "attention_attend")
    assert attention["launched"] == [[name, name, places, 4096, 7] for name in kernels]
    places = dict(zip(("x", "router", "gate_up", "gate_up_scales", "down", "down_scales", "y"), range(7), strict=True))
    assert [one[2:] for one in experts["launched"]] == [[places, 4096, 7]] * 6
    assert {one[0].split(".")[0] for one in experts["launched"]} == {
        *("moe_logits", "moe_select", "moe_sort", "moe_gate_up", "moe_down", "moe_combine")
    }


def test_attention_alone_in_bfloat16_for_two_architectures(tmp_path):
    model = tmp_path / "model.onnx"
    model.write_bytes(imported(WIDE, precision("bf16"), ATTENTION).SerializeToString())
    built = build(model, capabilities=(89, 120), profiles=PROFILES[1:])
    assert built["plan"] is not None
    _, kernels = _calls(built, "Qwen3Attention", "get_fields_to_serialize")[-1]
    assert {capability for _, capability, *_ in kernels} == {89, 120}


def test_with_the_functions_the_parser_would_not_take_the_plugins(experts):
    """Why they are removed: the names are then no plugins'."""
    found = build(experts, profiles=[], strip=False)
    assert "PLUGIN_V3" not in found["layers"]


def _edited(tmp_path: Path, operator: str, **attributes: Any) -> Path:
    model = ir.from_proto(imported(EXPERTS, precision("fp16", INT4), BOTH))
    for node in model.graph:
        if node.op_type == operator:
            for name, value in attributes.items():
                if value is None:
                    del node.attributes[name]
                else:
                    node.attributes[name] = ir.AttrInt64(name, value)
    path = tmp_path / "edited.onnx"
    path.write_bytes(ir.to_proto(model).SerializeToString())
    return path


@pytest.mark.parametrize(
    ("operator", "attributes", "said"),
    [
        ("Qwen3Attention", {"head_dim": 80}, "Qwen3Attention: attention: head_dim must be 64 or 128, found 80"),
        ("Qwen3Attention", {"block_size": 8}, "Qwen3Attention: attention: block_size must be 16 or more, found 8"),
        ("Qwen3Attention", {"block_size": None}, "Qwen3Attention: attribute block_size is missing"),
        ("Qwen3Attention", {"kv_num_heads": 2}, "Qwen3Attention: k is [T"),
        ("Qwen3MoE", {"top_k": 9}, "Qwen3MoE: top_k is 1 to 8, found 9"),
        ("Qwen3MoE", {"group_size": 64}, "Qwen3MoE: group_size of int4 is 32 or 128, found 64"),
        ("Qwen3MoE", {"group_size": 128}, "Qwen3MoE: gate_up_scales is [6, 128, 1], found [6, 128, 4]"),
    ],
)
def test_what_the_kernels_do_not_compute_is_refused_in_one_line(tmp_path, operator, attributes, said):
    found = build(_edited(tmp_path, operator, **attributes), profiles=[])
    assert found["refused"]
    assert found["refused"][0].startswith(said)
    assert "\n" not in found["refused"][0]
    assert not found["parsed"]


def test_an_architecture_without_kernels_is_refused_in_one_line(experts):
    """While the file is parsed: later, an error in a plugin ends the process."""
    found = build(experts, capabilities=(89, 75), profiles=[])
    assert not found["parsed"]
    assert found["refused"][0].startswith("Qwen3Attention: attention: no tile sizes for SM75")


def test_the_module_must_be_loaded_by_us_first():
    code = (
        "import tensorrt_rtx\nfrom qwen3_plugins.tensorrt.bindings import modules\n"
        "try:\n    modules.load_tensorrt('tensorrt-rtx')\n"
        "except Exception as error:\n    print(type(error).__name__, error)"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.startswith("BindingsError tensorrt_rtx was imported by something else before")


def test_a_qdp_file_has_one_plugin_a_kernel(experts):
    content = importing.as_qdp(experts.read_bytes())
    graph = ir.from_proto(content_proto := ir.serde.onnx.ModelProto.FromString(content)).graph
    assert not content_proto.functions or {one.domain for one in content_proto.functions} == {"trt"}
    names = [node.op_type for node in graph if node.domain == "qwen3"]
    assert names[:3] == ["attention_append", "attention_split", "attention_attend"]
    assert len(names) == EXPERTS.num_hidden_layers * (3 + 6)
    append = next(node for node in graph if node.op_type == "attention_append")
    assert {name: append.attributes[name].value for name in ("type", "heads", "plugin_namespace", "aot")} == {
        "type": "fp16",
        "heads": EXPERTS.num_attention_heads,
        "plugin_namespace": "qwen3",
        "aot": 1,
    }
    split = next(node for node in graph if node.op_type == "attention_split")
    assert split.inputs[1].name == "kv_out.0"
