"""A tiny engine directory of target `tensorrt-rtx`: the graph that TensorRT imports, a manifest, a plan in name only."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import onnx_ir as ir
import torch
from built_engine import EXPERTS, SIZES, save_checkpoint

from qwen3_compile.pack.layouts import pack
from qwen3_graphs.architecture import Architecture
from qwen3_graphs.lower import lower
from qwen3_graphs.lowered import Limits, Precision, WeightFormat
from qwen3_graphs.rope import rope_tables
from qwen3_graphs.trace import trace

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from transformers import PreTrainedModel

CONTEXT, BATCH, TOKENS = SIZES["max_position_embeddings"], 4, 24
CAPABILITY = "8.9"


def write_engine(
    folder: Path, *, moe: bool = False, task: str = "completion", target: Mapping[str, object] | None = None
) -> tuple[Path, PreTrainedModel]:
    """Write an engine in float16; returns it with the checkpoint's model, which has the same float16 values."""
    model = save_checkpoint(folder / "checkpoint", SIZES, moe=moe, task=task)
    model.half().float()
    output = "hidden" if task == "embedding" else "logits"
    path = folder / "engine"
    path.mkdir()
    graph = _graph(model, moe=moe, output=output)
    onnx.save(graph, path / "model.onnx")
    (path / "weights.bin").write_bytes(b"")
    (path / "model.plan").write_bytes(b"plan")
    write_manifest(path, {"task": task, "output": output}, target or {})
    return path, model


def write_manifest(path: Path, io: Mapping[str, object], target: Mapping[str, object]) -> None:
    files = {file.name: file.read_bytes() for file in sorted(path.iterdir()) if file.name != "manifest.json"}
    document = {
        "schema_version": 2,
        "name": "tiny",
        "verified": False,
        "target": {
            "backend": "tensorrt-rtx",
            "provider": "cuda",
            "compute_capabilities": [CAPABILITY],
            "attention": "native",
            "moe": None,
            "profiles": {"prefill_batch": 1, "prefill_tokens": TOKENS, "decode_batch": BATCH},
            **target,
        },
        "io": {
            "vocab_size": SIZES["vocab_size"],
            "live_vocab_size": SIZES["vocab_size"],
            "hidden_size": SIZES["hidden_size"],
            "layers": SIZES["num_hidden_layers"],
            "kv_heads": SIZES["num_key_value_heads"],
            "head_dim": SIZES["head_dim"],
            "cache_dtype": "float16",
            "max_context": CONTEXT,
            "max_batch": BATCH,
            "max_step_tokens": TOKENS,
            **io,
        },
        "chat": None,
        "eos_token_ids": [],
        "pad_token_id": None,
        "files": {name: {"size": len(data), "sha256": hashlib.sha256(data).hexdigest()} for name, data in files.items()},
        "spec": {},
        "source": {},
        "tools": {"tensorrt-rtx": "1.7.1.116"},
    }
    (path / "manifest.json").write_text(json.dumps(document))


def profile_shapes(graph_inputs: Mapping[str, tuple[int | str, ...]], *, decode: bool) -> dict[str, Any]:
    """Smallest, best and largest shape of every input that has a dimension open, as the builder chooses them."""
    most = {"B": BATCH, "S": 1 if decode else TOKENS, "R": BATCH}
    shapes = {}
    for name, dims in graph_inputs.items():
        if any(isinstance(dim, str) for dim in dims):
            shapes[name] = tuple(
                tuple(pick(most[dim]) if isinstance(dim, str) else dim for dim in dims)
                for pick in (lambda _: 1, lambda size: (size + 1) // 2, lambda size: size)
            )
    return shapes


def graph_inputs(path: Path) -> dict[str, tuple[int | str, ...]]:
    """Inputs of a file: sizes, and names of those that a step chooses."""
    graph = onnx.load(path, load_external_data=False).graph
    return {
        value.name: tuple(dim.dim_param or dim.dim_value for dim in value.type.tensor_type.shape.dim)
        for value in graph.input
    }


def _graph(model: PreTrainedModel, *, moe: bool, output: str) -> onnx.ModelProto:
    architecture = Architecture(**{**SIZES, "rope_theta": 1e4, **(EXPERTS if moe else {})})
    half = WeightFormat("fp16")
    limits = Limits(max_context=CONTEXT, max_batch=BATCH, max_step_tokens=TOKENS)
    lowered = lower(
        trace(architecture, output=output, max_context=CONTEXT),
        "tensorrt-rtx",
        Precision(half, half, half, "fp16", "fp16"),
        limits,
    )
    tensors = _tensors(model)
    rope = dict(zip(("cos", "sin"), rope_tables(architecture, CONTEXT), strict=True))
    for recipe in lowered.recipes:
        if recipe.layout.startswith("rope_"):
            entries = [(rope[recipe.layout.removeprefix("rope_")],)]
        else:
            entries = [pack(recipe.layout, tuple(tensors[name] for name in entry), recipe.format) for entry in recipe.sources]
        for index, slot in enumerate(recipe.outputs):
            data = b"".join(arrays[index].tobytes() for arrays in entries)
            tensor = onnx.TensorProto(name=slot.name, data_type=ir.DataType[slot.dtype], dims=slot.shape, raw_data=data)
            lowered.model.graph.initializers[slot.name].const_value = ir.from_proto(tensor)
    return ir.to_proto(lowered.model)


def _tensors(model: PreTrainedModel) -> dict[str, np.ndarray]:
    """Weights by the names of a checkpoint, experts apart."""
    tensors: dict[str, np.ndarray] = {}
    for name, value in model.state_dict().items():
        array = value.to(torch.float32).numpy()
        name = name if name.startswith(("model.", "lm_head.")) else f"model.{name}"
        if name.endswith("experts.gate_up_proj"):
            for expert, matrix in enumerate(array):
                gate, up = np.split(matrix, 2)
                prefix = name.replace("experts.gate_up_proj", f"experts.{expert}")
                tensors[f"{prefix}.gate_proj.weight"], tensors[f"{prefix}.up_proj.weight"] = gate, up
        elif name.endswith("experts.down_proj"):
            for expert, matrix in enumerate(array):
                tensors[name.replace("experts.down_proj", f"experts.{expert}.down_proj.weight")] = matrix
        else:
            tensors[name] = array
    return tensors
