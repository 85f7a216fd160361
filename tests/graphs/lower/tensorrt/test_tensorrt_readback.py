"""What TensorRT's own parser understood of the file: layers, masks, lengths and types, not only that it parsed.

Covers: attention layers, their mask, lengths and types; caches in place; rotations; types of norms, products, codes
    and scales
Reference: what TensorRT's parser lists of the network
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from lowered_engine import CONTEXT, DENSE, SHALLOW
from tensorrt_engine import imported, precision

from qwen3_graphs.formats import WeightFormat
from qwen3_plugins.tensorrt.bindings import logger, modules

if TYPE_CHECKING:
    from collections.abc import Iterator

    from qwen3_graphs.architecture import Architecture
    from qwen3_graphs.lowered import Precision

trt = modules.load_tensorrt("tensorrt-rtx")
TYPES = {"fp16": trt.DataType.HALF, "bf16": trt.DataType.BF16}
INT8, FP8, INT4 = WeightFormat("int8"), WeightFormat("fp8"), WeightFormat("int4", 32)
WHOLE = replace(DENSE, hidden_size=128, intermediate_size=128)
Layer = trt.LayerType


class Parsed:
    """A network, and everything that must live as long as it does."""

    def __init__(self, architecture: Architecture, formats: Precision, **calibrated: Any) -> None:
        self.logger, self.said = logger.shared(trt), list[str]()
        self.logger.listeners.append(lambda severity, text: self.said.append(f"{severity.name} {text}"))
        self.builder = trt.Builder(self.logger)
        self.network = self.builder.create_network(0)
        self.parser = trt.OnnxParser(self.network, self.logger)
        proto = imported(architecture, formats, calibrated=calibrated.get("calibrated"))
        assert self.parser.parse(proto.SerializeToString()), self.said

    def layers(self, kind: trt.LayerType, special: type | None = None) -> Iterator[Any]:
        """Layers of a kind, as the class that has their properties."""
        for index in range(self.network.num_layers):
            layer = self.network.get_layer(index)
            if layer.type == kind:
                if special is not None:
                    layer.__class__ = special
                yield layer

    def producer(self, name: str) -> Any:
        """The layer that makes a tensor."""
        for index in range(self.network.num_layers):
            layer = self.network.get_layer(index)
            if name in [layer.get_output(output).name for output in range(layer.num_outputs)]:
                return layer
        raise AssertionError(name)


def inputs(layer: Any) -> list[str | None]:
    found = [layer.get_input(index) for index in range(layer.num_inputs)]
    return [None if tensor is None else tensor.name for tensor in found]


@pytest.fixture(scope="module", params=["fp16", "bf16"])
def parsed(request: pytest.FixtureRequest) -> tuple[str, Parsed]:
    return request.param, Parsed(DENSE, precision(request.param))


def test_inputs_and_outputs_have_the_interface_s_types_and_a_fixed_cache(parsed: tuple[str, Parsed]) -> None:
    activations, network = parsed[0], parsed[1].network
    found = [network.get_input(index) for index in range(network.num_inputs)]
    assert {tensor.name: (tensor.dtype, tuple(tensor.shape)) for tensor in found} == {
        "input_ids": (trt.int64, (-1, -1)),
        "query_len": (trt.int32, (-1,)),
        "context_len": (trt.int32, (-1,)),
        "logits_rows": (trt.int64, (-1,)),
        **{
            f"kv.{layer}.{part}": (TYPES[activations], (-1, 2, CONTEXT, 32))
            for layer in (0, 1)
            for part in ("key", "value")
        },
    }
    made = [network.get_output(index) for index in range(network.num_outputs)]
    assert (made[0].name, made[0].dtype, tuple(made[0].shape)) == ("logits", trt.float32, (-1, 90))
    assert [tensor.name for tensor in made[1:]] == [
        f"kv_out.{layer}.{part}" for layer in (0, 1) for part in ("key", "value")
    ]


def test_attention_is_one_layer_lower_right_causal_over_the_lengths(parsed: tuple[str, Parsed]) -> None:
    activations, held = parsed
    attentions = [layer.attention for layer in held.layers(Layer.ATTENTION_INPUT, trt.IAttentionInputLayer)]
    assert len(attentions) == DENSE.num_hidden_layers
    for index, attention in enumerate(attentions):
        assert attention.causal_kind == trt.CausalMaskKind.LOWER_RIGHT
        assert attention.mask is None
        assert attention.query_lengths is None
        assert attention.query_form == attention.key_value_form == trt.AttentionIOForm.PADDED_BHND
        assert attention.norm_op == trt.AttentionNormalizationOp.SOFTMAX
        assert not attention.decomposable
        lengths = attention.key_value_lengths
        assert (lengths.dtype, tuple(lengths.shape)) == (trt.int32, (-1,))
        assert inputs(held.producer(lengths.name)) == ["step.key_lengths"]
        query, key, value = (attention.get_input(number) for number in range(3))
        assert (key.name, value.name) == (f"kv_out.{index}.key", f"kv_out.{index}.value")
        assert {tensor.dtype for tensor in (query, key, value)} == {TYPES[activations]}
        assert (tuple(query.shape), tuple(key.shape)) == ((-1, 4, -1, 32), (-1, 2, CONTEXT, 32))


def test_key_lengths_are_the_context_and_this_step_s_rows(parsed: tuple[str, Parsed]) -> None:
    held = parsed[1]
    assert inputs(held.producer("step.key_lengths")) == ["context_len", "step.length.int32"]


def test_caches_are_updated_in_place_from_the_context_on(parsed: tuple[str, Parsed]) -> None:
    held = parsed[1]
    updates = list(held.layers(Layer.KV_CACHE_UPDATE, trt.IKVCacheUpdateLayer))
    assert [layer.get_output(0).name for layer in updates] == [
        f"kv_out.{index}.{part}" for index in (0, 1) for part in ("key", "value")
    ]
    for layer in updates:
        assert layer.cache_mode == trt.KVCacheMode.LINEAR
        cache, _, rows = inputs(layer)[:3]
        assert cache == layer.get_output(0).name.replace("kv_out.", "kv.")
        assert inputs(held.producer(rows)) == ["context_len"]
        assert layer.get_output(0).is_network_output


def test_queries_and_keys_are_turned_in_float32_by_one_layer_each(parsed: tuple[str, Parsed]) -> None:
    turns = list(parsed[1].layers(Layer.ROTARY_EMBEDDING, trt.IRotaryEmbeddingLayer))
    assert len(turns) == 2 * DENSE.num_hidden_layers
    for layer in turns:
        assert not layer.interleaved
        assert {layer.get_input(index).dtype for index in range(3)} == {trt.float32}
        assert inputs(layer)[3] == "step.positions"


def test_norms_are_float32_and_matrices_are_multiplied_in_sixteen_bits(parsed: tuple[str, Parsed]) -> None:
    activations, held = parsed
    squares = [layer for layer in held.layers(Layer.REDUCE) if "norm" in layer.name]
    assert len(squares) == 4 * DENSE.num_hidden_layers + 1
    assert {layer.get_output(0).dtype for layer in squares} == {trt.float32}
    products = list(held.layers(Layer.MATRIX_MULTIPLY))
    assert len(products) == 7 * DENSE.num_hidden_layers + 1
    assert {layer.get_input(index).dtype for layer in products for index in (0, 1)} == {TYPES[activations]}


@pytest.mark.parametrize("activations", ["fp16", "bf16"])
@pytest.mark.parametrize(
    ("fmt", "stored"),
    [(INT8, trt.int8), (FP8, trt.fp8), (replace(FP8, per_tensor=True), trt.fp8), (INT4, trt.int4)],
    ids=["int8", "fp8", "fp8-tensor", "int4"],
)
@pytest.mark.parametrize("architecture", [WHOLE, SHALLOW], ids=["dense", "moe"])
def test_codes_reach_each_product_through_one_dequantization(
    architecture: Architecture, fmt: WeightFormat, stored: trt.DataType, activations: str
) -> None:
    held = Parsed(architecture, precision(activations, fmt))
    products = [layer for layer in held.layers(Layer.MATRIX_MULTIPLY) if "router" not in layer.name]
    assert len(products) == 7 * architecture.num_hidden_layers + 1
    for layer in products:
        matrix = held.producer(inputs(layer)[1])
        assert matrix.type == Layer.DEQUANTIZE
        assert matrix.get_output(0).dtype == TYPES[activations]
        codes, scales = (held.producer(name) for name in inputs(matrix)[:2])
        assert codes.type == scales.type == Layer.CONSTANT
        assert codes.get_output(0).dtype == stored
        assert scales.get_output(0).dtype == (TYPES[activations] if fmt.group_size else trt.float32)
    assert not list(held.layers(Layer.QUANTIZE))


@pytest.mark.parametrize("activations", ["fp16", "bf16"])
@pytest.mark.parametrize(("fmt", "stored"), [(INT8, trt.int8), (FP8, trt.fp8)], ids=["int8", "fp8"])
def test_inputs_are_rounded_by_one_scale_before_each_product(
    fmt: WeightFormat, stored: trt.DataType, activations: str
) -> None:
    formats = replace(precision(activations, fmt), quantized_activations=True)
    held = Parsed(DENSE, formats, calibrated=AnyScale())
    roundings = list(held.layers(Layer.QUANTIZE))
    assert len(roundings) == 7 * DENSE.num_hidden_layers + 1
    assert {layer.get_output(0).dtype for layer in roundings} == {stored}
    assert {layer.get_input(1).dtype for layer in roundings} == {trt.float32}
    for layer in held.layers(Layer.MATRIX_MULTIPLY):
        back = held.producer(inputs(layer)[0])
        assert (back.type, back.get_output(0).dtype) == (Layer.DEQUANTIZE, TYPES[activations])
        assert held.producer(inputs(back)[0]).type == Layer.QUANTIZE


class AnyScale(dict[str, np.ndarray]):
    """The scale 0.01 for every input of the tiny dense model."""

    def __init__(self) -> None:
        parts = [f"self_attn.{part}_proj" for part in "qkvo"] + [f"mlp.{part}_proj" for part in ("gate", "up", "down")]
        names = [f"model.layers.{layer}.{part}" for layer in (0, 1) for part in parts]
        super().__init__({f"{name}.input_scale": np.array(0.01, np.float32) for name in [*names, "lm_head"]})


def test_no_layer_is_a_plugin_or_depends_on_values() -> None:
    held = Parsed(SHALLOW, precision("bf16"))
    kinds = Counter(held.network.get_layer(index).type for index in range(held.network.num_layers))
    assert kinds.keys().isdisjoint({Layer.PLUGIN, Layer.PLUGIN_V2, Layer.PLUGIN_V3, Layer.NON_ZERO, Layer.TRIP_LIMIT})
    assert kinds[Layer.TOPK] == 1


@pytest.mark.parametrize(
    ("fmt", "capability"),
    [(None, "SM80"), (INT4, "SM80"), (INT8, "SM89"), (FP8, "SM120")],
    ids=["bf16-sm80", "int4-sm80", "int8-sm89", "fp8-sm120"],
)
def test_an_engine_is_built_of_it(fmt: WeightFormat | None, capability: str) -> None:
    held = Parsed(replace(WHOLE, num_hidden_layers=1), precision("bf16", fmt))
    config = held.builder.create_builder_config()
    config.num_compute_capabilities = 1
    config.set_compute_capability(getattr(trt.ComputeCapability, capability), 0)
    profile = held.builder.create_optimization_profile()
    for index in range(held.network.num_inputs):
        tensor = held.network.get_input(index)
        sizes = [[4 if axis == 0 else 16, size][size >= 0] for axis, size in enumerate(tensor.shape)]
        least = [1 if size < 0 else size for size in tensor.shape]
        profile.set_shape(tensor.name, least, sizes, sizes)
    config.add_optimization_profile(profile)
    assert held.builder.build_serialized_network(held.network, config) is not None, held.said
