"""`quant_method: compressed-tensors` with eight-bit floats: llm-compressor's FP8, FP8_DYNAMIC and FP8_BLOCK."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qwen3_compile.checkpoint.schemes.float8 import take_float8
from qwen3_compile.checkpoint.schemes.scheme import Scheme, StoredFormat, differences
from qwen3_compile.quantize.float8 import BLOCK

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_WEIGHTS: dict[str, tuple[Any, ...]] = {
    "type": ("float",),
    "num_bits": (8,),
    "symmetric": (True,),
    "strategy": ("tensor", "channel", "block"),
    "block_structure": ([BLOCK, BLOCK], None),
}
_STATIC_INPUTS: dict[str, tuple[Any, ...]] = {
    "type": ("float",),
    "num_bits": (8,),
    "symmetric": (True,),
    "strategy": ("tensor",),
}


def _problems(stated: Mapping[str, Any]) -> Iterator[str]:
    groups = stated.get("config_groups")
    if not isinstance(groups, dict) or not groups:
        yield f"config_groups is {groups!r}, expected the schemes of the weights"
        return
    for name, group in groups.items():
        weights = group.get("weights") if isinstance(group, dict) else None
        if not isinstance(weights, dict):
            yield f"{name}: weights is {weights!r}, expected their scheme"
            continue
        yield from (f"{name}: {problem}" for problem in differences(weights, _WEIGHTS, of=" of weights"))
        inputs = group.get("input_activations")
        # Dynamic ones are the engine's choice.
        if isinstance(inputs, dict) and inputs.get("dynamic") not in (True, "local"):
            found = differences(inputs, _STATIC_INPUTS, of=" of static input_activations")
            yield from (f"{name}: {problem}" for problem in found)


def _format(stated: Mapping[str, Any]) -> StoredFormat:
    strategies = {group["weights"].get("strategy") for group in stated["config_groups"].values()}
    # One scale for a whole matrix is one for each of its rows.
    return StoredFormat("fp8", fp8_scales="block" if "block" in strategies else "channel")


SCHEME = Scheme(
    name="compressed-tensors float8",
    is_stated=lambda stated: stated.get("quant_method") == "compressed-tensors",
    is_stored=lambda _: False,  # its tensors alone look like ModelOpt's, and are read alike
    problems=_problems,
    format_of=_format,
    take=take_float8,
)
