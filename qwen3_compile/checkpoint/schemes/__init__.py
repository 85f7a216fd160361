"""How checkpoints store their matrices: one module for each scheme, and one list.

A further scheme is a module with a `SCHEME` and its place in `SCHEMES`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qwen3_compile.checkpoint.schemes import compressed_float8, modelopt_awq, modelopt_fp8, plain, released_fp8
from qwen3_compile.checkpoint.schemes.scheme import Scheme, StoredFormat, StoredWeight
from qwen3_compile.errors import CheckpointError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from qwen3_compile.checkpoint.safetensors_file import StoredTensor

__all__ = ["SCHEMES", "Scheme", "StoredFormat", "StoredWeight", "stated_scheme", "stored_scheme"]

# The first that says yes reads: a narrow one stands before a wide one.
SCHEMES: tuple[Scheme, ...] = (
    released_fp8.SCHEME,
    compressed_float8.SCHEME,
    modelopt_awq.SCHEME,
    modelopt_fp8.SCHEME,
    plain.SCHEME,
)
_TOLD_APART_BY = ("quant_method", "quant_algo", "format")
_INSTEAD = "use the bfloat16 release and let the spec's precision quantize it"


def stated_scheme(stated: Mapping[str, Any], *, where: str) -> Scheme:
    """The scheme of a `quantization_config`.

    Args:
        stated: the object.
        where: the config.json, for errors.

    Raises:
        CheckpointError: no scheme reads it, or not with these values.
    """
    scheme = next((scheme for scheme in SCHEMES if scheme.is_stated(stated)), None)
    if scheme is None:
        found = ", ".join(f"{key} {stated[key]!r}" for key in _TOLD_APART_BY if key in stated) or "none of its keys"
        raise CheckpointError(
            f"{where}: quantization_config: expected {_names()}; found {found}, which is not supported yet; {_INSTEAD}"
        )
    for problem in scheme.problems(stated):
        raise CheckpointError(f"{where}: quantization_config: {problem}; {_INSTEAD}")
    return scheme


def stored_scheme(tensors: Mapping[str, StoredTensor]) -> Scheme:
    """The scheme of a checkpoint whose config.json has no `quantization_config`, by its tensors.

    One that no scheme claims is taken for plain; its tensors are then refused one by one.
    """
    return next((scheme for scheme in SCHEMES if scheme.is_stored(tensors)), plain.SCHEME)


def _names() -> str:
    *first, last = (scheme.name for scheme in SCHEMES)
    return f"{', '.join(first)} or {last}"
