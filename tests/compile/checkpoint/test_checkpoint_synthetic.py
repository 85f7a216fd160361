"""Synthetic weights: deterministic, of sane statistics, at any dimension, one tensor in memory at a time."""

from __future__ import annotations

import hashlib
import json
import math
import tracemalloc
from dataclasses import asdict, replace
from pathlib import Path
from statistics import NormalDist

import numpy as np
import pytest

from qwen3_compile.checkpoint import expected_tensors, open_checkpoint
from qwen3_compile.errors import CheckpointError
from qwen3_graphs.architecture import Architecture

REAL = Architecture(151936, 1024, 3072, 28, 16, 8, 128, 40960, 1e6, True)
GIANT = Architecture(
    151936, 4096, 12288, 94, 64, 4, 128, 40960, 1e6, False, num_experts=128, num_experts_per_tok=8,
    moe_intermediate_size=1536,
)  # fmt: skip
PROJECTION = "model.layers.0.self_attn.q_proj.weight"


def synthetic(seed: int = 0, architecture: Architecture = REAL):
    return open_checkpoint(f"synthetic://{seed}", base_dir=Path(), expected=architecture)


def by_definition(seed: int, name: str, shape: tuple[int, ...], mean: float, std: float) -> np.ndarray:
    """The documented construction in float64, without blocks, tables or bfloat16."""
    key = int.from_bytes(hashlib.sha256(f"1/{seed}/{name}".encode()).digest()[:16], "little")
    words = np.random.Philox(key=key).random_raw(math.prod(shape) // 4 + 1)
    draws = [(int(word) >> shift) & 0xFFFF for word in words for shift in (0, 16, 32, 48)][: math.prod(shape)]
    return np.array([mean + std * NormalDist().inv_cdf((draw + 0.5) / 65536) for draw in draws]).reshape(shape)


@pytest.mark.parametrize(
    ("name", "mean", "std"),
    [
        (PROJECTION, 0.0, 0.02),
        ("model.layers.2.mlp.down_proj.weight", 0.0, 0.02 / math.sqrt(6)),
        ("model.layers.1.self_attn.o_proj.weight", 0.0, 0.02 / math.sqrt(6)),
        ("model.layers.1.self_attn.k_norm.weight", 1.0, 0.05),
    ],
)
def test_values_are_those_of_the_documented_construction(dense_architecture, name, mean, std):
    checkpoint = synthetic(5, dense_architecture)
    reference = by_definition(5, name, checkpoint.tensors()[name].shape, mean, std)
    # Half a unit in the last of bfloat16's eight bits.
    np.testing.assert_allclose(checkpoint.read(name).astype(np.float64), reference, rtol=2**-8)


def test_every_tensor_has_its_shape_and_type(moe_architecture):
    checkpoint = synthetic(1, moe_architecture)
    assert {name: info.shape for name, info in checkpoint.tensors().items()} == expected_tensors(
        moe_architecture, has_head=True
    )
    for name, info in checkpoint.tensors().items():
        array = checkpoint.read(name)
        assert (array.shape, array.dtype.name) == (info.shape, info.dtype) == (info.shape, "bfloat16")


def test_the_seed_and_the_name_decide_the_values(dense_architecture):
    read = {
        (seed, name): synthetic(seed, dense_architecture).read(name).tobytes()
        for seed in (0, 1)
        for name in (PROJECTION, PROJECTION.replace("layers.0", "layers.1"))
    }
    assert len(set(read.values())) == 4
    assert synthetic(0, dense_architecture).read(PROJECTION).tobytes() == read[0, PROJECTION]


def test_a_large_matrix_is_normal_and_unlike_its_neighbors():
    matrix = synthetic().read("model.layers.3.mlp.gate_proj.weight").astype(np.float64)
    n = matrix.size
    scaled = matrix / 0.02
    assert abs(scaled.mean()) < 5 / math.sqrt(n)
    assert abs(scaled.var() - 1) < 5 * math.sqrt(2 / n)
    assert abs((scaled**4).mean() - 3) < 0.03
    for shift in (1, 2, 3, 4, 1024):
        flat = scaled.ravel()
        assert abs((flat[shift:] * flat[:-shift]).mean()) < 5 / math.sqrt(n)


def test_reading_holds_one_tensor_and_nothing_of_the_model():
    checkpoint = synthetic(architecture=GIANT)
    names = [f"model.layers.{layer}.self_attn.k_proj.weight" for layer in range(12)]
    size = 2 * 512 * 4096
    checkpoint.tensors()
    checkpoint.read("model.norm.weight")
    tracemalloc.start()
    for name in names:
        checkpoint.read(name)
    after, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < size + 8_000_000
    assert after < 1_000_000


def test_the_identity_depends_on_seed_and_architecture_and_nothing_else(dense_architecture):
    (identity,) = synthetic(3, dense_architecture).files()
    assert identity == synthetic(3, dense_architecture).files()[0]
    others = [synthetic(4, dense_architecture), synthetic(3, replace(dense_architecture, num_hidden_layers=2))]
    assert len({identity.sha256, *(other.files()[0].sha256 for other in others)}) == 3
    assert identity.name == "synthetic"


def test_synthetic_weights_bring_no_files_and_no_revision(dense_architecture):
    checkpoint = synthetic(3, dense_architecture)
    assert (checkpoint.uri, checkpoint.revision, dict(checkpoint.assets())) == ("synthetic://3", None, {})
    assert checkpoint.architecture == dense_architecture


def test_synthetic_weights_need_an_architecture():
    with pytest.raises(CheckpointError, match="need an expected architecture"):
        open_checkpoint("synthetic://0", base_dir=Path())


def test_an_unknown_name_is_an_error(dense_architecture):
    with pytest.raises(CheckpointError, match="no tensor is named"):
        synthetic(0, dense_architecture).read("lm_head")


def test_logits_stay_alive_through_a_deep_stack(dense_architecture):
    """The residual stream neither dies nor explodes, and the prediction depends on the context."""
    import torch
    from transformers import Qwen3Config, Qwen3ForCausalLM

    deep = replace(dense_architecture, num_hidden_layers=32, hidden_size=128, intermediate_size=256)
    config = Qwen3Config(
        vocab_size=96, hidden_size=128, intermediate_size=256, num_hidden_layers=32, num_attention_heads=4,
        num_key_value_heads=2, head_dim=16, tie_word_embeddings=False,
    )  # fmt: skip
    model = Qwen3ForCausalLM(config)
    checkpoint = synthetic(2, deep)
    model.load_state_dict(
        {name: torch.tensor(checkpoint.read(name).astype(np.float32)) for name in checkpoint.tensors()}
    )
    ids = torch.tensor([[5, 9, 40, 7], [6, 9, 40, 7]])
    with torch.no_grad():
        output = model(ids, output_hidden_states=True)
    first, last = output.hidden_states[0].std(), output.hidden_states[-2].std()
    assert 1 < last / first < 10
    assert 0.1 < output.logits.std() < 1
    assert (output.logits[0, -1] - output.logits[1, -1]).abs().max() > 1e-3


def test_the_identity_of_weights_made_before_stays(dense_architecture):
    """The hash in manifests: of generator, seed and those fields that a model of the first version had."""
    later = {"rope_factor", "dense_layers"}
    fields = {key: value for key, value in asdict(dense_architecture).items() if key not in later}
    identity = json.dumps({"generator": 1, "seed": 3, "architecture": fields}, sort_keys=True)
    (file,) = open_checkpoint("synthetic://3", base_dir=Path(), expected=dense_architecture).files()
    assert file.sha256 == hashlib.sha256(identity.encode()).hexdigest()
