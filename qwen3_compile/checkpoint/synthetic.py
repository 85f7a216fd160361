"""Weights out of thin air: any architecture, deterministic, one tensor at a time.

Every tensor is a stream of 16-bit random numbers (Philox, keyed by SHA-256 of version, seed and name), each looked
up in a table of the 65,536 quantiles of a normal distribution rounded to bfloat16. So values are independent,
normal up to 4.3 standard deviations, and the same on every machine.

Matrices have the standard deviation 0.02 that transformers initializes Qwen3 with; those that write into the residual
stream (`o_proj`, `down_proj`) have 0.02 / sqrt(2 * layers), as GPT-2 does (Radford et al., 2019, section 2.3), so that
the stream does not grow with depth. Norm weights are 1 + normal(0.05).
"""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import asdict, dataclass, field
from functools import cached_property, lru_cache
from statistics import NormalDist
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import ml_dtypes
import numpy as np

from qwen3_compile.checkpoint.names import expected_tensors
from qwen3_compile.checkpoint.protocol import SourceFile, TensorInfo
from qwen3_compile.errors import CheckpointError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from numpy.typing import NDArray

    from qwen3_graphs.architecture import Architecture

GENERATOR_VERSION = 1  # part of every key: change it with the values
MATRIX_STD = 0.02
NORM_STD = 0.05

_BLOCK = 1 << 18  # elements generated at a time, a multiple of the four in a 64-bit number
_RESIDUAL_WRITERS = ("o_proj.weight", "down_proj.weight")


@dataclass(frozen=True)
class SyntheticCheckpoint:
    """A `Checkpoint` of bfloat16 tensors that exist only while they are read."""

    seed: int
    architecture: Architecture
    asset_paths: Mapping[str, Path] = field(default_factory=lambda: MappingProxyType({}))
    revision: None = None
    notes: tuple[str, ...] = ()

    @property
    def uri(self) -> str:
        """`synthetic://SEED`."""
        return f"synthetic://{self.seed}"

    def tensors(self) -> Mapping[str, TensorInfo]:
        """Every tensor of the architecture, with a head."""
        return self._infos

    @cached_property
    def _infos(self) -> Mapping[str, TensorInfo]:
        shapes = expected_tensors(self.architecture, has_head=True)
        return MappingProxyType({name: TensorInfo(shape, "bfloat16") for name, shape in shapes.items()})

    def read(self, name: str) -> NDArray[Any]:
        """Generate the bfloat16 tensor `name`."""
        info = self._infos.get(name)
        if info is None:
            raise CheckpointError(f"{self.uri}: no tensor is named {name!r}")
        if len(info.shape) == 1:
            table = _normal_table(1.0, NORM_STD)
        elif name.endswith(_RESIDUAL_WRITERS):
            table = _normal_table(0.0, MATRIX_STD / math.sqrt(2 * self.architecture.num_hidden_layers))
        else:
            table = _normal_table(0.0, MATRIX_STD)
        return _draw(info.shape, table, key=f"{GENERATOR_VERSION}/{self.seed}/{name}")

    def files(self) -> tuple[SourceFile, ...]:
        """One pseudo-file, whose hash identifies the generator, the seed and the architecture."""
        identity = {"generator": GENERATOR_VERSION, "seed": self.seed, "architecture": _identity(self.architecture)}
        digest = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()
        elements = sum(math.prod(info.shape) for info in self._infos.values())
        return (SourceFile("synthetic", 2 * elements, digest),)

    def assets(self) -> Mapping[str, Path]:
        """Tokenizer files, when the spec names some."""
        return self.asset_paths


def _identity(architecture: Architecture) -> dict[str, Any]:
    """The architecture's fields; those that came later count only where they are used, so that hashes stay."""
    values = asdict(architecture)
    later = {"rope_factor": 1.0, "dense_layers": ()}
    if values["yarn"] is not None and values["yarn"]["truncate"]:
        del values["yarn"]["truncate"]
    return {key: value for key, value in values.items() if key not in later or value != later[key]}


def _draw(shape: tuple[int, ...], table: NDArray[np.uint16], *, key: str) -> NDArray[Any]:
    stream = np.random.Philox(key=int.from_bytes(hashlib.sha256(key.encode()).digest()[:16], "little"))
    bits = np.empty(math.prod(shape), np.uint16)
    for begin in range(0, bits.size, _BLOCK):
        block = bits[begin : begin + _BLOCK]
        draws = stream.random_raw(-(-block.size // 4)).astype("<u8", copy=False).view("<u2")
        # "clip" only spares a bounds check: 16 bits cannot leave the table.
        np.take(table, draws[: block.size], out=block, mode="clip")
    values: NDArray[Any] = bits.view(ml_dtypes.bfloat16).reshape(shape)
    return values


@lru_cache(maxsize=8)
def _normal_table(mean: float, std: float) -> NDArray[np.uint16]:
    """Bits of the bfloat16 quantiles at (i + 0.5) / 65536 of normal(mean, std)."""
    quantiles = (mean + std * _standard_quantiles()).astype(np.float32)
    bits: NDArray[np.uint16] = quantiles.astype(ml_dtypes.bfloat16).view(np.uint16)
    return bits


@lru_cache(maxsize=1)
def _standard_quantiles() -> NDArray[np.float64]:
    normal = NormalDist()
    upper = np.array([normal.inv_cdf((i + 0.5) / 65536) for i in range(32768, 65536)])
    return np.concatenate([-upper[::-1], upper])
