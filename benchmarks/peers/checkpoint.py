"""The weights that every contender is made of: synthetic ones, written in the released format."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from safetensors.numpy import save_file

from qwen3_compile.checkpoint.synthetic import SyntheticCheckpoint
from qwen3_compile.spec import find_spec, load_spec

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from numpy.typing import NDArray

    from qwen3_graphs.architecture import Architecture

SEED = 1
SHARD_BYTES = 1 << 30
TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json")


@dataclass(frozen=True)
class Dimensions:
    """Where a checkpoint's dimensions come from: a shipped spec, and what is changed of it."""

    spec: str
    overrides: tuple[str, ...] = ()


CHECKPOINTS = {
    "dense": Dimensions("qwen3-0.6b"),
    "moe": Dimensions("qwen3-30b-a3b", ("model.architecture.num_hidden_layers=4",)),
}


def write_checkpoint(name: str, folder: Path) -> None:
    """Write the checkpoint `name`, a key of `CHECKPOINTS`, as a released one; the folder appears when it is whole."""
    dimensions = CHECKPOINTS[name]
    architecture = load_spec(find_spec(dimensions.spec), dimensions.overrides).graph_architecture()
    synthetic = SyntheticCheckpoint(SEED, architecture)
    partial = folder.with_name(f"{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    shards: list[tuple[str, ...]] = []
    for tensors in _shards(synthetic):
        save_file(tensors, partial / f"part-{len(shards)}.safetensors", metadata={"format": "pt"})
        shards.append(tuple(tensors))
    _name_shards(partial, shards)
    _write_json(partial / "config.json", released_config(architecture))
    partial.rename(folder)


def add_tokenizer(tokenizer: Path, folder: Path) -> None:
    """Copy `TOKENIZER_FILES` into a checkpoint; some exporters want them although all measuring is by token ids."""
    for file in TOKENIZER_FILES:
        shutil.copyfile(tokenizer / file, folder / file)


def released_config(architecture: Architecture) -> dict[str, Any]:
    """The `config.json` of a released Qwen3 model of these dimensions, as transformers 4 wrote it."""
    a = architecture
    experts = {
        "decoder_sparse_step": 1,
        "mlp_only_layers": list(a.dense_layers),
        "moe_intermediate_size": a.moe_intermediate_size,
        "norm_topk_prob": a.norm_topk_prob,
        "num_experts": a.num_experts,
        "num_experts_per_tok": a.num_experts_per_tok,
    }
    return {
        "architectures": ["Qwen3MoeForCausalLM" if a.is_moe else "Qwen3ForCausalLM"],
        "attention_bias": False,
        "bos_token_id": 151643,
        "eos_token_id": 151645,
        **(experts if a.is_moe else {}),
        "head_dim": a.head_dim,
        "hidden_act": "silu",
        "hidden_size": a.hidden_size,
        "intermediate_size": a.intermediate_size,
        "max_position_embeddings": a.max_position_embeddings,
        "max_window_layers": a.num_hidden_layers,
        "model_type": "qwen3_moe" if a.is_moe else "qwen3",
        "num_attention_heads": a.num_attention_heads,
        "num_hidden_layers": a.num_hidden_layers,
        "num_key_value_heads": a.num_key_value_heads,
        "rms_norm_eps": a.rms_norm_eps,
        "rope_scaling": None,
        "rope_theta": a.rope_theta,
        "sliding_window": None,
        "tie_word_embeddings": a.tie_word_embeddings,
        "torch_dtype": "bfloat16",
        "use_sliding_window": False,
        "vocab_size": a.vocab_size,
    }


def _shards(checkpoint: SyntheticCheckpoint) -> Iterator[dict[str, NDArray[Any]]]:
    """Tensors in the order of computation, as many at a time as fit into a shard."""
    shard: dict[str, NDArray[Any]] = {}
    for name in checkpoint.tensors():
        if sum(tensor.nbytes for tensor in shard.values()) >= SHARD_BYTES:
            yield shard
            shard = {}
        shard[name] = checkpoint.read(name)
    yield shard


def _name_shards(folder: Path, shards: list[tuple[str, ...]]) -> None:
    """Give the parts their released names, and an index where there are several."""
    weight_map = {}
    for number, names in enumerate(shards):
        of = f"-{number + 1:05}-of-{len(shards):05}" if len(shards) > 1 else ""
        final = f"model{of}.safetensors"
        (folder / f"part-{number}.safetensors").rename(folder / final)
        weight_map.update(dict.fromkeys(names, final))
    if len(shards) > 1:
        _write_json(folder / "model.safetensors.index.json", {"metadata": {}, "weight_map": weight_map})


def _write_json(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
