"""`quant_method: fp8`: the released Qwen3-*-FP8, whose scales are called `weight_scale_inv`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qwen3_compile.checkpoint.schemes.float8 import holds_float8, take_float8
from qwen3_compile.checkpoint.schemes.scheme import Scheme, StoredFormat, differences
from qwen3_compile.quantize.float8 import BLOCK

if TYPE_CHECKING:
    from collections.abc import Mapping

_ACCEPTED: dict[str, tuple[Any, ...]] = {
    "fmt": ("e4m3",),
    # How inputs are quantized is the engine's choice; one scale of a matrix's input can be stored.
    "activation_scheme": ("dynamic", "static"),
    "weight_block_size": ([BLOCK, BLOCK], None),
}


def _format(stated: Mapping[str, Any]) -> StoredFormat:
    # One scale for a whole matrix is one for each of its rows.
    return StoredFormat("fp8", fp8_scales="block" if stated.get("weight_block_size") else "channel")


SCHEME = Scheme(
    name="fp8",
    is_stated=lambda stated: stated.get("quant_method") == "fp8",
    is_stored=lambda tensors: holds_float8(tensors) and any(name.endswith("_scale_inv") for name in tensors),
    problems=lambda stated: differences(stated, _ACCEPTED),
    format_of=_format,
    take=take_float8,
)
