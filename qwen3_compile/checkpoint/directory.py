"""A checkpoint in a folder: config.json and one or many safetensors files, as Qwen releases them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from types import MappingProxyType
from typing import TYPE_CHECKING, TypeAlias

from qwen3_compile.checkpoint.adapter import ADAPTER_CONFIG, refuse_adapter, refuse_lora_tensors
from qwen3_compile.checkpoint.config import check_expected, read_architecture, read_quantization
from qwen3_compile.checkpoint.digest import source_file
from qwen3_compile.checkpoint.input_scales import is_cache_scale, take_input_scales
from qwen3_compile.checkpoint.names import (
    HEAD,
    canonical_tensors,
    expected_tensors,
    is_rotary_buffer,
    lacks_model_prefix,
    listed,
    wrappers,
)
from qwen3_compile.checkpoint.protocol import SourceFile, TensorInfo
from qwen3_compile.checkpoint.safetensors_file import FLOAT64
from qwen3_compile.checkpoint.schemes import StoredWeight, stored_scheme
from qwen3_compile.checkpoint.schemes.plain import ELEMENT_TYPES, StoredFloats
from qwen3_compile.checkpoint.shards import INDEX, SINGLE, read_weights
from qwen3_compile.checkpoint.tied_head import take_tied_head
from qwen3_compile.errors import CheckpointError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from qwen3_compile.quantize import Stored
    from qwen3_graphs.architecture import Architecture

    Look: TypeAlias = Callable[[Mapping[str, Path]], object]  # takes the files that travel with the engine, by name

CONFIG = "config.json"
TOKENIZER_ASSETS = ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja")
MODEL_ASSETS = ("generation_config.json",)
# Files of older writers that may declare tokens, which the engine's tokenizer.json gets.
TOKENIZER_SOURCES = ("added_tokens.json", "special_tokens_map.json")
TOKENIZER_FILES = TOKENIZER_ASSETS + TOKENIZER_SOURCES


@dataclass(frozen=True)
class DirectoryCheckpoint:
    """A `Checkpoint` whose tensors are views of files in one folder."""

    uri: str
    revision: str | None
    architecture: Architecture
    stored: Mapping[str, StoredWeight]
    paths: tuple[Path, ...]
    asset_paths: Mapping[str, Path]
    notes: tuple[str, ...] = ()

    def tensors(self) -> Mapping[str, TensorInfo]:
        """Every tensor by canonical name."""
        return self._infos

    @cached_property
    def _infos(self) -> Mapping[str, TensorInfo]:
        infos = {name: TensorInfo(weight.shape, weight.element_type) for name, weight in self.stored.items()}
        return MappingProxyType(infos)

    def read(self, name: str) -> Stored:
        """A read-only view of the tensor `name` in its file; of a quantized matrix, its codes and scales."""
        weight = self.stored.get(name)
        if weight is None:
            raise CheckpointError(f"{self.uri}: no tensor is named {name!r}")
        return weight.read(name)

    def files(self) -> tuple[SourceFile, ...]:
        """Configuration, index and weight files, hashed on first call."""
        return tuple(source_file(path) for path in self.paths)

    def assets(self) -> Mapping[str, Path]:
        """Tokenizer and generation files beside the weights, those that exist."""
        return self.asset_paths


def open_directory(
    folder: Path,
    *,
    uri: str,
    revision: str | None = None,
    expected: Architecture | None = None,
    look: Look | None = None,
) -> DirectoryCheckpoint:
    """Open the checkpoint in `folder`; only configuration and headers are read.

    Args:
        folder: holds the files.
        uri: where they come from.
        revision: commit hash on the hub.
        expected: what the spec expects of config.json.
        look: called with the assets before a file of weights is opened; what it raises ends the opening.

    Raises:
        CheckpointError: anything in the folder is missing, damaged, or not what config.json or `expected` say.
    """
    if not folder.is_dir():
        raise CheckpointError(
            f"{folder}: no such folder (model source {uri!r}; a relative path starts at the folder of the spec)"
        )
    config = folder / CONFIG
    refuse_adapter(folder, has_model=config.is_file() and any((folder / name).is_file() for name in (SINGLE, INDEX)))
    architecture = read_architecture(config)
    if expected is not None:
        check_expected(architecture, expected, where=str(config))
    assets = find_assets(folder, TOKENIZER_ASSETS + MODEL_ASSETS)
    if look is not None:
        look(assets)

    notes = ["the adapter beside the model is not applied"] if (folder / ADAPTER_CONFIG).is_file() else []
    held, paths = read_weights(folder, tied=architecture.tie_word_embeddings, notes=notes)
    where = str(paths[0] if len(paths) == 1 else folder)
    refuse_lora_tensors(held, where=where)
    if left_out := wrappers(held):
        notes.append(f"{listed(left_out)} removed from tensor names")
    canonical = canonical_tensors(held).items()
    has_head = not lacks_model_prefix(held) or any(name == HEAD for name, _ in canonical)
    tensors = {name: t for name, t in canonical if not is_rotary_buffer(name) and not is_cache_scale(name)}
    quantization = read_quantization(config)
    scheme = stored_scheme(tensors) if quantization is None else quantization[0]
    matrices = scheme.take(tensors)
    weights = {name: StoredFloats(tensor) for name, tensor in tensors.items()} | dict(matrices)
    input_scales = take_input_scales(weights)
    if architecture.tie_word_embeddings:
        take_tied_head(weights, notes)
    shapes = expected_tensors(architecture, has_head=has_head)
    if wide := [name for name in shapes if name in weights and weights[name].parts[0].dtype == FLOAT64]:
        notes.append(f"{len(wide)} tensors are float64 and are rounded to float32: {listed(wide)}")
    _verify(weights, shapes, where=where)
    return DirectoryCheckpoint(
        uri=uri,
        revision=revision,
        architecture=architecture,
        stored=MappingProxyType({name: weights[name] for name in shapes} | dict(input_scales)),
        paths=(config, *paths),
        asset_paths=MappingProxyType(assets),
        notes=tuple(notes),
    )


def find_assets(folder: Path, names: Sequence[str]) -> dict[str, Path]:
    """Those of `names` that are files in `folder`."""
    return {name: folder / name for name in names if (folder / name).is_file()}


def _verify(weights: Mapping[str, StoredWeight], shapes: Mapping[str, tuple[int, ...]], *, where: str) -> None:
    missing = [name for name in shapes if name not in weights]
    extra = [name for name in weights if name not in shapes]
    shared = {name: weights[name] for name in shapes if name in weights}
    misshapen = [
        f"{name} {list(weight.shape)} instead of {list(shapes[name])}"
        for name, weight in shared.items()
        if weight.shape != shapes[name]
    ]
    mistyped = [
        f"{name} {weight.tensor.dtype}"
        for name, weight in shared.items()
        if isinstance(weight, StoredFloats) and weight.tensor.dtype not in ELEMENT_TYPES
    ]
    problems = (
        ("missing", missing),
        ("not of this architecture", extra),
        ("of the wrong shape", misshapen),
        (f"neither {', '.join(ELEMENT_TYPES)} nor of the checkpoint's quantization_config", mistyped),
    )
    found = [f"{len(names)} {kind}: {listed(names)}" for kind, names in problems if names]
    if found:
        raise CheckpointError(f"{where}: tensors do not match {CONFIG}: {'; '.join(found)}")
