"""What every checkpoint is to the rest of the compiler, wherever its tensors come from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from qwen3_compile.quantize import Stored
    from qwen3_graphs.architecture import Architecture


@dataclass(frozen=True)
class TensorInfo:
    """A tensor's shape and stored type, without its bytes: bfloat16, float16, float32, float8_e4m3fn, int4 or uint4."""

    shape: tuple[int, ...]
    dtype: str


@dataclass(frozen=True)
class SourceFile:
    """A file that defines the model: its name in the checkpoint, its size in bytes and its SHA-256 in hex."""

    name: str
    size: int
    sha256: str


class Checkpoint(Protocol):
    """The weights and configuration of one model; tensors are read one at a time and never kept."""

    @property
    def uri(self) -> str:
        """Where it comes from, with the revision pinned; a path as the spec writes it."""

    @property
    def revision(self) -> str | None:
        """Commit hash of a checkpoint on the Hugging Face Hub, else None."""

    @property
    def architecture(self) -> Architecture:
        """The dimensions that its config.json states; `yarn` only when that file asks for it."""

    @property
    def notes(self) -> tuple[str, ...]:
        """What is unusual about how the weights are stored, and was understood: for the build's report."""

    def tensors(self) -> Mapping[str, TensorInfo]:
        """Every tensor by its canonical (released) name."""

    def read(self, name: str) -> Stored:
        """The tensor `name` as stored: bfloat16 (ml_dtypes), float16 or float32, shaped as `tensors()` says.

        Returns:
            A new array or a read-only view of the file, or the codes and scales of a quantized matrix; nothing
            else becomes resident.

        Raises:
            CheckpointError: no tensor has this name, or its file changed since the checkpoint was opened.
        """

    def files(self) -> tuple[SourceFile, ...]:
        """Every file that defines the model (configuration and weights), hashed on first call."""

    def assets(self) -> Mapping[str, Path]:
        """Files that travel with the engine (tokenizer, generation defaults, chat template), those that exist."""
