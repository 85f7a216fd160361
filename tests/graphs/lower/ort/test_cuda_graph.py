"""Target `ort` with half-precision activations: the graph for ONNX Runtime's CUDA provider, without a GPU.

Its arithmetic is compared in float64, its types with the schemas that ONNX Runtime ships, and what its CPU provider has
kernels for runs there.

Covers: fp16 and bf16; int8, int4, fp8 by block and row; dense, tied, MoE; ragged prompts, decode, a chunk. Types
    and attributes are held to the schemas of ONNX Runtime 1.31.1, whose CPU distribution lacks the kernels but not
    the types. In fp16 the same graphs run on its CPU kernels, within 0.4 % of the eager model: not fp8, not int8
    experts, and with the norm of queries and keys outside the attention
Reference: the eager model with the same stored values, in float64 operators written from ONNX Runtime's
    documentation
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import contrib_evaluator
import ml_dtypes
import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from lowered_engine import (
    CONTEXT,
    DENSE,
    LIMITS,
    SHALLOW,
    UNNORMALIZED,
    Engine,
    attach,
    checkpoint,
    reference,
    relative_error,
    semantic,
    stored,
)

from qwen3_compile.quantize import quantize
from qwen3_graphs.errors import LoweringError
from qwen3_graphs.formats import WeightFormat
from qwen3_graphs.lower import lower
from qwen3_graphs.lowered import Precision
from qwen3_graphs.model import Qwen3

if TYPE_CHECKING:
    from collections.abc import Callable

    from qwen3_graphs.architecture import Architecture

INT4, INT8, FP8 = WeightFormat("int4", 64), WeightFormat("int8", 32), WeightFormat("fp8", 128)
THIN = replace(DENSE, num_hidden_layers=1)
TIED = replace(THIN, tie_word_embeddings=True)
SPARSE = replace(SHALLOW, num_hidden_layers=2, intermediate_size=104, dense_layers=(1,))
HALF = {"fp16": np.float16, "bf16": ml_dtypes.bfloat16}

# The eager model computes in float32, the evaluator in float64; measured up to 1e-6.
FLOAT32 = 5e-6
# Eleven bits between matrices; measured up to 0.0011.
FLOAT16 = 0.004


def formats(kind: str, weights: WeightFormat | None = None, **others: WeightFormat) -> Precision:
    plain = WeightFormat(kind)
    fields = {"weights": weights or plain, "lm_head": plain, "embedding": plain, **others}
    return Precision(**fields, activations=kind, kv_cache=kind, quantized_activations=False)


CASES: list[tuple[str, Architecture, Precision]] = [
    (f"{kind}-{name}", architecture, formats(kind, **fields))
    for kind in ("fp16", "bf16")
    for name, architecture, fields in (
        ("dense", THIN, {}),
        ("int4", THIN, {"weights": INT4, "lm_head": INT8, "embedding": INT8}),
        ("tied", TIED, {"weights": INT8, "lm_head": INT4, "embedding": INT4}),
        ("fp8", THIN, {"weights": FP8}),
        ("fp8-channel", THIN, {"weights": WeightFormat("fp8"), "lm_head": WeightFormat("fp8")}),
        ("moe", SHALLOW, {}),
        ("moe-int4", SHALLOW, {"weights": INT4}),
        ("mixed", SPARSE, {}),
        ("mixed-int4", SPARSE, {"weights": INT4}),
        ("moe-int8", SHALLOW, {"weights": WeightFormat("int8", 128)}),
    )
]
every_case = pytest.mark.parametrize(
    ("architecture", "precision"), [case[1:] for case in CASES], ids=[case[0] for case in CASES]
)


def graph(architecture: Architecture, precision: Precision) -> onnx.ModelProto:
    return attach(lower(semantic(architecture), "ort", precision, LIMITS), architecture)


def rounded(array: np.ndarray, kind: str) -> np.ndarray:
    return array.astype(HALF[kind]).astype(np.float32)


def eager(architecture: Architecture, precision: Precision) -> Qwen3:
    """The eager model with the values that the graph stores, its position tables among them."""
    kind = precision.activations

    def value(name: str) -> torch.Tensor:
        array, fmt = checkpoint(architecture)[name], WeightFormat(kind)
        if name in ("model.embed_tokens.weight", "lm_head.weight"):
            fmt = precision.embedding if name.startswith("model.") else precision.lm_head
        elif name.endswith("_proj.weight"):
            fmt = precision.weights
        if fmt.kind in ("int4", "int8"):
            return torch.from_numpy(quantize(array, fmt, scale_type=kind).dequantize()[:, : array.shape[1]])
        return torch.from_numpy(stored(array, fmt))

    model, state = Qwen3(architecture, CONTEXT), {}
    for name in model.state_dict():
        experts = [name.replace(".experts.", f".experts.{i}.") for i in range(architecture.num_experts)]
        state[name] = torch.stack([value(expert) for expert in experts]) if ".experts." in name else value(name)
    model.load_state_dict(state)
    for table in (model.rope.cos, model.rope.sin):
        table.copy_(torch.from_numpy(rounded(table.numpy(), kind)))
    return model


TOKENS = [np.arange(3, 12), np.arange(40, 45)]


def conversation(step: Callable[..., list[np.ndarray]]) -> list[np.ndarray]:
    """A ragged prompt batch, single tokens of both, then a chunk of the first alone: outputs by sequence."""
    first = step([TOKENS[0][:5], TOKENS[1][:3]], [0, 0])
    second = step([TOKENS[0][5:6], TOKENS[1][3:4]], [5, 3])
    third = step([TOKENS[0][6:]], [6])
    return [np.concatenate([first[0], second[0], third[0]]), np.concatenate([first[1], second[1]])]


def expected(architecture: Architecture, precision: Precision) -> list[np.ndarray]:
    return reference(eager(architecture, precision), [TOKENS[0], TOKENS[1][:4]])


@every_case
def test_the_graph_computes_what_the_eager_model_does(architecture: Architecture, precision: Precision) -> None:
    model = graph(architecture, precision)
    shape = (2, architecture.num_key_value_heads, CONTEXT, architecture.head_dim)
    caches = {
        f"kv.{layer}.{part}": np.full(shape, 50.0)  # would show if it were ever read
        for layer in range(architecture.num_hidden_layers)
        for part in ("key", "value")
    }

    def step(tokens: list[np.ndarray], context: list[int]) -> list[np.ndarray]:
        length, batch = max(map(len, tokens)), len(tokens)
        rows = [i * length + j for i, new in enumerate(tokens) for j in range(len(new))]
        feeds: dict[str, Any] = {
            "input_ids": np.concatenate([np.pad(new, (0, length - len(new)), constant_values=7) for new in tokens]),
            "query_len": np.array([len(new) for new in tokens], np.int32),
            "context_len": np.array(context, np.int32),
            "logits_rows": np.array(rows),
        }
        found = contrib_evaluator.run(model, feeds | {name: cache[:batch] for name, cache in caches.items()})
        for name, cache in caches.items():
            cache[:batch] = found[name.replace("kv.", "kv_out.", 1)]
        assert found["logits"].dtype == np.float32
        return np.split(found["logits"], np.cumsum([len(new) for new in tokens])[:-1])

    assert relative_error(conversation(step), expected(architecture, precision)) < FLOAT32


def opening(model: onnx.ModelProto) -> str:
    """What ONNX Runtime's CPU provider says to a graph; types are checked before kernels are looked for."""
    options = ort.SessionOptions()
    options.log_severity_level = 4
    try:
        ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # noqa: BLE001 - its exceptions have no public base
        return f"{type(error).__name__}: {error}"
    return "opened"


@pytest.mark.parametrize(
    ("architecture", "precision"), [case[1:] for case in CASES if case[0].startswith("bf16")], ids=lambda _: ""
)
def test_schemas_of_onnx_runtime_accept_the_graph(architecture: Architecture, precision: Precision) -> None:
    assert opening(graph(architecture, precision)).startswith("NotImplemented: ")


@pytest.mark.parametrize("damage", ["type", "attribute"])
def test_schemas_of_onnx_runtime_do_find_damage(damage: str) -> None:
    model = graph(SHALLOW, formats("bf16", INT4))
    (node,) = (node for node in model.graph.node if node.op_type == "QMoE")
    if damage == "type":
        (logits,) = (other for other in model.graph.node if node.input[1] in other.output)
        model.graph.node.append(onnx.helper.make_node("Cast", [logits.output[0]], ["wide"], to=onnx.TensorProto.FLOAT))
        node.input[1] = "wide"
        model.graph.node.remove(node)
        model.graph.node.append(node)
    else:
        node.attribute.append(onnx.helper.make_attribute("group_size", 64))
    assert opening(model).startswith(("InvalidGraph: ", "Fail: "))


def norms_beside(model: onnx.ModelProto) -> onnx.ModelProto:
    """Take the norms of queries and keys out of the attention, which the CPU's refuses inside."""
    nodes = []
    for node in model.graph.node:
        if node.op_type == "GroupQueryAttention":
            heads = {attribute.name: attribute for attribute in node.attribute}
            epsilon = heads["qk_norm_epsilon"].f
            node.attribute.remove(heads["qk_norm_epsilon"])
            for index, key in ((0, "num_heads"), (1, "kv_num_heads")):
                x, weight = node.input[index], node.input[14 + index]
                shape = f"{x}.heads"
                split = np.array([0, 0, heads[key].i, -1])
                model.graph.initializer.append(onnx.numpy_helper.from_array(split, shape))
                joined = onnx.numpy_helper.from_array(np.array([0, 0, -1]), f"{shape}.joined")
                model.graph.initializer.append(joined)
                nodes += [
                    onnx.helper.make_node("Reshape", [x, shape], [f"{x}.split"]),
                    onnx.helper.make_node("RMSNormalization", [f"{x}.split", weight], [f"{x}.norm"], epsilon=epsilon),
                    onnx.helper.make_node("Reshape", [f"{x}.norm", joined.name], [f"{x}.normalized"]),
                ]
                node.input[index] = f"{x}.normalized"
            del node.input[9:]
        nodes.append(node)
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    return model


@pytest.mark.parametrize(
    ("architecture", "precision"),
    # The CPU has no fp8 matrices, and rounds the inputs of int8 experts.
    [case[1:] for case in CASES if case[0].startswith("fp16") and "fp8" not in case[0] and "moe-int8" not in case[0]],
    ids=lambda _: "",
)
def test_kernels_of_the_cpu_agree_in_fp16(architecture: Architecture, precision: Precision) -> None:
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    model = norms_beside(graph(architecture, precision))
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    opened = Engine(architecture, precision, session, model)
    whole = opened.caches(2)

    def step(tokens: list[np.ndarray], context: list[int]) -> list[np.ndarray]:
        caches = {name: np.ascontiguousarray(array[: len(tokens)]) for name, array in whole.items()}
        answers = opened.call(tokens, context, caches)
        for name, array in caches.items():
            whole[name][: len(tokens)] = array
        return answers

    assert relative_error(conversation(step), expected(architecture, precision)) < FLOAT16


def test_caches_have_the_type_of_the_activations_and_the_output_is_float32() -> None:
    written = graph(THIN, formats("bf16")).graph
    described = {
        value.name: onnx.TensorProto.DataType.Name(value.type.tensor_type.elem_type)
        for value in (*written.input, *written.output)
    }
    assert described == {
        "input_ids": "INT64",
        "query_len": "INT32",
        "context_len": "INT32",
        "logits_rows": "INT64",
        "kv.0.key": "BFLOAT16",
        "kv.0.value": "BFLOAT16",
        "logits": "FLOAT",
        "kv_out.0.key": "BFLOAT16",
        "kv_out.0.value": "BFLOAT16",
    }


@pytest.mark.parametrize(
    ("architecture", "precision", "message"),
    [
        (THIN, replace(formats("fp16"), kv_cache="bf16"), "kv_cache is that of activations, fp16, found bf16"),
        (THIN, formats("bf16", WeightFormat("fp16")), "weights is one of bf16, fp8, int8, int4, found fp16"),
        (THIN, formats("fp16", WeightFormat("uint4", 32)), "weights is one of .*, found uint4"),
        (THIN, formats("fp16", embedding=FP8), "embedding is one of fp16, int8, int4, found fp8"),
        (THIN, formats("fp16", WeightFormat("int4", 48)), "int4 per-group 128, found int4 per-group 48"),
        (
            THIN,
            replace(formats("fp16", INT4), quantized_activations=True),
            "quantization is weight-only",
        ),
        (SHALLOW, formats("fp16", FP8), "experts is one of fp16, bf16, int8, int4, found fp8"),
        (
            SHALLOW,
            formats("fp16", WeightFormat("int4", 32)),
            "is one of int4 per-group 64, .*, found int4 per-group 32",
        ),
        (UNNORMALIZED, formats("fp16"), "routing weights are normalized"),
    ],
)
def test_what_no_cuda_operator_computes_is_refused(
    architecture: Architecture, precision: Precision, message: str
) -> None:
    with pytest.raises(LoweringError, match=f"target ort on cuda: .*{message}"):
        lower(semantic(architecture), "ort", precision, LIMITS)
