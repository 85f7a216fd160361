"""Random checkpoints as transformers writes them, engines built from them, and what transformers says."""

from __future__ import annotations

import hashlib
import json
import shutil
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from target_sections import SECTIONS
from tokenizers import Tokenizer, processors
from transformers import PreTrainedModel, Qwen3Config, Qwen3ForCausalLM, Qwen3Model, Qwen3MoeConfig, Qwen3MoeForCausalLM

from qwen3_compile.pipeline.orchestrate import build
from qwen3_compile.spec.load import load_spec
from qwen3_runtime import Sampling

if TYPE_CHECKING:
    from pathlib import Path

VOCAB, CONTEXT = 120, 64
SIZES = {
    "vocab_size": VOCAB,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 32,
    "max_position_embeddings": CONTEXT,
    "tie_word_embeddings": False,
    "rms_norm_eps": 1e-6,
}
EXPERTS = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 64, "norm_topk_prob": True}
GREEDY = Sampling(temperature=0)

SPEC = """
schema_version: 2
name: tiny
model:
  source: {source}
  tokenizer: {tokenizer}
  task: {task}
  architecture:
{architecture}
precision: {{weights: {weights}, kv_cache: {cache}}}
target: {target}
limits: {{max_context: {context}, max_batch: 4, max_step_tokens: 24}}
accuracy: {{}}
"""


def save_checkpoint(folder: Path, sizes: dict[str, Any], *, moe: bool, task: str) -> PreTrainedModel:
    """A random checkpoint, as transformers writes one."""
    torch.manual_seed(3)
    rope = {"rope_type": "default", "rope_theta": 1e4}
    if moe:
        model: PreTrainedModel = Qwen3MoeForCausalLM(Qwen3MoeConfig(**sizes, **EXPERTS, rope_parameters=rope))
    else:
        config = Qwen3Config(**sizes, rope_parameters=rope)
        model = Qwen3Model(config) if task == "embedding" else Qwen3ForCausalLM(config)
    with torch.no_grad():
        for parameter in model.parameters():
            scale = parameter.shape[-1] ** -0.5 * 1.5
            parameter.copy_(torch.randn_like(parameter) * scale if parameter.dim() > 1 else 1 + 0.2 * parameter)
    model.eval().save_pretrained(folder)
    return model


def build_engine(
    folder: Path,
    *,
    target: str,
    cache: str,
    moe: bool = False,
    task: str = "completion",
    sizes: dict[str, Any] = SIZES,
    tokenizer: Path | None = None,
    weights: str = "fp32",
) -> tuple[Path, PreTrainedModel]:
    model = save_checkpoint(folder / "checkpoint", sizes, moe=moe, task=task)
    architecture = {**sizes, "rope_theta": 10000.0, **(EXPERTS if moe else {})}
    text = SPEC.format(
        source="checkpoint",
        tokenizer="null" if tokenizer is None else tokenizer,
        task=task,
        architecture="\n".join(f"    {key}: {str(value).lower()}" for key, value in architecture.items()),
        cache=cache,
        target=json.dumps(SECTIONS[target]),
        context=sizes["max_position_embeddings"],
        weights=weights,
    )
    (folder / "spec.yaml").write_text(text)
    build(load_spec(folder / "spec.yaml"), folder / "engine", validate=False, threads=1)
    return folder / "engine", model


def build_half_engine(folder: Path, *, moe: bool = False) -> tuple[Path, PreTrainedModel]:
    """An engine of target `tensorrt-rtx` in float16, and the reference with the same, rounded, weights."""
    path, model = build_engine(folder, target="tensorrt-rtx", weights="fp16", cache="fp16", moe=moe)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(parameter.half())
    return path, model


def embedding_tokenizer(source: Path, folder: Path) -> Path:
    """A copy of a tokenizer that ends each text in `<|endoftext|>`, as those of the embedding models do."""
    shutil.copytree(source, folder)
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    end = "<|endoftext|>"
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"$A {end}", special_tokens=[(end, tokenizer.token_to_id(end))]
    )
    tokenizer.save(str(folder / "tokenizer.json"))
    return folder


def reference_rows(model: PreTrainedModel, tokens: list[int]) -> np.ndarray:
    with torch.no_grad():
        return model(torch.tensor([tokens])).logits[0].numpy()


def prompts(count: int) -> list[list[int]]:
    rng = np.random.default_rng(8)
    return [rng.integers(0, VOCAB, length).tolist() for length in rng.integers(1, 40, count)]


def rewrite(path: Path, name: str, data: bytes) -> None:
    """Replace a file of an engine and make the manifest agree."""
    (path / name).write_bytes(data)
    document = json.loads((path / "manifest.json").read_text())
    document["files"][name] = {"size": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    (path / "manifest.json").write_text(json.dumps(document))


def with_changed_manifest(engine: Path, copy: Path, section: str, change: dict[str, object]) -> Path:
    """Copy an engine and update one section of the copy's manifest; returns the copy."""
    shutil.copytree(engine, copy)
    document = json.loads((copy / "manifest.json").read_text())
    document[section].update(change)
    (copy / "manifest.json").write_text(json.dumps(document))
    return copy
