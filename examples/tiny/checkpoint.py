"""Write a tiny model as a released Qwen3 checkpoint: configs, tokenizer and bfloat16 safetensors."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING, Any

import torch
from make_tokenizer import FOLDER as TOKENIZER
from safetensors.torch import load_file, save_file

if TYPE_CHECKING:
    from pathlib import Path

    from model import Dimensions, Qwen3


def config(dims: Dimensions, ids: dict[str, int]) -> dict[str, Any]:
    """The `config.json` of a released Qwen3 model with these dimensions.

    Args:
        dims: the model's sizes.
        ids: token ids of the added tokens.
    """
    moe = {
        "decoder_sparse_step": 1,
        "mlp_only_layers": [],
        "moe_intermediate_size": dims.moe_intermediate_size,
        "norm_topk_prob": True,
        "num_experts": dims.num_experts,
        "num_experts_per_tok": dims.num_experts_per_tok,
        "output_router_logits": False,
        "router_aux_loss_coef": 0.001,
    }
    return {
        "architectures": ["Qwen3MoeForCausalLM" if dims.num_experts else "Qwen3ForCausalLM"],
        "attention_bias": False,
        "attention_dropout": 0.0,
        "bos_token_id": ids["<|endoftext|>"],
        **(moe if dims.num_experts else {}),
        "eos_token_id": ids["<|im_end|>"],
        "head_dim": dims.head_dim,
        "hidden_act": "silu",
        "hidden_size": dims.hidden_size,
        "initializer_range": 0.02,
        "intermediate_size": dims.intermediate_size,
        "max_position_embeddings": dims.max_position_embeddings,
        "max_window_layers": dims.num_hidden_layers,
        "model_type": "qwen3_moe" if dims.num_experts else "qwen3",
        "num_attention_heads": dims.num_attention_heads,
        "num_hidden_layers": dims.num_hidden_layers,
        "num_key_value_heads": dims.num_key_value_heads,
        "rms_norm_eps": dims.rms_norm_eps,
        "rope_scaling": None,
        "rope_theta": dims.rope_theta,
        "sliding_window": None,
        "tie_word_embeddings": dims.tie_word_embeddings,
        "torch_dtype": "bfloat16",
        "use_cache": True,
        "use_sliding_window": False,
        "vocab_size": dims.vocab_size,
    }


def generation_config(ids: dict[str, int]) -> dict[str, Any]:
    """The released `generation_config.json` with the tiny token ids."""
    return {
        "bos_token_id": ids["<|endoftext|>"],
        "do_sample": True,
        "eos_token_id": [ids["<|im_end|>"], ids["<|endoftext|>"]],
        "pad_token_id": ids["<|endoftext|>"],
        "temperature": 0.6,
        "top_k": 20,
        "top_p": 0.95,
    }


def released_tensors(model: Qwen3, dims: Dimensions) -> dict[str, torch.Tensor]:
    """The weights in bfloat16 under the released names: experts one by one, no head when it is tied."""
    tensors = {}
    for name, weight in model.state_dict().items():
        if name == "lm_head.weight" and dims.tie_word_embeddings:
            continue
        weight = weight.detach().to(torch.bfloat16)  # noqa: PLW2901 - the same weight, as it is stored
        if ".experts." in name:
            stem, projection = name.rsplit(".", 1)
            for expert, part in enumerate(weight):
                tensors[f"{stem}.{expert}.{projection}.weight"] = part.clone()
        else:
            tensors[name] = weight
    return tensors


def save(model: Qwen3, dims: Dimensions, folder: Path) -> None:
    """Write the checkpoint; the folder is made if it is missing."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copyfile(TOKENIZER / name, folder / name)
    added = json.loads((TOKENIZER / "tokenizer.json").read_text(encoding="utf-8"))["added_tokens"]
    ids = {token["content"]: token["id"] for token in added}
    for name, content in (("config.json", config(dims, ids)), ("generation_config.json", generation_config(ids))):
        (folder / name).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    save_file(released_tensors(model, dims), folder / "model.safetensors", metadata={"format": "pt"})


def load(model: Qwen3, folder: Path) -> None:
    """Read the weights of a checkpoint that `save` wrote into a model of the same dimensions."""
    stored = load_file(folder / "model.safetensors")
    state = {}
    for name, weight in model.state_dict().items():
        if ".experts." in name:
            stem, projection = name.rsplit(".", 1)
            parts = [stored[f"{stem}.{expert}.{projection}.weight"] for expert in range(len(weight))]
            state[name] = torch.stack(parts)
        else:
            state[name] = stored.get(name, stored["model.embed_tokens.weight"])
    model.load_state_dict(state)
