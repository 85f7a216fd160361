"""A checkpoint in a folder: config.json and one or many safetensors files, as Qwen releases them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from qwen3_compile.checkpoint.config import check_expected, read_architecture
from qwen3_compile.checkpoint.contract import SourceFile, TensorInfo
from qwen3_compile.checkpoint.digest import source_file
from qwen3_compile.checkpoint.float8 import E4M3, StoredFloat8, take_scales
from qwen3_compile.checkpoint.input_scales import is_cache_scale, read_input_scale, take_input_scales
from qwen3_compile.checkpoint.int4 import StoredInt4, take_int4
from qwen3_compile.checkpoint.json_file import read_json_object
from qwen3_compile.checkpoint.names import (
    EMBEDDING,
    HEAD,
    canonical_tensors,
    expected_tensors,
    is_rotary_buffer,
    lacks_model_prefix,
)
from qwen3_compile.checkpoint.safetensors_file import INT4, NUMPY_TYPES, StoredTensor, read_header
from qwen3_compile.errors import CheckpointError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from qwen3_compile.quantize import Stored
    from qwen3_graphs.architecture import Architecture

    Look: TypeAlias = Callable[[Mapping[str, Path]], object]  # takes the files that travel with the engine, by name

CONFIG = "config.json"
SINGLE = "model.safetensors"
INDEX = "model.safetensors.index.json"
ELEMENT_TYPES = {"BF16": "bfloat16", "F16": "float16", "F32": "float32", E4M3: "float8_e4m3fn", INT4: "int4"}
TOKENIZER_ASSETS = ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja")
MODEL_ASSETS = ("generation_config.json",)
# Files of older writers that may declare tokens, which the engine's tokenizer.json gets.
TOKENIZER_SOURCES = ("added_tokens.json", "special_tokens_map.json")

# 480B with 160 experts a layer names 30,000 tensors in 3 MB.
MAX_INDEX_BYTES = 64_000_000


@dataclass(frozen=True)
class DirectoryCheckpoint:
    """A `Checkpoint` whose tensors are views of files in one folder."""

    uri: str
    revision: str | None
    architecture: Architecture
    stored: Mapping[str, StoredTensor]
    float8: Mapping[str, StoredFloat8]
    int4: Mapping[str, StoredInt4]
    input_scales: Mapping[str, StoredTensor]
    paths: tuple[Path, ...]
    asset_paths: Mapping[str, Path]

    def tensors(self) -> Mapping[str, TensorInfo]:
        """Every tensor by canonical name."""
        return self._infos

    @cached_property
    def _infos(self) -> Mapping[str, TensorInfo]:
        infos = {name: TensorInfo(t.shape, ELEMENT_TYPES[t.dtype]) for name, t in self.stored.items()}
        scales = {name: TensorInfo(_squeezed(t.shape), "float32") for name, t in self.input_scales.items()}
        return MappingProxyType(infos | scales)

    def read(self, name: str) -> Stored:
        """A read-only view of the tensor `name` in its file; of a quantised matrix, its codes and scales."""
        if name in self.float8:
            return self.float8[name].read(name)
        if name in self.int4:
            return self.int4[name].read(name)
        if name in self.input_scales:
            return read_input_scale(self.input_scales[name], name)
        tensor = self.stored.get(name)
        if tensor is None:
            raise CheckpointError(f"{self.uri}: no tensor is named {name!r}")
        return tensor.view()

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
            f"{folder}: no such folder (model source {uri!r}; a relative one counts from the folder of the spec)"
        )
    config = folder / CONFIG
    architecture = read_architecture(config)
    if expected is not None:
        check_expected(architecture, expected, where=str(config))
    assets = find_assets(folder, TOKENIZER_ASSETS + MODEL_ASSETS)
    if look is not None:
        look(assets)

    weights, paths = _read_weights(folder)
    has_head = not lacks_model_prefix(weights)
    canonical = canonical_tensors(weights).items()
    tensors = {name: t for name, t in canonical if not is_rotary_buffer(name) and not is_cache_scale(name)}
    float8, int4 = take_scales(tensors), take_int4(tensors)
    input_scales = take_input_scales(tensors, float8)
    if architecture.tie_word_embeddings:
        _drop_tied_head(tensors, float8)
    shapes = expected_tensors(architecture, has_head=has_head)
    _verify(tensors, shapes, where=str(paths[0] if len(paths) == 1 else folder))
    return DirectoryCheckpoint(
        uri=uri,
        revision=revision,
        architecture=architecture,
        stored=MappingProxyType({name: tensors[name] for name in shapes}),
        float8=MappingProxyType(float8),
        int4=MappingProxyType(int4),
        input_scales=MappingProxyType(input_scales),
        paths=(config, *paths),
        asset_paths=MappingProxyType(assets),
    )


def find_assets(folder: Path, names: Sequence[str]) -> dict[str, Path]:
    """Those of `names` that are files in `folder`."""
    return {name: folder / name for name in names if (folder / name).is_file()}


def _read_weights(folder: Path) -> tuple[dict[str, StoredTensor], tuple[Path, ...]]:
    """Stored tensors by stored name, and the files that they and their index are in (index first)."""
    single, index = folder / SINGLE, folder / INDEX
    # The order in which transformers looks for them.
    if single.is_file():
        return dict(read_header(single)), (single,)
    if index.is_file():
        return _read_shards(folder, index)
    pickled = next(iter(sorted(folder.glob("pytorch_model*.bin"))), None)
    if pickled is not None:
        raise CheckpointError(f"{pickled}: pickled weights can run code and are not read; convert them to safetensors")
    raise CheckpointError(f"{folder}: holds neither {SINGLE} nor {INDEX}")


def read_weight_map(index: Path) -> dict[str, str]:
    """Stored tensor name to shard file name, as the index says; every shard is a plain file name.

    Raises:
        CheckpointError: the index is damaged, or names something other than a file beside it.
    """
    weight_map = read_json_object(index, max_bytes=MAX_INDEX_BYTES).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise CheckpointError(f"{index}: weight_map is missing or empty")
    for name, shard in weight_map.items():
        if not isinstance(shard, str) or shard in ("", ".", "..") or set(shard) & set("/\\:\0"):
            raise CheckpointError(
                f"{index}: {name!r} is in {shard!r}, which is not the name of a file beside the index"
            )
    return weight_map


def _read_shards(folder: Path, index: Path) -> tuple[dict[str, StoredTensor], tuple[Path, ...]]:
    weight_map = read_weight_map(index)
    tensors: dict[str, StoredTensor] = {}
    shards = sorted(set(weight_map.values()))
    for shard in shards:
        path = folder / shard
        if not path.is_file():
            raise CheckpointError(f"{path}: missing, but {INDEX} names it; download it again")
        held = read_header(path)
        for name in held:
            if weight_map.get(name) != shard:
                place = repr(weight_map[name]) if name in weight_map else "no shard"
                raise CheckpointError(f"{path}: holds {name!r}, which {INDEX} places in {place}")
        tensors.update(held)
    absent = [name for name in weight_map if name not in tensors]
    if absent:
        raise CheckpointError(f"{folder / weight_map[absent[0]]}: does not hold {_listed(absent)}, as {INDEX} says")
    return tensors, (index, *(folder / shard for shard in shards))


def _drop_tied_head(tensors: dict[str, StoredTensor], float8: dict[str, StoredFloat8]) -> None:
    """A tied head may be stored as well, but only as the embedding's equal: otherwise which of the two is meant?"""
    head, embedding = tensors.pop(HEAD, None), tensors.get(EMBEDDING)
    scaled_head, scaled_embedding = float8.pop(HEAD, None), float8.get(EMBEDDING)
    if head is None or embedding is None:
        return
    pairs = [(head, embedding)]
    if scaled_head is not None and scaled_embedding is not None:
        pairs.append((scaled_head.scales, scaled_embedding.scales))
    if not all(_same(*pair) for pair in pairs):
        raise CheckpointError(
            f"{head.path}: {HEAD} differs from {EMBEDDING}, but tie_word_embeddings is true in {CONFIG};"
            " set it to false there if the head is meant"
        )


def _squeezed(shape: tuple[int, ...]) -> tuple[int, ...]:
    """The shape that `read_input_scale` gives: a single number is a scalar."""
    return () if shape == (1,) else shape


def _same(first: StoredTensor, second: StoredTensor) -> bool:
    kinds_agree = (first.dtype, first.shape) == (second.dtype, second.shape)
    return (
        kinds_agree
        and first.dtype in NUMPY_TYPES
        and _equal_bytes(np.atleast_1d(first.view()), np.atleast_1d(second.view()))
    )


def _equal_bytes(first: NDArray[Any], second: NDArray[Any]) -> bool:
    rows = max(1, (1 << 22) // max(1, first[:1].nbytes))
    return all(
        np.array_equal(first[row : row + rows].view(np.uint8), second[row : row + rows].view(np.uint8))
        for row in range(0, len(first), rows)
    )


def _verify(tensors: Mapping[str, StoredTensor], shapes: Mapping[str, tuple[int, ...]], *, where: str) -> None:
    missing = [name for name in shapes if name not in tensors]
    extra = [name for name in tensors if name not in shapes]
    shared = [name for name in shapes if name in tensors]
    misshapen = [
        f"{name} {list(tensors[name].shape)} instead of {list(shapes[name])}"
        for name in shared
        if tensors[name].shape != shapes[name]
    ]
    mistyped = [f"{name} {tensors[name].dtype}" for name in shared if tensors[name].dtype not in ELEMENT_TYPES]
    problems = (
        ("missing", missing),
        ("not of this architecture", extra),
        ("of the wrong shape", misshapen),
        (f"of a type other than {', '.join(ELEMENT_TYPES)}", mistyped),
    )
    found = [f"{len(names)} {kind}: {_listed(names)}" for kind, names in problems if names]
    if found:
        raise CheckpointError(f"{where}: tensors do not match {CONFIG}: {'; '.join(found)}")


def _listed(names: Sequence[str], limit: int = 3) -> str:
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(names[:limit]) + more
