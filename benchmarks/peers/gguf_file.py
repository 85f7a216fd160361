"""A released Qwen3 checkpoint as a GGUF file, without PyTorch: python -m peers.gguf_file FOLDER RESULT KIND [--pure].

Matrices stay bfloat16 until llama.cpp itself quantizes them. The file carries no tokenizer: all measuring is by ids.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gguf
import numpy as np

from peers.llama_model import FILE_TYPES, quantize

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

EXPERT_PARTS = ("gate_proj", "up_proj", "down_proj")


@dataclass(frozen=True)
class Tensor:
    """A tensor of the GGUF file: its stored name, its shape, and the checkpoint's tensors stacked in it."""

    name: str
    shape: tuple[int, ...]
    sources: tuple[str, ...]

    @property
    def is_matrix(self) -> bool:
        """Whether it stays bfloat16; llama.cpp wants vectors and routers in float32."""
        return len(self.shape) > 1 and not self.name.endswith("ffn_gate_inp.weight")

    @property
    def nbytes(self) -> int:
        """Bytes in the file."""
        return int(np.prod(self.shape)) * (2 if self.is_matrix else 4)


class Checkpoint:
    """bfloat16 tensors of a safetensors folder by name, as their bits."""

    def __init__(self, folder: Path) -> None:
        self.config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        self._places: dict[str, tuple[Path, int, tuple[int, ...]]] = {}
        for path in sorted(folder.glob("*.safetensors")):
            with path.open("rb") as file:
                length = int.from_bytes(file.read(8), "little")
                header = json.loads(file.read(length))
            header.pop("__metadata__", None)
            for name, entry in header.items():
                if entry["dtype"] != "BF16":
                    message = f"{path}: {name} is {entry['dtype']}, expected BF16"
                    raise ValueError(message)
                self._places[name] = (path, 8 + length + entry["data_offsets"][0], tuple(entry["shape"]))

    def __contains__(self, name: str) -> bool:
        return name in self._places

    def shape(self, name: str) -> tuple[int, ...]:
        """The shape of a tensor."""
        return self._places[name][2]

    def bits(self, name: str) -> NDArray[np.uint16]:
        """A tensor, mapped from its file."""
        path, offset, shape = self._places[name]
        return np.memmap(path, np.uint16, "r", offset, shape)


def main() -> None:
    """Write the file that the arguments ask for."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("result", type=Path)
    parser.add_argument("kind", choices=(*FILE_TYPES, "bf16"))
    parser.add_argument("--pure", action="store_true")
    parser.add_argument("--threads", type=int, default=2)
    a = parser.parse_args()
    if a.kind == "bf16":
        write_bf16(Checkpoint(a.folder), a.result)
        return
    floats = a.result.with_name(f"{a.result.name}.bf16")
    try:
        write_bf16(Checkpoint(a.folder), floats)
        quantize(floats, a.result, a.kind, pure=a.pure, threads=a.threads)
    finally:
        floats.unlink(missing_ok=True)


def write_bf16(checkpoint: Checkpoint, path: Path) -> None:
    """Write a checkpoint tensor by tensor."""
    kind = gguf.MODEL_ARCH.QWEN3MOE if "num_experts" in checkpoint.config else gguf.MODEL_ARCH.QWEN3
    writer = gguf.GGUFWriter(path, gguf.MODEL_ARCH_NAMES[kind])
    add_metadata(writer, checkpoint.config)
    tensors = list(list_tensors(checkpoint, gguf.get_tensor_name_map(kind, checkpoint.config["num_hidden_layers"])))
    for tensor in tensors:
        stored = gguf.GGMLQuantizationType.BF16 if tensor.is_matrix else gguf.GGMLQuantizationType.F32
        writer.add_tensor_info(tensor.name, tensor.shape, np.dtype(np.float32), tensor.nbytes, stored)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    for tensor in tensors:
        bits = np.stack([checkpoint.bits(name) for name in tensor.sources])
        writer.write_tensor_data(bits if tensor.is_matrix else widened(bits))
    writer.close()


def add_metadata(writer: gguf.GGUFWriter, config: dict[str, Any]) -> None:
    """The dimensions, under the keys that llama.cpp reads for Qwen3."""
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(config["num_attention_heads"])
    writer.add_head_count_kv(config["num_key_value_heads"])
    writer.add_key_length(config["head_dim"])
    writer.add_value_length(config["head_dim"])
    writer.add_rope_freq_base(config["rope_theta"])
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_vocab_size(config["vocab_size"])
    writer.add_tokenizer_model("no_vocab")
    if "num_experts" in config:
        writer.add_expert_count(config["num_experts"])
        writer.add_expert_used_count(config["num_experts_per_tok"])
        writer.add_expert_feed_forward_length(config["moe_intermediate_size"])


def list_tensors(checkpoint: Checkpoint, names: gguf.TensorNameMap) -> Iterator[Tensor]:
    """Every tensor of the file; a layer's experts are stacked to one for each projection."""
    config = checkpoint.config

    def tensor(name: str, sources: tuple[str, ...]) -> Tensor:
        found = names.get_name(f"{name}.weight", try_suffixes=(".weight",))
        shape = checkpoint.shape(sources[0])
        return Tensor(str(found), (len(sources), *shape) if len(sources) > 1 else shape, sources)

    parts = ["input_layernorm", "post_attention_layernorm"]
    parts += [f"self_attn.{part}" for part in ("q_proj", "k_proj", "v_proj", "o_proj", "q_norm", "k_norm")]
    parts += ["mlp.gate"] if "num_experts" in config else [f"mlp.{part}" for part in EXPERT_PARTS]
    outside = ["model.embed_tokens", "model.norm", "lm_head"]
    inside = [f"model.layers.{layer}.{part}" for layer in range(config["num_hidden_layers"]) for part in parts]
    for name in (*outside, *inside):
        if f"{name}.weight" in checkpoint:  # a tied head is not stored
            yield tensor(name, (f"{name}.weight",))
    for layer in range(config["num_hidden_layers"] if "num_experts" in config else 0):
        stem = f"model.layers.{layer}.mlp.experts"
        for part in EXPERT_PARTS:
            experts = range(config["num_experts"])
            yield tensor(f"{stem}.{part}", tuple(f"{stem}.{expert}.{part}.weight" for expert in experts))


def widened(bits: NDArray[np.uint16]) -> NDArray[np.float32]:
    """The float32 values of bfloat16 bits."""
    return (bits.astype(np.uint32) << 16).view(np.float32)


if __name__ == "__main__":
    main()
