"""Rewrites a bfloat16 checkpoint in E4M3, in the forms of the released FP8 checkpoints and of llm-compressor."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import torch
from safetensors.torch import load_file, save_file

if TYPE_CHECKING:
    from pathlib import Path

RELEASED = {
    "activation_scheme": "dynamic",
    "fmt": "e4m3",
    "modules_to_not_convert": ["lm_head"],
    "quant_method": "fp8",
    "weight_block_size": [128, 128],
}


def compressed(strategy: str) -> dict[str, object]:
    """What llm-compressor writes for schemes FP8_DYNAMIC (strategy channel) and FP8 with a scale a matrix (tensor)."""
    weights = {"num_bits": 8, "type": "float", "strategy": strategy, "symmetric": True, "dynamic": False}
    inputs = {"num_bits": 8, "type": "float", "strategy": "token", "symmetric": True, "dynamic": True}
    group = {"targets": ["Linear"], "weights": weights, "input_activations": inputs}
    scheme = {"config_groups": {"group_0": group}, "format": "float-quantized", "ignore": ["lm_head"]}
    return scheme | {"quant_method": "compressed-tensors"}


def rewrite(folder: Path, scheme: dict[str, object], scale_type: torch.dtype = torch.bfloat16) -> None:
    """Store every projection as E4M3 codes and scales of the scheme; scales are rounded to their type first."""
    state = load_file(folder / "model.safetensors")
    for name in [name for name in state if name.endswith("_proj.weight")]:
        weight = state[name].float()
        blocks = _blocks(weight, scheme)
        scale = (blocks.abs().amax((1, 3)) / 448).to(scale_type)
        codes = (
            (blocks / scale.float()[:, None, :, None]).clamp(-448, 448).reshape(blocks.shape[0] * blocks.shape[1], -1)
        )
        state[name] = codes[: weight.shape[0], : weight.shape[1]].to(torch.float8_e4m3fn).contiguous()
        if scheme["quant_method"] == "fp8":
            state[f"{name}_scale_inv"] = scale
        else:
            state[f"{name}_scale"] = scale.reshape(-1) if scale.numel() == 1 else scale
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"quantization_config": scheme}))


def _blocks(weight: torch.Tensor, scheme: dict[str, object]) -> torch.Tensor:
    """The matrix as [blocks of rows, rows, blocks of columns, columns], filled up with zeros."""
    rows, columns = weight.shape
    high, wide = 128, 128
    if scheme["quant_method"] == "compressed-tensors":
        strategy = scheme["config_groups"]["group_0"]["weights"]["strategy"]  # type: ignore[index]
        high, wide = {"channel": (1, columns), "tensor": (rows, columns), "block": (128, 128)}[strategy]
    padded = torch.zeros(-(-rows // high) * high, -(-columns // wide) * wide)
    padded[:rows, :columns] = weight
    return padded.reshape(padded.shape[0] // high, high, padded.shape[1] // wide, wide)
