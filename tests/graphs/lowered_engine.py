"""A tiny engine in memory: lowered graph, packed weights, caches, and the padded calls of the interface."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache
from typing import TYPE_CHECKING

import ml_dtypes
import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime as ort
import torch

from qwen3_compile.pack.layouts import pack
from qwen3_compile.quantize import Quantized, quantize
from qwen3_graphs.architecture import Architecture
from qwen3_graphs.formats import WeightFormat
from qwen3_graphs.lower import lower
from qwen3_graphs.lowered import Limits, Lowered, Precision
from qwen3_graphs.model import Batch, Qwen3
from qwen3_graphs.rope import rope_tables
from qwen3_graphs.trace import trace

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

CONTEXT = 48
LIMITS = Limits(max_context=CONTEXT, max_batch=4, max_step_tokens=64)

DENSE = Architecture(
    vocab_size=90,
    hidden_size=64,
    intermediate_size=104,  # not a multiple of 32
    num_hidden_layers=2,
    num_attention_heads=4,
    num_key_value_heads=2,
    head_dim=32,
    max_position_embeddings=CONTEXT,
    rope_theta=1e4,
    tie_word_embeddings=False,
)
MOE = Architecture(
    vocab_size=90,
    hidden_size=128,
    intermediate_size=0,
    num_hidden_layers=2,
    num_attention_heads=4,
    num_key_value_heads=1,
    head_dim=32,
    max_position_embeddings=CONTEXT,
    rope_theta=1e6,
    tie_word_embeddings=False,
    num_experts=6,
    num_experts_per_tok=2,
    moe_intermediate_size=128,
)

# A layer with experts between dense ones.
MIXED = replace(MOE, num_hidden_layers=3, intermediate_size=104, dense_layers=(0, 2))
# One layer: behind another one, the noise of int8 activations may turn a router's close call.
SHALLOW = replace(MOE, num_hidden_layers=1)
UNNORMALIZED = replace(SHALLOW, norm_topk_prob=False)
# Inputs that are not whole groups, an odd number of rows in the head, three times the experts.
ODD = replace(MOE, hidden_size=72, moe_intermediate_size=40, vocab_size=91, num_experts=18)

FLOAT = WeightFormat("fp32")


def precision(
    weights: WeightFormat = FLOAT,
    *,
    lm_head: WeightFormat | None = None,
    embedding: WeightFormat | None = None,
    kv_cache: str = "fp32",
) -> Precision:
    """Everything in one format unless said otherwise."""
    return Precision(weights, lm_head or weights, embedding or weights, "fp32", kv_cache)


@cache
def semantic(architecture: Architecture, output: str = "logits") -> ir.Model:
    return trace(architecture, output=output, max_context=CONTEXT)


@cache
def checkpoint(architecture: Architecture) -> dict[str, np.ndarray]:
    """Random float32 weights by the checkpoint's names, experts apart."""
    rng = np.random.default_rng(7)
    tensors = {}
    for name, value in Qwen3(architecture, CONTEXT).state_dict().items():
        shape = tuple(value.shape)
        if name.endswith("norm.weight"):
            array = 1 + 0.2 * rng.standard_normal(shape)
        else:
            array = rng.standard_normal(shape) / np.sqrt(shape[-1]) * (3 if name.endswith("mlp.gate.weight") else 1)
        array = array.astype(np.float32)
        if ".experts." in name:
            for expert, matrix in enumerate(array):
                tensors[name.replace(".experts.", f".experts.{expert}.")] = matrix
        else:
            tensors[name] = array
    return tensors


def stored(array: np.ndarray, fmt: WeightFormat, activations: str = "fp32", *, half_scales: bool = False) -> np.ndarray:
    """What a matrix is worth once stored in a format, float32.

    Scales of groups may be stored as float16. For activations of 16 bits they are as TensorRT wants them: above zero,
    those of groups in the type of the activations.
    """
    if not fmt.is_float:
        scale_type = activations if fmt.group_size else "fp32"
        if half_scales and fmt.zero_point:
            scale_type = "fp16"
        quantized = quantize(array, fmt, positive=activations != "fp32", scale_type=scale_type)
        if half_scales and fmt.granularity == "per-group":
            assert isinstance(quantized, Quantized)
            quantized = replace(quantized, scales=quantized.scales.astype(np.float16).astype(np.float32))
        return quantized.dequantize()[:, : array.shape[1]]
    dtype = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}[fmt.kind]
    return torch.from_numpy(array).to(dtype).float().numpy()


def eager(
    architecture: Architecture, formats: Precision, output: str = "logits", *, half_scales: bool = False
) -> Qwen3:
    """The eager model with the values that the formats store."""

    def value(name: str) -> np.ndarray:
        array = checkpoint(architecture)[name]
        if name == "model.embed_tokens.weight":
            return stored(array, formats.embedding, formats.activations, half_scales=half_scales)
        if name == "lm_head.weight":
            return stored(array, formats.lm_head, formats.activations, half_scales=half_scales)
        if not name.endswith("_proj.weight"):
            return array
        return stored(array, formats.weights, formats.activations, half_scales=half_scales)

    model = Qwen3(architecture, CONTEXT, output)
    state = {}
    for name in model.state_dict():
        if ".experts." in name:
            matrices = [value(name.replace(".experts.", f".experts.{i}.")) for i in range(architecture.num_experts)]
            state[name] = torch.from_numpy(np.stack(matrices))
        else:
            state[name] = torch.from_numpy(value(name))
    model.load_state_dict(state)
    if architecture.tie_word_embeddings and formats.lm_head != formats.embedding and output == "logits":
        model.tied = False
        model.lm_head = torch.nn.Module()
        array = checkpoint(architecture)["model.embed_tokens.weight"]
        head = stored(array, formats.lm_head, formats.activations, half_scales=half_scales)
        model.lm_head.weight = torch.nn.Parameter(torch.from_numpy(head))
    return model


def attach(
    lowered: Lowered, architecture: Architecture, calibrated: Mapping[str, np.ndarray] | None = None
) -> onnx.ModelProto:
    """The lowered graph with its weights packed and inside; `calibrated` tensors stand beside the checkpoint's."""
    tensors = {**checkpoint(architecture), **(calibrated or {})}
    rope = dict(zip(("cos", "sin"), rope_tables(architecture, CONTEXT), strict=True))
    initializers = lowered.model.graph.initializers
    for recipe in lowered.recipes:
        if recipe.layout.startswith("rope_"):
            entries = [(rope[recipe.layout.removeprefix("rope_")],)]
        else:
            entries = [
                pack(recipe.layout, tuple(tensors[name] for name in entry), recipe.format) for entry in recipe.sources
            ]
        for index, slot in enumerate(recipe.outputs):
            data = b"".join(arrays[index].tobytes() for arrays in entries)
            proto = onnx.TensorProto(name=slot.name, data_type=ir.DataType[slot.dtype], dims=slot.shape, raw_data=data)
            initializers[slot.name].const_value = ir.from_proto(proto)
    return ir.to_proto(lowered.model)


@dataclass
class Engine:
    """A session and one cache a sequence slot."""

    architecture: Architecture
    formats: Precision
    session: ort.InferenceSession
    proto: onnx.ModelProto

    def caches(self, batch: int) -> dict[str, np.ndarray]:
        """Caches full of a value that would show if it were ever read."""
        dtype = {"fp32": np.float32, "fp16": np.float16, "bf16": np.dtype(ml_dtypes.bfloat16)}[self.formats.kv_cache]
        shape = (batch, self.architecture.num_key_value_heads, CONTEXT, self.architecture.head_dim)
        return {
            f"kv.{layer}.{part}": np.full(shape, 50, dtype)
            for layer in range(self.architecture.num_hidden_layers)
            for part in ("key", "value")
        }

    def call(
        self,
        tokens: Sequence[np.ndarray],
        context: Sequence[int],
        caches: dict[str, np.ndarray],
        *,
        in_place: bool = True,
        pad_to: int = 0,
    ) -> list[np.ndarray]:
        """Run one padded call: outputs of every real token, by sequence; the caches hold its keys and values."""
        length = max(pad_to, *(len(new) for new in tokens))
        ids = np.full((len(tokens), length), 3, np.int64)
        rows = []
        for index, new in enumerate(tokens):
            ids[index, : len(new)] = new
            rows.extend(range(index * length, index * length + len(new)))
        binding = self.session.io_binding()
        binding.bind_cpu_input("input_ids", ids if len(self.session.get_inputs()[0].shape) == 2 else ids.reshape(-1))
        binding.bind_cpu_input("query_len", np.array([len(new) for new in tokens], np.int32))
        binding.bind_cpu_input("context_len", np.array(context, np.int32))
        binding.bind_cpu_input("logits_rows", np.array(rows, np.int64))
        binding.bind_output(self.session.get_outputs()[0].name)
        held = {}
        for name, array in caches.items():
            value = held[name] = _shared(array)
            binding.bind_ortvalue_input(name, value)
            if in_place:
                binding.bind_ortvalue_output(name.replace("kv.", "kv_out."), value)
            else:
                binding.bind_output(name.replace("kv.", "kv_out."))
        self.session.run_with_iobinding(binding)
        names = [output.name for output in self.session.get_outputs()]
        outputs = dict(zip(names, binding.get_outputs(), strict=True))
        for name, array in caches.items():
            if not in_place:
                array[...] = outputs[name.replace("kv.", "kv_out.")].numpy()
        result = outputs[names[0]].numpy()
        return np.split(result, np.cumsum([len(new) for new in tokens])[:-1])


def _shared(array: np.ndarray) -> ort.OrtValue:
    """A value over the memory of an array; NumPy has no bfloat16 of its own."""
    if array.dtype == ml_dtypes.bfloat16:
        return ort.OrtValue.ortvalue_from_numpy_with_onnx_type(array.view(np.uint16), onnx.TensorProto.BFLOAT16)
    return ort.OrtValue.ortvalue_from_numpy(array)


def engine(
    architecture: Architecture,
    target: str,
    formats: Precision,
    *,
    output: str = "logits",
    exact: bool = False,
    edit: Callable[[onnx.ModelProto], None] | None = None,
) -> Engine:
    """Lower, pack and open; `exact` computes integer matrices with float32 activations where the operator can."""
    proto = attach(lower(semantic(architecture, output), target, formats, LIMITS), architecture)
    if edit is not None:
        edit(proto)
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    if exact:
        options.add_session_config_entry("session.qdq_matmulnbits_accuracy_level", "1")
        for node in proto.graph.node:
            for attribute in node.attribute:
                if attribute.name == "accuracy_level":
                    attribute.i = 1
    session = ort.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return Engine(architecture, formats, session, proto)


def reference(
    model: Qwen3, sequences: Sequence[np.ndarray], cache_dtype: torch.dtype = torch.float32
) -> list[np.ndarray]:
    """Outputs of every token of each sequence, computed whole by the eager model."""
    architecture, results = model.rope.cos, []
    heads, head_dim = model.model.layers[0].self_attn.architecture.num_key_value_heads, architecture.shape[1] * 2
    for tokens in sequences:
        kv = [torch.zeros(1, 2, heads, CONTEXT, head_dim, dtype=cache_dtype) for _ in model.model.layers]
        batch = Batch(
            torch.tensor([0, len(tokens)], dtype=torch.int32),
            torch.zeros(1, dtype=torch.int32),
            torch.zeros(1, 1, dtype=torch.int32),
        )
        with torch.no_grad():
            out, _ = model(torch.from_numpy(tokens), batch, torch.arange(len(tokens), dtype=torch.int32), kv)
        results.append(out.numpy())
    return results


def relative_error(found: Sequence[np.ndarray], expected: Sequence[np.ndarray]) -> float:
    """Largest difference over the largest expected value."""
    scale = max(np.abs(array).max() for array in expected)
    return float(max(np.abs(a - b).max() for a, b in zip(found, expected, strict=True)) / scale)
