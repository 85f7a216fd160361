"""`quant_method: modelopt`, `quant_algo: FP8`: NVIDIA's ModelOpt in E4M3, a scale for each matrix or each row."""

from __future__ import annotations

from qwen3_compile.checkpoint.schemes.float8 import holds_float8, take_float8
from qwen3_compile.checkpoint.schemes.scheme import Scheme, StoredFormat

_ALGORITHMS = ("FP8", "FP8_PER_CHANNEL_PER_TOKEN")

SCHEME = Scheme(
    name=f"modelopt {' / '.join(_ALGORITHMS)}",
    is_stated=lambda stated: stated.get("quant_method") == "modelopt" and stated.get("quant_algo") in _ALGORITHMS,
    # Older releases state it in hf_quant_config.json alone.
    is_stored=holds_float8,
    problems=lambda _: (),
    format_of=lambda _: StoredFormat("fp8", fp8_scales="channel"),  # one for a whole matrix is one for each of its rows
    take=take_float8,
)
