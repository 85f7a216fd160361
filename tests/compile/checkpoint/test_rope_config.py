"""Frequencies and magnitude of every dialect of config.json are those of transformers, which reads the same file.

Covers: unscaled, linear, YaRN with random options
Reference: `transformers`' rotary module on the same file, to float32's last places
"""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qwen3_compile.checkpoint.config import read_architecture
from qwen3_graphs.rope import rope_frequencies

PLAIN = {
    "model_type": "qwen3",
    "architectures": ["Qwen3ForCausalLM"],
    "vocab_size": 96,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 128,
    "max_position_embeddings": 4096,
}
YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 1024}


def by_transformers(folder):
    from transformers import Qwen3Config, Qwen3MoeConfig
    from transformers.models.qwen3.modeling_qwen3 import Qwen3RotaryEmbedding

    kind = json.loads((folder / "config.json").read_text())["model_type"]
    config = (Qwen3Config if kind == "qwen3" else Qwen3MoeConfig).from_pretrained(folder)
    rotary = Qwen3RotaryEmbedding(config)
    return rotary.inv_freq.numpy(), rotary.attention_scaling


def assert_agree(config, folder):
    (folder / "config.json").write_text(json.dumps(config))
    expected, scaling = by_transformers(folder)
    frequency, magnitude = rope_frequencies(read_architecture(folder / "config.json"))
    # Theirs are float32 powers and products: good to a few units in the last place.
    np.testing.assert_allclose(frequency, expected, rtol=3e-6, atol=1e-12)
    assert magnitude == pytest.approx(scaling, rel=1e-7)


@pytest.mark.parametrize(
    "rope",
    [
        {},
        {"rope_theta": 1e6},
        {"rope_theta": 5e6, "rope_scaling": None},
        {"rope_parameters": {"rope_type": "default"}},
        {"rope_parameters": {"rope_type": "default", "rope_theta": 1e6}},
        {"rope_scaling": {"rope_type": "default", "rope_theta": 1e6}},
        {"rope_theta": 1e4, "rope_scaling": {"rope_type": "yarn", "factor": 4.0, "rope_theta": 1e6}},
        {"rope_theta": 1e6, "rope_scaling": {"type": "linear", "factor": 2.5}},
        {"rope_parameters": {"rope_type": "linear", "factor": 8, "rope_theta": 1e6}},
        {"rope_theta": 1e6, "rope_scaling": YARN},
        {"rope_scaling": YARN},
        {"rope_theta": 1e6, "rope_scaling": YARN | {"attention_factor": 1.25, "mscale": 1.0, "mscale_all_dim": 0.5}},
        {"rope_theta": 1e6, "rope_scaling": YARN | {"mscale": 1.0, "mscale_all_dim": 0.5}},
        {"rope_theta": 1e6, "rope_scaling": YARN | {"mscale": 0.707}},
        {"rope_theta": 1e6, "rope_scaling": YARN | {"attention_factor": None, "beta_fast": None, "beta_slow": None}},
        {"rope_theta": 1e6, "rope_scaling": YARN | {"truncate": False}},
        {"rope_theta": 1e6, "rope_scaling": YARN | {"truncate": False, "beta_fast": 24.0, "beta_slow": 1.5}},
        {"rope_theta": 1e6, "rope_scaling": YARN, "original_max_position_embeddings": 2048},
        {"rope_parameters": YARN | {"rope_theta": 1e6}, "original_max_position_embeddings": 512},
        {
            "rope_theta": 1e6,
            "rope_scaling": {"rope_type": "yarn", "factor": 2.0},
            "original_max_position_embeddings": 512,
        },
        {"model_type": "qwen3_moe", "num_experts": 4, "num_experts_per_tok": 2, "rope_scaling": YARN},
        {"model_type": "qwen3_moe", "num_experts": 4, "num_experts_per_tok": 2},
    ],
)
def test_every_dialect(rope, tmp_path):
    assert_agree(PLAIN | {"moe_intermediate_size": 32} | rope, tmp_path)


@settings(max_examples=40, deadline=None)
@given(
    head_dim=st.sampled_from([8, 64, 128]),
    theta=st.sampled_from([1e4, 1e6, 5e6]),
    values=st.fixed_dictionaries(
        {"factor": st.floats(1.0, 16.0), "original_max_position_embeddings": st.sampled_from([64, 4096])},
        optional={
            "attention_factor": st.floats(0.5, 2.0),
            "beta_fast": st.floats(16.0, 64.0),
            "beta_slow": st.floats(0.5, 2.0),
            "truncate": st.booleans(),
            "mscale": st.floats(0.1, 2.0),
            "mscale_all_dim": st.floats(0.1, 2.0),
        },
    ),
)
def test_yarn_with_any_options(head_dim, theta, values, tmp_path_factory):
    config = PLAIN | {"head_dim": head_dim, "rope_theta": theta, "rope_scaling": {"rope_type": "yarn"} | values}
    assert_agree(config, tmp_path_factory.mktemp("yarn"))
