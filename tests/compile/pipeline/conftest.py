"""Tiny checkpoints as transformers writes them, with a tokenizer, and a cache in which their graphs are traced once."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from qwen3_compile.pipeline import build
from qwen3_compile.pipeline.progress import Silent
from qwen3_compile.spec import parse_spec

TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<think>", "</think>")
DIMENSIONS = {
    "vocab_size": 272,  # 256 bytes, 5 special tokens, 11 rows of padding
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 32,
    "max_position_embeddings": 256,
    "rope_theta": 10000.0,
}
EXPERTS = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 32, "norm_topk_prob": True}


def write_tokenizer(folder):
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE(vocab={letter: i for i, letter in enumerate(alphabet)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(list(SPECIAL))
    tokenizer.save(str(folder / "tokenizer.json"))
    config = {"chat_template": TEMPLATE, "eos_token": "<|im_end|>", "pad_token": "<|endoftext|>"}
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": [258, 256], "pad_token_id": 256}))


def write_checkpoint(folder, kind):
    from transformers import Qwen3Config, Qwen3ForCausalLM, Qwen3MoeConfig, Qwen3MoeForCausalLM

    values = dict(DIMENSIONS)
    values["rope_parameters"] = {"rope_type": "default", "rope_theta": values.pop("rope_theta")}
    torch.manual_seed(3)
    if kind == "dense":
        model = Qwen3ForCausalLM(Qwen3Config(**values, tie_word_embeddings=True))
    else:
        model = Qwen3MoeForCausalLM(Qwen3MoeConfig(**values, **EXPERTS, tie_word_embeddings=False))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.normal_(1.0, 0.1) if "norm" in name else parameter.normal_(0.0, 0.15)
    model.to(torch.bfloat16).save_pretrained(folder)
    write_tokenizer(folder)


def spec_text(source, kind="dense", **sections):
    """A spec in JSON, which is YAML; `sections` replace or add top-level sections."""
    architecture = {**DIMENSIONS, "tie_word_embeddings": kind == "dense"} | (EXPERTS if kind == "moe" else {})
    return json.dumps(
        {
            "schema_version": 2,
            "name": f"tiny-{kind}",
            "model": {"source": str(source), "task": "chat", "architecture": architecture},
            "precision": {"weights": "int8", "group_size": 32},
            "limits": {"max_context": 256, "max_batch": 2, "max_step_tokens": 64},
            "chat": {"thinking_budget": 8, "max_tokens": 64},
            **sections,
        }
    )


@pytest.fixture(scope="session")
def checkpoints(tmp_path_factory):
    """Folder of a `dense` and a `moe` checkpoint."""
    root = tmp_path_factory.mktemp("checkpoints")
    for kind in ("dense", "moe"):
        write_checkpoint(root / kind, kind)
    return root


@pytest.fixture(scope="session")
def traced(checkpoints, tmp_path_factory):
    """A cache that holds the traces of both checkpoints, and nothing else."""
    root = tmp_path_factory.mktemp("traced")
    for kind in ("dense", "moe"):
        spec = parse_spec(spec_text(checkpoints / kind, kind))
        build(spec, root / kind, cache_dir=root / "cache", validate=False)
    shutil.rmtree(root / "cache" / "v1" / "weights")
    return root / "cache"


@pytest.fixture
def cache_dir(traced, tmp_path):
    """A cache of the test's own, in which the tiny models are already traced."""
    return Path(shutil.copytree(traced, tmp_path / "cache"))


class Record(Silent):
    """Remembers how each stage ended."""

    def __init__(self):
        self.outcomes = {}
        self.stage = ""

    def begin(self, stage, total=None):  # noqa: ARG002 - the protocol's signature
        self.stage = stage

    def end(self, outcome=""):
        self.outcomes[self.stage] = outcome

    @property
    def cached(self):
        return {stage for stage, outcome in self.outcomes.items() if "from the cache" in outcome}


@pytest.fixture
def make(checkpoints, cache_dir, tmp_path):
    """Build: make(kind, out=..., spec sections...) gives the engine's info and how its stages ended."""

    def make(kind="dense", *, out="engine", source=None, options=None, **sections):
        record = Record()
        spec = parse_spec(spec_text(source or checkpoints / kind, kind, **sections))
        info = build(spec, tmp_path / out, progress=record, **({"cache_dir": cache_dir} | (options or {})))
        return info, record

    return make


def tree(folder):
    """Bytes of every file."""
    return {path.name: path.read_bytes() for path in sorted(Path(folder).iterdir())}


@pytest.fixture
def read_tree():
    return tree


@pytest.fixture(scope="session")
def spec_of():
    return spec_text
