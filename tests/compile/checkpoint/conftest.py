"""Tiny checkpoints as transformers writes them, in a folder and on a hub."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch

from qwen3_graphs.architecture import Architecture

if TYPE_CHECKING:
    from pathlib import Path

DIMENSIONS = {
    "vocab_size": 96,
    "hidden_size": 40,
    "intermediate_size": 56,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "max_position_embeddings": 256,
    "rope_theta": 1e6,
}
EXPERTS = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 24, "norm_topk_prob": True}


def _transformers_config(kind: str, *, tied: bool):
    from transformers import Qwen3Config, Qwen3MoeConfig

    values = dict(DIMENSIONS)
    values["rope_parameters"] = {"rope_type": "default", "rope_theta": values.pop("rope_theta")}
    if kind == "dense":
        return Qwen3Config(**values, tie_word_embeddings=tied)
    return Qwen3MoeConfig(**values, **EXPERTS, tie_word_embeddings=tied)


@pytest.fixture(scope="session")
def make_model():
    """A random transformers model: make_model("dense" | "moe", tied=..., dtype=...)."""

    def make(kind="dense", *, tied=False, dtype=torch.bfloat16):
        from transformers import Qwen3ForCausalLM, Qwen3MoeForCausalLM

        torch.manual_seed(7)
        causal = Qwen3ForCausalLM if kind == "dense" else Qwen3MoeForCausalLM
        model = causal(_transformers_config(kind, tied=tied)).to(dtype)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.normal_()
        return model

    return make


@pytest.fixture(scope="session")
def dense_folder(make_model, tmp_path_factory) -> Path:
    """An untied dense bfloat16 model in one file. Tests must not write to it."""
    folder = tmp_path_factory.mktemp("dense")
    make_model().save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def sharded_folder(make_model, tmp_path_factory) -> Path:
    """The same model in several shards. Tests must not write to it."""
    folder = tmp_path_factory.mktemp("sharded")
    make_model().save_pretrained(folder, max_shard_size="40KB")
    return folder


@pytest.fixture
def dense_architecture() -> Architecture:
    return Architecture(**DIMENSIONS, tie_word_embeddings=False)


@pytest.fixture
def moe_architecture() -> Architecture:
    return Architecture(**DIMENSIONS, **EXPERTS, tie_word_embeddings=False)


@pytest.fixture
def hub(sharded_folder, serve_hub):
    """A hub that holds the sharded model, its tokenizer files, and a file that no build needs."""
    files = {path.name: path.read_bytes() for path in sharded_folder.iterdir()}
    return serve_hub(files | {"tokenizer.json": b"{}", "tokenizer_config.json": b"{}", "original.pth": b"not needed"})
