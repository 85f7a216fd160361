"""config.json in every dialect gives the architecture that transformers gives it; what is unsupported is named.

Reference: `transformers`, reading the same file
"""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from qwen3_compile.checkpoint.config import read_architecture
from qwen3_compile.errors import CheckpointError
from qwen3_graphs.architecture import Architecture, YarnScaling

DENSE = {
    "architectures": ["Qwen3ForCausalLM"],
    "attention_bias": False,
    "attention_dropout": 0.0,
    "bos_token_id": 151643,
    "eos_token_id": 151645,
    "head_dim": 128,
    "hidden_act": "silu",
    "hidden_size": 1024,
    "initializer_range": 0.02,
    "intermediate_size": 3072,
    "max_position_embeddings": 40960,
    "max_window_layers": 28,
    "model_type": "qwen3",
    "num_attention_heads": 16,
    "num_hidden_layers": 28,
    "num_key_value_heads": 8,
    "rms_norm_eps": 1e-06,
    "rope_scaling": None,
    "rope_theta": 1000000,
    "sliding_window": None,
    "tie_word_embeddings": True,
    "torch_dtype": "bfloat16",
    "transformers_version": "4.51.0",
    "use_cache": True,
    "use_sliding_window": False,
    "vocab_size": 151936,
}
MOE = DENSE | {
    "architectures": ["Qwen3MoeForCausalLM"],
    "decoder_sparse_step": 1,
    "hidden_size": 2048,
    "intermediate_size": 6144,
    "mlp_only_layers": [],
    "model_type": "qwen3_moe",
    "moe_intermediate_size": 768,
    "norm_topk_prob": True,
    "num_attention_heads": 32,
    "num_experts": 128,
    "num_experts_per_tok": 8,
    "num_hidden_layers": 48,
    "num_key_value_heads": 4,
    "tie_word_embeddings": False,
}
FP8 = {  # of the released FP8 checkpoints
    "activation_scheme": "dynamic",
    "fmt": "e4m3",
    "modules_to_not_convert": ["lm_head", "model.layers.0.input_layernorm", "model.layers.0.mlp.gate"],
    "quant_method": "fp8",
    "weight_block_size": [128, 128],
}


def compressed(**changes):
    """What llm-compressor writes for its scheme FP8_DYNAMIC, with changes to the scheme of the weights."""
    weights = {"num_bits": 8, "type": "float", "strategy": "channel", "symmetric": True, "dynamic": False}
    inputs = {"num_bits": 8, "type": "float", "strategy": "token", "symmetric": True, "dynamic": True}
    group = {"targets": ["Linear"], "weights": weights | changes, "input_activations": inputs}
    scheme = {"config_groups": {"group_0": group}, "format": "float-quantized", "ignore": ["lm_head"]}
    return scheme | {"quant_method": "compressed-tensors"}


CODER = MOE | {
    "qkv_bias": False,
    "use_qk_norm": True,
    "shared_expert_intermediate_size": 0,
    "intermediate_size": 5472,
    "max_position_embeddings": 262144,
    "rope_theta": 10000000,
}
YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32768}


def without(config: dict, *keys: str) -> dict:
    return {key: value for key, value in config.items() if key not in keys}


def renamed(config: dict, **names: str) -> dict:
    return {names.get(key, key): value for key, value in config.items()}


@pytest.fixture
def read(tmp_path):
    def read_config(config: dict) -> Architecture:
        path = tmp_path / "config.json"
        path.write_text(json.dumps(config))
        return read_architecture(path)

    return read_config


def by_transformers(config: dict) -> Architecture:
    """The architecture as transformers' own configuration classes understand `config`."""
    from transformers import Qwen3Config, Qwen3MoeConfig

    understood = (Qwen3MoeConfig if config["model_type"] == "qwen3_moe" else Qwen3Config).from_dict(dict(config))
    rope = understood.rope_parameters
    yarn = None
    if rope["rope_type"] == "yarn":
        yarn = YarnScaling(rope["factor"], rope["original_max_position_embeddings"], rope.get("attention_factor"))
    experts = {}
    if config["model_type"] == "qwen3_moe":
        keys = ("num_experts", "num_experts_per_tok", "moe_intermediate_size", "norm_topk_prob")
        experts = {key: getattr(understood, key) for key in keys}
    heads = understood.num_attention_heads
    return Architecture(
        vocab_size=understood.vocab_size,
        hidden_size=understood.hidden_size,
        intermediate_size=understood.intermediate_size,
        num_hidden_layers=understood.num_hidden_layers,
        num_attention_heads=heads,
        num_key_value_heads=understood.num_key_value_heads,
        head_dim=getattr(understood, "head_dim", None) or understood.hidden_size // heads,
        max_position_embeddings=understood.max_position_embeddings,
        rope_theta=rope["rope_theta"],
        tie_word_embeddings=understood.tie_word_embeddings,
        rms_norm_eps=understood.rms_norm_eps,
        yarn=yarn,
        **experts,
    )


@pytest.mark.parametrize(
    "config",
    [
        DENSE,
        MOE,
        CODER,
        without(CODER, "bos_token_id"),
        without(DENSE, "rope_theta", "rope_scaling") | {"rope_parameters": {"rope_theta": 5e6, "rope_type": "default"}},
        renamed(DENSE, torch_dtype="dtype"),
        renamed(MOE, num_experts="num_local_experts"),
        without(DENSE, "head_dim"),
        without(MOE, "head_dim"),
        without(DENSE, "tie_word_embeddings"),
        without(MOE, "norm_topk_prob", "decoder_sparse_step", "mlp_only_layers"),
        without(DENSE, "rms_norm_eps", "hidden_act", "attention_bias", "use_sliding_window", "rope_scaling"),
        DENSE | {"num_key_value_heads": None},
        DENSE | {"layer_types": ["full_attention"] * 28},
        DENSE | {"sliding_window": 4096},
        DENSE | {"rope_scaling": YARN},
        DENSE | {"rope_scaling": YARN | {"attention_factor": 1.25}},
        without(DENSE, "rope_theta") | {"rope_parameters": YARN | {"rope_theta": 1e6}},
    ],
)
def test_every_dialect_means_what_transformers_takes_it_to_mean(read, config):
    assert read(config) == by_transformers(config)


def test_the_older_key_of_the_rope_type_is_understood(read):
    assert read(DENSE | {"rope_scaling": renamed(YARN, rope_type="type")}).yarn == YarnScaling(4.0, 32768)


def test_the_released_dimensions_of_the_smallest_model(read):
    assert read(DENSE) == Architecture(151936, 1024, 3072, 28, 16, 8, 128, 40960, 1e6, True)
    assert read(CODER) == replace(
        Architecture(151936, 2048, 5472, 48, 32, 4, 128, 262144, 1e7, False),
        num_experts=128,
        num_experts_per_tok=8,
        moe_intermediate_size=768,
    )


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"model_type": "llama"}, "model_type"),
        ({"model_type": "qwen2"}, "model_type"),
        ({"model_type": ["qwen3"]}, "model_type"),
        ({"attention_bias": True}, "attention_bias"),
        ({"qkv_bias": True}, "qkv_bias"),
        ({"use_qk_norm": False}, "use_qk_norm"),
        ({"shared_expert_intermediate_size": 512}, "shared_expert_intermediate_size"),
        ({"use_sliding_window": True}, "use_sliding_window"),
        ({"layer_types": ["sliding_attention"] * 28}, "layer_types"),
        ({"mlp_only_layers": [0, -1]}, "mlp_only_layers"),
        ({"mlp_only_layers": 3}, "expected a list of layers"),
        ({"decoder_sparse_step": 0}, "decoder_sparse_step"),
        ({"hidden_act": "gelu"}, "hidden_act"),
        ({"dual_chunk_attention_config": {"chunk_size": 1}}, "dual_chunk_attention_config"),
        ({"rope_scaling": {"rope_type": "linear"}}, "factor"),
        ({"rope_scaling": {"rope_type": "dynamic", "factor": 2.0}}, "its frequencies change with a sequence's length"),
        ({"rope_scaling": {"rope_type": "llama3", "factor": 2.0}}, "'llama3'"),
        ({"rope_scaling": {"rope_type": ["yarn"]}}, "rope type"),
        ({"rope_scaling": YARN | {"truncate": 0}}, "truncate"),
        ({"rope_scaling": YARN | {"factor": "four"}}, "factor"),
        ({"rope_parameters": {"rope_theta": 1e6, "partial_rotary_factor": 0.5}}, "partial_rotary_factor"),
        ({"rope_parameters": {"full_attention": {"rope_theta": 1e6}}}, "full_attention"),
        ({"rope_parameters": YARN | {"factor": 2.0}, "rope_scaling": YARN}, "rope_parameters and rope_scaling differ"),
        ({"rope_scaling": "yarn"}, "rope_scaling"),
        ({"quantization_config": FP8 | {"weight_block_size": [64, 128]}}, "weight_block_size"),
        ({"quantization_config": FP8 | {"activation_scheme": "token"}}, "activation_scheme"),
        ({"quantization_config": FP8 | {"fmt": "e5m2"}}, "fmt"),
        ({"quantization_config": compressed(num_bits=4)}, "num_bits"),
        ({"quantization_config": compressed(type="int")}, "type"),
        ({"quantization_config": compressed(strategy="group")}, "strategy"),
        ({"quantization_config": compressed(strategy="block", block_structure=[64, 64])}, "block_structure"),
        ({"quantization_config": compressed() | {"config_groups": {}}}, "config_groups"),
        ({"quantization_config": {"quant_method": "compressed-tensors", "config_groups": {"g": 3}}}, "g: weights"),
        ({"quantization_config": {"quant_method": "awq"}}, "'awq'"),
        ({"quantization_config": {"quant_method": "gptq"}}, "'gptq'"),
        ({"hidden_size": None}, "hidden_size"),
        ({"hidden_size": 0}, "hidden_size"),
        ({"hidden_size": True}, "hidden_size"),
        ({"hidden_size": "1024"}, "hidden_size"),
        ({"hidden_size": 10**12}, "hidden_size"),
        ({"num_key_value_heads": 5}, "num_key_value_heads"),
        ({"head_dim": 127}, "head_dim"),
        ({"rope_theta": 0}, "rope_theta"),
        ({"rope_theta": 10**400}, "rope_theta"),
        ({"tie_word_embeddings": "yes"}, "tie_word_embeddings"),
        ({"num_local_experts": 64}, "num_local_experts"),
        ({"num_experts_per_tok": 129}, "num_experts_per_tok"),
    ],
)
def test_what_is_not_supported_is_refused_by_name(read, tmp_path, change, named):
    with pytest.raises(CheckpointError) as caught:
        read(MOE | change)
    message = str(caught.value)
    assert named in message
    assert str(tmp_path / "config.json") in message
    assert "\n" not in message


@pytest.mark.parametrize(
    "scheme",
    [FP8, FP8 | {"weight_block_size": None}, compressed(), compressed(strategy="tensor"), compressed(strategy="block")],
)
def test_weights_in_e4m3_are_the_same_architecture(read, scheme):
    assert read(MOE | {"quantization_config": scheme}) == read(MOE)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    changes=st.dictionaries(
        st.sampled_from([*MOE, "rope_parameters", "layer_types", "quantization_config", "num_local_experts"]),
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
            lambda children: st.lists(children, max_size=2) | st.dictionaries(st.sampled_from([*YARN]), children),
            max_leaves=4,
        ),
        min_size=1,
    )
)
def test_an_arbitrary_value_never_raises_anything_else(tmp_path, changes):
    path = tmp_path / "config.json"
    path.write_text(json.dumps(MOE | changes).replace("Infinity", "1e999"))
    try:
        read_architecture(path)
    except CheckpointError as error:
        message = str(error)
        assert "\n" not in message


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[]", b"\xff\xfe", b'{"a": NaN}', b'{"a": 1, "a": 2}', b"[" * 100_000, b'{"model_type": "qwen3"}'],
)
def test_a_damaged_config_is_one_line(tmp_path, content):
    path = tmp_path / "config.json"
    path.write_bytes(content)
    with pytest.raises(CheckpointError) as caught:
        read_architecture(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)
