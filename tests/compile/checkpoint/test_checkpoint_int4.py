"""Checkpoints with four-bit matrices and AWQ pre-scales as ModelOpt writes them (W4A16_AWQ).

Covers: damage
Reference: `transformers` with the values that codes stand for
"""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from qwen3_compile.checkpoint import open_checkpoint
from qwen3_compile.errors import CheckpointError
from qwen3_compile.pack.layouts import pack
from qwen3_compile.quantize import Quantized, quantize, values
from qwen3_compile.validate.reference import Reference
from qwen3_graphs.formats import WeightFormat

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
GROUP = 32
MATRIX = "model.layers.0.self_attn.o_proj.weight"
SCHEME = {"quant_method": "modelopt", "quant_algo": "W4A16_AWQ", "group_size": GROUP, "ignore": ["lm_head"]}


def multiplied(name):
    """ModelOpt folds the pre-scales of other matrices into the norm before them."""
    return name.endswith(("o_proj.weight", "down_proj.weight"))


@pytest.fixture(scope="module")
def quantized(tmp_path_factory):
    """Folders of a `dense` and a `moe` model with four-bit projections, and what each projection stands for."""
    from transformers import Qwen3Config, Qwen3ForCausalLM, Qwen3MoeConfig, Qwen3MoeForCausalLM

    root, meant = tmp_path_factory.mktemp("quantized"), {}
    torch.manual_seed(5)
    models = {
        "dense": Qwen3ForCausalLM(Qwen3Config(**DIMENSIONS, tie_word_embeddings=True)),
        "moe": Qwen3MoeForCausalLM(Qwen3MoeConfig(**DIMENSIONS, **EXPERTS, tie_word_embeddings=False)),
    }
    for kind, model in models.items():
        folder = root / kind
        model.save_pretrained(folder)
        state, meant[kind] = load_file(folder / "model.safetensors"), {}
        for name in [name for name in state if name.endswith("_proj.weight")]:
            rows, columns = state[name].shape
            codes = torch.randint(-8, 8, (rows, columns), dtype=torch.int8)
            scales = torch.rand(rows, columns // GROUP) * 0.02 + 0.001
            meant[kind][name] = codes, scales, codes * scales.repeat_interleave(GROUP, dim=1)
            low, high = codes[0::2].numpy() & 15, codes[1::2].numpy() & 15
            state[name] = torch.from_numpy((low | high << 4).astype(np.uint8))
            state[f"{name}_scale"] = scales
            if multiplied(name):
                before = torch.rand(columns) + 0.5
                state[name.replace("weight", "pre_quant_scale")] = before
                meant[kind][name] = codes, scales, meant[kind][name][2] * before
        save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
        config = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps(config | {"quantization_config": SCHEME}))
    return root, meant


def opened(folder):
    return open_checkpoint(str(folder), base_dir=folder)


@pytest.mark.parametrize("kind", ["dense", "moe"])
def test_codes_and_scales_are_those_of_the_file(quantized, kind):
    root, meant = quantized
    checkpoint = opened(root / kind)
    for name, (codes, scales, _) in meant[kind].items():
        found, info = checkpoint.read(name), checkpoint.tensors()[name]
        assert isinstance(found, Quantized)
        assert (info.shape, info.dtype) == (tuple(codes.shape), "int4")
        assert found.shape == info.shape
        assert found.group_size == GROUP
        np.testing.assert_array_equal(found.codes, codes.numpy())
        np.testing.assert_array_equal(found.scales, scales.numpy())


@pytest.mark.parametrize("kind", ["dense", "moe"])
def test_the_reference_computes_with_what_the_codes_stand_for(quantized, kind):
    from transformers import AutoConfig, Qwen3ForCausalLM, Qwen3MoeForCausalLM

    root, meant = quantized
    checkpoint, state = opened(root / kind), load_file(root / kind / "model.safetensors")
    config = AutoConfig.from_pretrained(root / kind)
    del config.quantization_config
    model = (Qwen3ForCausalLM if kind == "dense" else Qwen3MoeForCausalLM)(config).eval()
    weights = {name: weight for name, (_, _, weight) in meant[kind].items()}
    plain = {name: tensor for name, tensor in state.items() if name not in weights and "scale" not in name}
    with torch.no_grad():
        for name, weight in (weights | plain).items():
            if ".experts." not in name:
                model.get_parameter(name).copy_(weight)
                continue
            before, after = name.split(".experts.")
            expert, projection = int(after.split(".")[0]), after.split(".")[1]
            fused = model.get_submodule(f"{before}.experts")
            width = EXPERTS["moe_intermediate_size"]
            target = fused.down_proj if projection == "down_proj" else fused.gate_up_proj
            part = {"gate_proj": slice(0, width), "up_proj": slice(width, None), "down_proj": slice(None)}[projection]
            target[expert, part].copy_(weight)
        ids = np.random.default_rng(0).integers(0, 96, 20)
        expected = model(torch.from_numpy(ids)[None]).logits[0].numpy()
    reference = Reference(checkpoint, checkpoint.architecture, "logits")
    (states,) = reference.hidden_states([ids])
    np.testing.assert_allclose(reference.read_out(states), expected, atol=2e-5 * np.abs(expected).max())


@pytest.mark.parametrize("scale_type", ["fp16", "bf16"])
def test_codes_reach_tensorrts_layouts_bit_for_bit(quantized, scale_type):
    root, meant = quantized
    codes, scales, _ = meant["dense"][MATRIX]
    stored = opened(root / "dense").read(MATRIX)
    packed, packed_scales = pack(f"scaled_columns_{scale_type}", (stored,), WeightFormat("int4", GROUP))
    assert packed.dtype == np.uint8
    found = np.empty(codes.T.shape, np.int8)
    found[:, 0::2], found[:, 1::2] = (packed.view(np.int8) << 4) >> 4, packed.view(np.int8) >> 4
    np.testing.assert_array_equal(found, codes.T.numpy())
    nearest = scales.to({"fp16": torch.float16, "bf16": torch.bfloat16}[scale_type]).float()
    np.testing.assert_array_equal(packed_scales.astype(np.float32), nearest.T.numpy())


def test_other_formats_and_groups_take_the_values(quantized):
    root, meant = quantized
    codes, scales, _ = meant["dense"][MATRIX]
    exact = (codes * scales.repeat_interleave(GROUP, dim=1)).numpy()
    stored = opened(root / "dense").read(MATRIX)
    np.testing.assert_array_equal(values(stored), exact)
    (rows,) = pack("rows", (stored,), WeightFormat("fp32"))
    np.testing.assert_array_equal(rows, exact)
    other = quantize(stored, WeightFormat("int8", 64), positive=True)
    again = quantize(exact, WeightFormat("int8", 64), positive=True)
    np.testing.assert_array_equal(other.codes, again.codes)
    np.testing.assert_array_equal(other.scales, again.scales)
    eight = pack("scaled_columns", (stored,), WeightFormat("fp8"))
    for found, expected in zip(eight, pack("scaled_columns", (exact,), WeightFormat("fp8")), strict=True):
        np.testing.assert_array_equal(found.view(np.uint8), expected.view(np.uint8))


def without_scales(state):
    del state[f"{MATRIX}_scale"]


def of_other_rows(state):
    state[f"{MATRIX}_scale"] = torch.ones(10, 4)


def of_broken_groups(state):
    state[f"{MATRIX}_scale"] = torch.ones(64, 3)


def of_integers(state):
    state[f"{MATRIX}_scale"] = torch.ones(64, 4, dtype=torch.int32)


def fewer_rows(state):
    state[MATRIX] = state[MATRIX][:-1].clone()
    state[f"{MATRIX}_scale"] = torch.ones(62, 4)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (without_scales, "o_proj.weight is U8, which needs .*o_proj.weight_scale; it is missing"),
        (of_other_rows, r"o_proj.weight_scale is \[10, 4\] for four-bit codes \[32, 128\]"),
        (of_broken_groups, r"o_proj.weight_scale is \[64, 3\] for four-bit codes \[32, 128\]"),
        (of_integers, "o_proj.weight_scale is I32, expected BF16, F16, F32"),
        (fewer_rows, r"o_proj.weight \[62, 128\] instead of \[64, 128\]"),
    ],
)
def test_what_does_not_fit_is_named(quantized, tmp_path, damage, message):
    folder = shutil.copytree(quantized[0] / "dense", tmp_path / "damaged")
    state = load_file(folder / "model.safetensors")
    damage(state)
    save_file(state, folder / "model.safetensors")
    with pytest.raises(CheckpointError, match=message) as caught:
        opened(folder)
    assert str(folder / "model.safetensors") in str(caught.value)


def test_a_matrix_of_another_scheme_than_config_json_states_is_named(quantized, tmp_path):
    folder = shutil.copytree(quantized[0] / "dense", tmp_path / "other")
    state = load_file(folder / "model.safetensors")
    state[MATRIX] = torch.ones(64, 128).to(torch.float8_e4m3fn)
    del state[f"{MATRIX}_scale"]
    save_file(state, folder / "model.safetensors")
    with pytest.raises(CheckpointError, match=rf"1 neither BF16, .* nor of .*quantization_config: {MATRIX} F8_E4M3"):
        opened(folder)


@pytest.mark.parametrize("value", [0.0, -1.0, float("nan"), float("inf")])
def test_a_scale_that_is_not_above_zero_is_named_when_it_is_read(quantized, tmp_path, value):
    folder = shutil.copytree(quantized[0] / "dense", tmp_path / "damaged")
    state = load_file(folder / "model.safetensors")
    state[f"{MATRIX}_scale"][3, 1] = value
    save_file(state, folder / "model.safetensors")
    with pytest.raises(CheckpointError, match=r"o_proj\.weight has a scale that is not above zero"):
        opened(folder).read(MATRIX)
