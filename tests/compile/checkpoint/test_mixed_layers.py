"""Mixtures of experts with dense layers among them: the layers, tensors and sizes are those that transformers makes.

Covers: tensors, sizes
Reference: `transformers`' Qwen3MoeForCausalLM: layers, parameters
"""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from qwen3_compile.checkpoint import expected_tensors, open_checkpoint
from qwen3_compile.errors import CheckpointError
from qwen3_compile.spec.size import parameter_counts

LAYERS = [
    ([], 1),
    ([1], 1),
    ([0, 3], 1),
    ([7], 1),
    ([], 2),
    ([1], 2),
    ([0], 3),
    (None, 4),
    ([0, 1, 2, 3], 1),
    ([], 9),
]


@pytest.fixture
def mixed(tmp_path):
    """Write a random model of four layers: mixed(mlp_only_layers, decoder_sparse_step) gives it and its folder."""

    def make(listed, step):
        from transformers import Qwen3MoeConfig, Qwen3MoeForCausalLM

        sizes = {"vocab_size": 96, "hidden_size": 40, "intermediate_size": 56, "moe_intermediate_size": 24}
        heads = {"num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 16}
        experts = {"num_experts": 4, "num_experts_per_tok": 2, "mlp_only_layers": listed, "decoder_sparse_step": step}
        torch.manual_seed(1)
        model = Qwen3MoeForCausalLM(Qwen3MoeConfig(**sizes, **heads, **experts, num_hidden_layers=4))
        model.save_pretrained(tmp_path)
        return model, tmp_path

    return make


def dense_layers(model):
    from transformers.models.qwen3_moe.modeling_qwen3_moe import Qwen3MoeMLP

    return tuple(i for i, layer in enumerate(model.model.layers) if isinstance(layer.mlp, Qwen3MoeMLP))


@pytest.mark.parametrize(("listed", "step"), LAYERS)
def test_layers_tensors_and_parameters_are_those_of_transformers(mixed, listed, step):
    model, folder = mixed(listed, step)
    checkpoint = open_checkpoint(str(folder), base_dir=folder)
    architecture, dense = checkpoint.architecture, dense_layers(model)
    if len(dense) == 4:
        assert not architecture.is_moe
    else:
        assert architecture.dense_layers == dense
    assert checkpoint.tensors().keys() == expected_tensors(architecture, has_head=True).keys()
    for layer in dense:
        name = f"model.layers.{layer}.mlp.up_proj.weight"
        np.testing.assert_array_equal(checkpoint.read(name), model.state_dict()[name].numpy())
    assert parameter_counts(architecture)[0] == sum(parameter.numel() for parameter in model.parameters())


def test_what_the_spec_expects_of_the_layers_is_compared(mixed):
    _, folder = mixed([1], 1)
    found = open_checkpoint(str(folder), base_dir=folder).architecture
    open_checkpoint(str(folder), base_dir=folder, expected=found)
    with pytest.raises(
        CheckpointError, match=r"\(mlp_only_layers, decoder_sparse_step\): expected \(\) .* found \(1,\)"
    ):
        open_checkpoint(str(folder), base_dir=folder, expected=replace(found, dense_layers=()))
    with pytest.raises(CheckpointError, match="intermediate_size: expected 64"):
        open_checkpoint(str(folder), base_dir=folder, expected=replace(found, intermediate_size=64))


def test_synthetic_weights_of_a_mixture(mixed):
    _, folder = mixed([1], 1)
    found = open_checkpoint(str(folder), base_dir=folder).architecture
    synthetic = open_checkpoint("synthetic://3", base_dir=folder, expected=found)
    assert synthetic.tensors().keys() == open_checkpoint(str(folder), base_dir=folder).tensors().keys()
    plain = open_checkpoint("synthetic://3", base_dir=folder, expected=replace(found, dense_layers=()))
    assert synthetic.files()[0].sha256 != plain.files()[0].sha256


def test_a_configuration_that_says_null_is_understood(mixed):
    _, folder = mixed([], 1)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"mlp_only_layers": None}))
    assert open_checkpoint(str(folder), base_dir=folder).architecture.dense_layers == ()
