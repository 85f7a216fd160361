"""Checkpoints in E4M3, in the released form and in compressed-tensors', against transformers' own dequantization.

Covers: the released form; compressed-tensors by channel, tensor and block; damage
Reference: `transformers`' own dequantization, bit for bit, and its logits
"""

from __future__ import annotations

import shutil

import numpy as np
import pytest
import torch
from float8_checkpoint import RELEASED, compressed, rewrite
from safetensors.torch import load_file, save_file

from qwen3_compile.checkpoint import open_checkpoint
from qwen3_compile.errors import CheckpointError
from qwen3_compile.quantize import Float8, values
from qwen3_compile.validate.reference import Reference

DIMENSIONS = {
    "vocab_size": 96,
    "hidden_size": 256,
    "intermediate_size": 384,
    "num_hidden_layers": 1,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 64,
    "max_position_embeddings": 64,
}
EXPERTS = {"num_experts": 3, "num_experts_per_tok": 2, "moe_intermediate_size": 128, "norm_topk_prob": True}
PROJECTION = "model.layers.0.self_attn.k_proj.weight"


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
    """Rewrite a model: stored(kind, scheme, scale type) gives its folder."""

    def make(kind="dense", scheme=RELEASED, scale_type=torch.bfloat16):
        folder = shutil.copytree(plain / kind, tmp_path / "stored")
        rewrite(folder, scheme, scale_type)
        return folder

    return make


def opened(folder):
    return open_checkpoint(str(folder), base_dir=folder)


@pytest.mark.parametrize("kind", ["dense", "moe"])
@pytest.mark.parametrize("scale_type", [torch.float32, torch.bfloat16, torch.float16])
def test_codes_and_scales_are_those_of_the_file(stored, kind, scale_type):
    folder = stored(kind, scale_type=scale_type)
    state, checkpoint = load_file(folder / "model.safetensors"), opened(folder)
    assert checkpoint.tensors().keys() == {name for name in state if not name.endswith("_scale_inv")}
    for name, info in checkpoint.tensors().items():
        found = checkpoint.read(name)
        assert info.shape == found.shape == tuple(state[name].shape)
        if not name.endswith("_proj.weight"):
            assert info.dtype == "bfloat16"
            continue
        assert info.dtype == "float8_e4m3fn"
        assert isinstance(found, Float8)
        np.testing.assert_array_equal(found.codes, state[name].view(torch.uint8).numpy())
        np.testing.assert_array_equal(found.scales, state[f"{name}_scale_inv"].float().numpy())


@pytest.mark.parametrize("kind", ["dense", "moe"])
def test_the_reference_computes_what_transformers_does(stored, kind, monkeypatch):
    from transformers import AutoModelForCausalLM, FineGrainedFP8Config

    # It asks for `accelerate`, which dequantizing on one device does not need.
    monkeypatch.setattr("transformers.quantizers.quantizer_finegrained_fp8.is_accelerate_available", lambda: True)
    folder = stored(kind)
    scheme = FineGrainedFP8Config(dequantize=True)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, quantization_config=scheme).float()
    checkpoint, state = opened(folder), model.state_dict()
    for name in checkpoint.tensors():
        if name in state:
            np.testing.assert_array_equal(values(checkpoint.read(name)).astype(np.float32), state[name].numpy())
    ids = np.random.default_rng(0).integers(0, 96, 20)
    with torch.no_grad():
        expected = model(torch.from_numpy(ids)[None]).logits[0].numpy()
    reference = Reference(checkpoint, checkpoint.architecture, "logits")
    (states,) = reference.hidden_states([ids])
    np.testing.assert_allclose(reference.read_out(states), expected, atol=2e-5 * np.abs(expected).max())


@pytest.mark.parametrize("strategy", ["channel", "tensor", "block"])
def test_scales_of_compressed_tensors(stored, strategy):
    folder = stored(scheme=compressed(strategy))
    state, found = load_file(folder / "model.safetensors"), opened(folder).read(PROJECTION)
    codes, scale = state[PROJECTION].float(), state[f"{PROJECTION}_scale"].float()
    if strategy == "block":
        scale = torch.kron(scale, torch.ones(128, 128))
    assert found.in_blocks == (strategy == "block")
    np.testing.assert_array_equal(found.dequantize(), (codes * scale).numpy())


def longer(state):
    state[f"{PROJECTION}_scale_inv"] = torch.ones(2, 2)


def integer(state):
    state[f"{PROJECTION}_scale_inv"] = state[f"{PROJECTION}_scale_inv"].to(torch.int32)


def unscaled(state):
    del state[f"{PROJECTION}_scale_inv"]


def twice(state):
    state[f"{PROJECTION}_scale"] = state[f"{PROJECTION}_scale_inv"].clone()


def astray(state):
    state["model.norm.weight_scale_inv"] = torch.ones(1, 1)


def vector(state):
    state["model.norm.weight"] = state["model.norm.weight"].to(torch.float8_e4m3fn)
    astray(state)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (longer, rf"{PROJECTION}_scale_inv is \[2, 2\] for a matrix of \[128, 256\], expected \[1, 2\]"),
        (integer, f"{PROJECTION}_scale_inv is I32, expected BF16, F16 or F32"),
        (
            unscaled,
            f"{PROJECTION} is F8_E4M3, which needs one of {PROJECTION}_scale_inv and {PROJECTION}_scale; found 0",
        ),
        (twice, f"{PROJECTION} is F8_E4M3.*found 2 of them"),
        (astray, "1 not of this architecture: model.norm.weight_scale_inv"),
        (vector, r"model.norm.weight_scale_inv scales a tensor of shape \[256\], expected a matrix"),
    ],
)
def test_scales_that_do_not_fit_are_named(stored, damage, message):
    folder = stored()
    state = load_file(folder / "model.safetensors")
    damage(state)
    save_file(state, folder / "model.safetensors")
    with pytest.raises(CheckpointError, match=message) as caught:
        opened(folder)
    assert str(folder / "model.safetensors") in str(caught.value)


@pytest.mark.parametrize("shape", [(1, 2), ()])
@pytest.mark.parametrize("factor", [1.0, 2.0])
def test_a_tied_head_is_compared_with_its_scales(stored, factor, shape):
    folder = stored()
    state = load_file(folder / "model.safetensors")
    for name in ("model.embed_tokens.weight", "lm_head.weight"):
        state[name] = torch.ones(DIMENSIONS["vocab_size"], DIMENSIONS["hidden_size"]).to(torch.float8_e4m3fn)
        state[f"{name}_scale_inv"] = torch.full(shape, factor if name == "lm_head.weight" else 1.0)
    save_file(state, folder / "model.safetensors")
    if factor == 1.0:
        with pytest.raises(CheckpointError, match=r"no tensor is named 'lm_head.weight'"):
            opened(folder).read("lm_head.weight")
    else:
        with pytest.raises(CheckpointError, match=r"lm_head.weight differs from model.embed_tokens.weight"):
            opened(folder)
