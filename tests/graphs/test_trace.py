"""The assembled semantic graph: same as a whole export, stable to the byte, cheap at any depth, without weights.

Reference: an export of the whole model, node by node
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import subprocess
import sys
from typing import Any

import onnx
import onnx_ir as ir
import pytest
from twins import DENSE, MIXED, MOE, TRACED_CONTEXT, UNTIED, traced, twin

from qwen3_graphs import schemas
from qwen3_graphs.architecture import Architecture
from qwen3_graphs.trace import CHECKPOINT, export_whole


@pytest.mark.parametrize("architecture", [DENSE, MOE, MIXED], ids=["dense", "moe", "mixed"])
def test_repeating_one_layer_gives_the_graph_of_a_whole_export(architecture):
    assembled, whole = traced(architecture).graph, export_whole(architecture, "logits", TRACED_CONTEXT)
    assert set(assembled.initializers) == set(whole.initializers)
    # `same` maps every value of one graph to its counterpart; a counterpart must be the only one.
    same = dict(zip(assembled.inputs, whole.inputs, strict=True))
    same |= {value: whole.initializers[name] for name, value in assembled.initializers.items()}
    for ours, theirs in zip(assembled, whole, strict=True):
        assert (ours.domain, ours.op_type) == (theirs.domain, theirs.op_type)
        assert [same[value] for value in ours.inputs] == list(theirs.inputs)
        attributes = [{a.name: (a.type, a.value) for a in node.attributes.values()} for node in (ours, theirs)]
        assert attributes[0] == attributes[1]
        same |= dict(zip(ours.outputs, theirs.outputs, strict=True))
    assert [same[value] for value in assembled.outputs] == list(whole.outputs)
    assert len(set(same.values())) == len(same)
    for ours, theirs in same.items():
        assert (ours.shape, ours.dtype) == (theirs.shape, theirs.dtype), ours.name


@pytest.mark.parametrize("output", ["logits", "hidden"])
def test_inputs_and_outputs_are_those_of_the_interface(output):
    graph = traced(DENSE, output).graph
    assert [f"{v.name} {v.dtype.name} {v.shape}" for v in graph.inputs] == [
        "input_ids INT64 [T]",
        "query_start INT32 [B+1]",
        "context_len INT32 [B]",
        "block_table INT32 [B,M]",
        "logits_rows INT32 [R]",
        "kv.0 FLOAT [blocks,2,2,block,8]",
        "kv.1 FLOAT [blocks,2,2,block,8]",
        "kv.2 FLOAT [blocks,2,2,block,8]",
    ]
    width = {"logits": 67, "hidden": 24}[output]
    assert [f"{v.name} {v.dtype.name} {v.shape}" for v in graph.outputs] == [
        f"{output} FLOAT [R,{width}]",
        "kv_out.0 FLOAT [blocks,2,2,block,8]",
        "kv_out.1 FLOAT [blocks,2,2,block,8]",
        "kv_out.2 FLOAT [blocks,2,2,block,8]",
    ]


@pytest.mark.parametrize("architecture", [DENSE, MOE, UNTIED], ids=["dense", "moe", "untied"])
def test_initializers_are_the_checkpoints_tensors_without_bytes(architecture):
    _, weights = twin(architecture, 0)
    expected = {name: tuple(weight.shape) for name, weight in weights.items()}
    expected |= dict.fromkeys(["rope.cos", "rope.sin"], (TRACED_CONTEXT, architecture.head_dim // 2))
    proto = ir.to_proto(traced(architecture))
    reloaded = ir.from_proto(onnx.ModelProto.FromString(proto.SerializeToString())).graph.initializers
    assert {name: tuple(value.shape) for name, value in reloaded.items()} == expected
    for value in reloaded.values():
        assert value.dtype == ir.DataType.FLOAT
        assert isinstance(value.const_value, ir.ExternalTensor)
        assert value.const_value.location == CHECKPOINT
    assert not any(tensor.raw_data or tensor.float_data for tensor in proto.graph.initializer)


@pytest.mark.parametrize("architecture", [DENSE, MOE], ids=["dense", "moe"])
def test_onnx_checks_and_infers_the_graph(architecture):
    proto = ir.to_proto(traced(architecture))
    for tensor in proto.graph.initializer:  # the checker would look for the file
        proto.graph.input.append(onnx.helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims))
    del proto.graph.initializer[:]
    onnx.checker.check_model(proto)
    onnx.shape_inference.infer_shapes(proto, check_type=True, strict_mode=True)
    domains = {(entry.domain, entry.version) for entry in proto.opset_import}
    assert domains == {("", schemas.OPSET), ("qwen3", 1)}


def test_every_value_has_a_unique_readable_name_a_type_and_a_shape():
    graph = traced(DENSE).graph
    values = [value for node in graph for value in node.outputs]
    assert len({value.name for value in values}) == len(values)
    assert all(value.dtype is not None and value.shape is not None for value in values)
    assert "layers.1.self_attn.attention" in {value.name for value in values}
    assert not any(node.metadata_props for node in graph), "the exporter's traces name this machine's files"


TRACE_IN_A_PROCESS = """
import hashlib, json, re, sys, time
import onnx_ir
from qwen3_graphs.architecture import Architecture
from qwen3_graphs.trace import trace
models = [trace(Architecture(**fields), max_context=int(sys.argv[1])) for fields in json.loads(sys.argv[2])]
blobs = [onnx_ir.to_proto(model).SerializeToString() for model in models]
print(json.dumps({
    "processor_seconds": time.process_time(),
    # Not getrusage, whose peak may be that of the process that started this one.
    "gigabytes": int(re.findall("VmHWM: +([0-9]+) kB", open("/proc/self/status").read().replace("\t", " "))[0]) / 1e6,
    "sha256": [hashlib.sha256(blob).hexdigest() for blob in blobs],
    "attentions": [sum(node.op_type == "Attention" for node in model.graph) for model in models],
}))
"""


def trace_in_a_process(architectures: list[Architecture], max_context: int, hash_seed: str = "0") -> dict[str, Any]:
    fields = json.dumps([dataclasses.asdict(architecture) for architecture in architectures])
    run = subprocess.run(
        [sys.executable, "-c", TRACE_IN_A_PROCESS, str(max_context), fields],
        env={**os.environ, "PYTHONHASHSEED": hash_seed},
        capture_output=True,
        text=True,
        check=True,
    )
    assert run.stderr == "", "tracing is silent"
    result: dict[str, Any] = json.loads(run.stdout)
    return result


def test_two_processes_give_the_same_bytes():
    other = trace_in_a_process([DENSE, MOE], TRACED_CONTEXT, hash_seed="1")["sha256"]
    blobs = [ir.to_proto(traced(architecture)).SerializeToString() for architecture in (DENSE, MOE)]
    assert [hashlib.sha256(blob).hexdigest() for blob in blobs] == other


def test_94_layers_of_235b_dimensions_trace_in_seconds_and_little_memory():
    architecture = Architecture(
        vocab_size=151_936,
        hidden_size=4096,
        intermediate_size=12_288,
        num_hidden_layers=94,
        num_attention_heads=64,
        num_key_value_heads=4,
        head_dim=128,
        max_position_embeddings=40_960,
        rope_theta=1_000_000.0,
        tie_word_embeddings=False,
        num_experts=128,
        num_experts_per_tok=8,
        moe_intermediate_size=1536,
    )
    cost = trace_in_a_process([architecture], 40_960)
    assert cost["attentions"] == [94]
    # Processor time, imports included, so that a busy machine does not decide.
    assert cost["processor_seconds"] < 15
    assert cost["gigabytes"] < 1.5
