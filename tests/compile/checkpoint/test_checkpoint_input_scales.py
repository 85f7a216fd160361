"""Scales of inputs that checkpoints hold (ModelOpt's and compressed-tensors' names), and pre-scales of AWQ.

Covers: damage
Reference: the files' own values; `transformers` with multiplied weights
"""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
import torch
from float8_checkpoint import compressed, rewrite
from safetensors.torch import load_file, save_file

from qwen3_compile.checkpoint import open_checkpoint
from qwen3_compile.checkpoint.input_scales import fold_pre_scales, pre_scaled, stored_input_scales
from qwen3_compile.errors import CheckpointError
from qwen3_compile.quantize import values
from qwen3_compile.validate.reference import Reference

DIMENSIONS = {
    "vocab_size": 96,
    "hidden_size": 64,
    "intermediate_size": 160,
    "num_hidden_layers": 1,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 32,
    "max_position_embeddings": 64,
}
EXPERTS = {"num_experts": 3, "num_experts_per_tok": 2, "moe_intermediate_size": 96, "norm_topk_prob": True}
LAYER = "model.layers.0."
QUERY, DOWN = f"{LAYER}self_attn.q_proj.weight", f"{LAYER}mlp.down_proj.weight"
MODELOPT = {
    "config_groups": {
        "group_0": {
            "input_activations": {"dynamic": False, "num_bits": 8, "type": "float"},
            "weights": {"dynamic": False, "num_bits": 8, "type": "float"},
        }
    },
    "ignore": ["lm_head"],
    "quant_algo": "FP8",
    "producer": {"name": "modelopt", "version": "0.29.0"},
    "quant_method": "modelopt",
}


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    """Folders of a random `dense` and a `moe` model in bfloat16."""
    from transformers import Qwen3Config, Qwen3ForCausalLM, Qwen3MoeConfig, Qwen3MoeForCausalLM

    root = tmp_path_factory.mktemp("plain")
    torch.manual_seed(5)
    models = {
        "dense": Qwen3ForCausalLM(Qwen3Config(**DIMENSIONS, tie_word_embeddings=True)),
        "moe": Qwen3MoeForCausalLM(Qwen3MoeConfig(**DIMENSIONS, **EXPERTS, tie_word_embeddings=False)),
    }
    for kind, model in models.items():
        model.to(torch.bfloat16).save_pretrained(root / kind)
    return root


@pytest.fixture
def stored(plain, tmp_path):
    """Store a model with further tensors: stored(kind, change, quantized=True) gives its folder."""

    def make(kind="dense", change=lambda _: None, *, quantized=True, scheme=MODELOPT):
        folder = shutil.copytree(plain / kind, tmp_path / "stored")
        if quantized:
            rewrite(folder, compressed("tensor"), torch.float32)
            config = json.loads((folder / "config.json").read_text())
            (folder / "config.json").write_text(json.dumps(config | {"quantization_config": scheme}))
        state = load_file(folder / "model.safetensors")
        if quantized:
            for number, name in enumerate(sorted(name for name in state if name.endswith("_proj.weight"))):
                state[f"{name}_scale"] = state[f"{name}_scale"].reshape(())  # as ModelOpt writes it
                state[name.replace("weight", "input_scale")] = torch.tensor(0.01 * (number + 1))
        change(state)
        save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
        return folder

    return make


def opened(folder):
    return open_checkpoint(str(folder), base_dir=folder)


@pytest.mark.parametrize("kind", ["dense", "moe"])
def test_scales_of_inputs_are_tensors_without_dimensions(stored, kind):
    folder = stored(kind)
    state, checkpoint = load_file(folder / "model.safetensors"), opened(folder)
    names = {name for name in state if name.endswith("input_scale")}
    assert len(names) == (7 if kind == "dense" else 4 + 3 * EXPERTS["num_experts"])
    assert names == {name for name in checkpoint.tensors() if name.endswith("scale")}
    for name in names:
        found = checkpoint.read(name)
        assert found.dtype == np.float32
        assert found.shape == checkpoint.tensors()[name].shape == ()
        assert found == np.float32(state[name].item())


def test_one_number_in_a_list_is_the_same_scale(stored):
    def as_lists(state):
        for name in state:
            if name.endswith("input_scale"):
                state[name] = state[name].reshape(1).to(torch.bfloat16)

    checkpoint = opened(stored(change=as_lists))
    name = QUERY.replace("weight", "input_scale")
    assert checkpoint.read(name).shape == checkpoint.tensors()[name].shape == ()


def test_matrices_keep_their_single_scale(stored):
    folder = stored()
    state, found = load_file(folder / "model.safetensors"), opened(folder).read(QUERY)
    assert found.scales.shape == ()
    assert found.scales == state[f"{QUERY}_scale"].numpy()
    np.testing.assert_array_equal(found.dequantize(), (state[QUERY].float() * state[f"{QUERY}_scale"]).numpy())


@pytest.mark.parametrize(
    "scheme",
    [
        {"quant_method": "fp8", "fmt": "e4m3", "activation_scheme": "static"},
        MODELOPT | {"quant_algo": "FP8_PER_CHANNEL_PER_TOKEN"},
        compressed("tensor")
        | {
            "config_groups": {
                "group_0": {
                    "weights": {"num_bits": 8, "type": "float", "strategy": "tensor", "symmetric": True},
                    "input_activations": {
                        "num_bits": 8, "type": "float", "strategy": "tensor", "symmetric": True, "dynamic": False,
                    },
                }
            }
        },
    ],
)  # fmt: skip
def test_every_dialect_of_one_static_scale_is_read(stored, scheme):
    assert opened(stored(scheme=scheme)).read(QUERY.replace("weight", "input_scale")) > 0


@pytest.mark.parametrize(
    ("scheme", "message"),
    [
        (
            MODELOPT | {"quant_algo": "NVFP4"},
            "modelopt FP8 .*; found quant_method 'modelopt', quant_algo 'NVFP4'",
        ),
        (
            compressed("tensor")
            | {
                "config_groups": {
                    "group_0": {
                        "weights": {"num_bits": 8, "type": "float", "strategy": "tensor"},
                        "input_activations": {"num_bits": 8, "type": "float", "strategy": "group", "dynamic": False},
                    }
                }
            },
            "group_0: strategy of static input_activations is 'group', expected 'tensor'",
        ),
    ],
)
def test_other_schemes_are_refused_by_name(stored, scheme, message):
    with pytest.raises(CheckpointError, match=message):
        opened(stored(scheme=scheme))


def test_experts_share_the_largest_of_their_scales(stored):
    folder = stored("moe")
    state = load_file(folder / "model.safetensors")
    wanted = [f"{LAYER}mlp.experts.up_proj.input_scale", f"{LAYER}self_attn.q_proj.input_scale", "lm_head.input_scale"]
    found = stored_input_scales(opened(folder), wanted)
    ups = [state[f"{LAYER}mlp.experts.{expert}.up_proj.input_scale"].item() for expert in range(3)]
    assert found == {wanted[0]: max(ups), wanted[1]: state[wanted[1]].item()}


def test_scales_of_a_cache_are_left_out(stored):
    def cache(state):
        state[f"{LAYER}self_attn.k_proj.k_scale"] = state[f"{LAYER}self_attn.v_proj.v_scale"] = torch.tensor(0.5)
        state[f"{LAYER}self_attn.v_proj.v_scale"] = torch.tensor(0.25)

    assert not any("k_scale" in name or "v_scale" in name for name in opened(stored(change=cache)).tensors())


def with_pre_scales(*matrices):
    def change(state):
        rng = torch.Generator().manual_seed(0)
        for name in matrices:
            scale = torch.rand(state[name].shape[1], generator=rng) + 0.5
            state[name.replace("weight", "pre_quant_scale")] = scale.to(torch.bfloat16)

    return change


def test_a_pre_scale_is_read_and_folds_into_its_matrix(stored):
    folder = stored(change=with_pre_scales(QUERY, DOWN), quantized=False)
    state, checkpoint = load_file(folder / "model.safetensors"), opened(folder)
    name = DOWN.replace("weight", "pre_quant_scale")
    assert pre_scaled(checkpoint) == (DOWN, QUERY)
    np.testing.assert_array_equal(checkpoint.read(name), state[name].float().numpy())
    expected = (state[DOWN].float() * state[name].float()).numpy()
    np.testing.assert_array_equal(fold_pre_scales(checkpoint)(DOWN), expected)
    np.testing.assert_array_equal(fold_pre_scales(checkpoint)(name), checkpoint.read(name))
    stored_bits = state[DOWN].view(torch.uint16).numpy()
    read_bits = fold_pre_scales(checkpoint, [DOWN])(DOWN).view(np.uint16)
    np.testing.assert_array_equal(read_bits, stored_bits)
    np.testing.assert_array_equal(fold_pre_scales(checkpoint, [DOWN])(QUERY), fold_pre_scales(checkpoint)(QUERY))


def test_an_experts_pre_scale_is_always_folded(stored):
    expert = f"{LAYER}mlp.experts.1.down_proj.weight"
    checkpoint = opened(stored("moe", with_pre_scales(expert), quantized=False))
    assert pre_scaled(checkpoint) == ()
    scale = checkpoint.read(expert.replace("weight", "pre_quant_scale"))
    expected = checkpoint.read(expert).astype(np.float32) * scale
    np.testing.assert_array_equal(fold_pre_scales(checkpoint)(expert), expected)


@pytest.mark.parametrize("kind", ["dense", "moe"])
def test_the_reference_multiplies_inputs_by_their_pre_scales(stored, plain, kind):
    from transformers import AutoModelForCausalLM

    matrices = [QUERY, DOWN] if kind == "dense" else [QUERY, f"{LAYER}mlp.experts.2.down_proj.weight"]
    folder = stored(kind, with_pre_scales(*matrices), quantized=False)
    state, checkpoint = load_file(folder / "model.safetensors"), opened(folder)
    model = AutoModelForCausalLM.from_pretrained(plain / kind, dtype=torch.float32).eval()
    with torch.no_grad():
        for name in matrices:
            scale = state[name.replace("weight", "pre_quant_scale")].float()
            if ".experts." in name:
                model.model.layers[0].mlp.experts.down_proj[2] *= scale
            else:
                model.state_dict()[name].mul_(scale)
        ids = np.random.default_rng(0).integers(0, 96, 20)
        expected = model(torch.from_numpy(ids)[None]).logits[0].numpy()
    reference = Reference(checkpoint, checkpoint.architecture, "logits")
    (states,) = reference.hidden_states([ids])
    np.testing.assert_allclose(reference.read_out(states), expected, atol=2e-5 * np.abs(expected).max())


def set_scale(name, value):
    def change(state):
        state[name] = value

    return change


Q_INPUT, Q_PRE = QUERY.replace("weight", "input_scale"), QUERY.replace("weight", "pre_quant_scale")


def test_an_input_scale_needs_a_matrix_in_e4m3(stored):
    folder = stored(change=set_scale(Q_INPUT, torch.tensor(0.5)), quantized=False)
    with pytest.raises(CheckpointError, match=r"scales the input of .*q_proj\.weight, which is BF16, not F8_E4M3"):
        opened(folder)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (set_scale(Q_INPUT, torch.ones(64)), r"q_proj.input_scale is \[64\], expected \[\] or \[1\]"),
        (set_scale(Q_INPUT, torch.tensor(1)), "q_proj.input_scale is I64, expected BF16, F16 or F32"),
        (set_scale(Q_PRE, torch.ones(63)), r"q_proj.pre_quant_scale is \[63\], expected \[64\]"),
        (
            set_scale("model.embed_tokens.pre_quant_scale", torch.ones(64)),
            "scales an input, but model.embed_tokens.weight is no projection, expert or head",
        ),
        (
            set_scale(f"{LAYER}input_layernorm.pre_quant_scale", torch.ones(64)),
            "scales an input, but model.layers.0.input_layernorm.weight is no projection, expert or head",
        ),
        (set_scale(f"{LAYER}mlp.input_scale", torch.tensor(0.5)), "model.layers.0.mlp.weight is no projection"),
    ],
)
def test_scales_that_do_not_fit_are_named(stored, change, message):
    folder = stored(change=change)
    with pytest.raises(CheckpointError, match=message) as caught:
        opened(folder)
    assert str(folder / "model.safetensors") in str(caught.value)


@pytest.mark.parametrize("value", [0.0, -0.25, float("nan"), float("inf")])
def test_scales_that_are_not_above_zero_are_named_when_they_are_read(stored, value):
    checkpoint = opened(stored(change=set_scale(Q_INPUT, torch.tensor(value))))
    with pytest.raises(CheckpointError, match=r"q_proj\.input_scale holds a number that is not above zero"):
        checkpoint.read(Q_INPUT)
    damaged = torch.ones(64)
    damaged[7] = value
    folder = checkpoint.paths[0].parent
    state = load_file(folder / "model.safetensors")
    save_file(state | {Q_PRE: damaged}, folder / "model.safetensors")
    with pytest.raises(CheckpointError, match=r"q_proj\.pre_quant_scale holds a number that is not above zero"):
        opened(folder).read(Q_PRE)


def test_a_negative_scale_of_a_matrix_is_named_when_it_is_read(stored):
    checkpoint = opened(stored(change=set_scale(f"{QUERY}_scale", torch.tensor(-0.5))))
    with pytest.raises(CheckpointError, match=r"q_proj\.weight has a scale below zero"):
        checkpoint.read(QUERY)


def test_values_stay_what_they_are_with_and_without_scales_of_inputs(stored):
    checkpoint = opened(stored())
    np.testing.assert_array_equal(fold_pre_scales(checkpoint)(QUERY).dequantize(), values(checkpoint.read(QUERY)))
