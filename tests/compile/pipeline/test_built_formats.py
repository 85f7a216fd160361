"""Whole engines in further number formats, validated against eager PyTorch; E4M3 checkpoints that keep their codes.

Covers: fp8, int8 by channel, weight-only; E4M3 checkpoints: codes and scales in the engine's file
Reference: the checkpoint's bytes; eager PyTorch
"""

from __future__ import annotations

import shutil

import numpy as np
import onnx
import pytest
import torch
from float8_checkpoint import RELEASED, compressed, rewrite
from safetensors.torch import load_file, save_file

# Little to compare on keeps these tests short.
TEXTS = {"prompts": ["What is this?"], "text": "One text of a line, to measure what an engine makes of it."}
# What a format may cost on these random models: mean KL in nats.
# Measured 0.014, 0.010, 0.006, 0.0004, 0.09, 0.08, 0.010.
FORMATS = [
    ("moe", {"weights": "fp8"}, 0.02),
    ("dense", {"weights": "fp8", "fp8_scales": "channel"}, 0.02),
    ("moe", {"weights": "int8", "group_size": "channel"}, 0.006),
    ("dense", {"weights": "int8", "activation_quantization": "none"}, 0.0006),
    ("moe", {"weights": "uint4", "group_size": 64}, 0.13),
    ("dense", {"weights": "uint4", "lm_head": "int8", "embedding": "uint4"}, 0.13),
    ("moe", {"weights": "fp8", "lm_head": "int8", "embedding": "bf16", "group_size": "channel"}, 0.02),
]


@pytest.mark.parametrize(("kind", "precision", "limit"), FORMATS)
def test_an_engine_in_each_format_keeps_its_limits(make, kind, precision, limit):
    info, _ = make(kind, precision=precision, accuracy=TEXTS | {"max_kl": limit})
    assert 0 < info.accuracy.summary.mean_kl <= limit


@pytest.mark.parametrize("kind", ["dense", "moe"])
@pytest.mark.parametrize(
    ("scheme", "scales"), [(RELEASED, "block"), (compressed("channel"), "channel")], ids=["released", "compressed"]
)
def test_an_e4m3_checkpoint_reaches_the_engine_as_it_is(make, checkpoints, tmp_path, kind, scheme, scales):
    source = shutil.copytree(checkpoints / kind, tmp_path / "e4m3")
    rewrite(source, scheme)
    precision = {"weights": "fp8", "fp8_scales": scales, "lm_head": "bf16", "embedding": "bf16"}
    # The reference multiplies the same codes and scales. What differs is a cache in float16, which turns a router's
    # close call here and there.
    info, _ = make(kind, source=source, precision=precision, accuracy=TEXTS | {"max_kl": 1e-4})
    state = load_file(source / "model.safetensors")
    places = [("model.layers.1.self_attn.o_proj", "model.layers.1.self_attn.o_proj", 0)]
    if kind == "moe":
        places.append(("model.layers.0.mlp.experts.2.down_proj", "model.layers.0.mlp.experts.down_proj", 2))
    for checkpoint_name, engine_name, entry in places:
        codes, found = stored(info.path, engine_name, entry)
        expected = state[f"{checkpoint_name}.weight"].view(torch.uint8).numpy()
        np.testing.assert_array_equal(codes[: expected.shape[0], : expected.shape[1]], expected)
        if scales == "block":
            by_block = state[f"{checkpoint_name}.weight_scale_inv"].float().numpy()
            np.testing.assert_array_equal(found, np.repeat(by_block, 8, axis=0)[: len(found)])
        else:
            by_row = state[f"{checkpoint_name}.weight_scale"].float().numpy()
            np.testing.assert_array_equal(found.reshape(-1), by_row[:, 0])


@pytest.mark.parametrize("weights", ["int4", "bf16"])
def test_another_format_is_made_from_the_dequantized_weights(make, checkpoints, tmp_path, weights):
    source = shutil.copytree(checkpoints / "dense", tmp_path / "e4m3")
    rewrite(source, RELEASED)
    found, _ = make("dense", source=source, precision={"weights": weights}, options={"validate": False})
    state, names = load_file(source / "model.safetensors"), []
    for name in [name for name in state if name.endswith("_scale_inv")]:
        names.append(name.removesuffix("_scale_inv"))
        scale = torch.kron(state.pop(name).float(), torch.ones(128, 128))
        codes = state[names[-1]].float()
        state[names[-1]] = codes * scale[: codes.shape[0], : codes.shape[1]]
    assert names
    plain = shutil.copytree(checkpoints / "dense", tmp_path / "bf16")
    save_file(state, plain / "model.safetensors", metadata={"format": "pt"})
    expected, _ = make("dense", source=plain, out="plain", precision={"weights": weights}, options={"validate": False})
    assert (found.path / "weights.bin").read_bytes() == (expected.path / "weights.bin").read_bytes()


def stored(engine, name, entry):
    """One entry of a matrix as the engine's file has it, by the layout's description: codes [N, K] and scales."""
    tensors = {tensor.name: tensor for tensor in onnx.load(engine / "model.onnx").graph.initializer}
    blob, scales = (onnx.numpy_helper.to_array(tensors[f"{name}.{part}"])[entry] for part in ("codes", "scales"))
    panels = blob.reshape(len(scales), -1, 16)
    return panels.transpose(0, 2, 1).reshape(16 * len(scales), -1), scales
