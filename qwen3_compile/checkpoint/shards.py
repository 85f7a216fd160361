"""The weight files of a folder: one, or those that an index names."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qwen3_compile.checkpoint.json_file import read_json_object
from qwen3_compile.checkpoint.names import EMBEDDING, HEAD, listed, unwrapped
from qwen3_compile.checkpoint.safetensors_file import StoredTensor, read_header
from qwen3_compile.errors import CheckpointError

if TYPE_CHECKING:
    from pathlib import Path

SINGLE = "model.safetensors"
INDEX = "model.safetensors.index.json"

# 480B with 160 experts a layer names 30,000 tensors in 3 MB.
_MAX_INDEX_BYTES = 64_000_000


def read_weights(folder: Path, *, tied: bool, notes: list[str]) -> tuple[dict[str, StoredTensor], tuple[Path, ...]]:
    """Read the headers of the weight files.

    Args:
        folder: holds them.
        tied: head and embedding are one matrix, which an index may list under either name, both or none.
        notes: receives what an index says that is not so and does not matter.

    Returns:
        Tensors by stored name, and the files that they and their index are in (index first).

    Raises:
        CheckpointError: no file, a damaged one, or an index that does not fit.
    """
    single, index = folder / SINGLE, folder / INDEX
    # The order in which transformers looks for them.
    if single.is_file():
        return dict(read_header(single)), (single,)
    if index.is_file():
        return _read_shards(folder, index, tied=tied, notes=notes)
    pickled = next(iter(sorted(folder.glob("pytorch_model*.bin"))), None)
    if pickled is not None:
        raise CheckpointError(f"{pickled}: pickled weights can run code and are not read; convert them to safetensors")
    raise CheckpointError(f"{folder}: holds neither {SINGLE} nor {INDEX}")


def read_weight_map(index: Path) -> dict[str, str]:
    """Stored tensor name to shard file name, as the index says; every shard is a plain file name.

    Raises:
        CheckpointError: the index is damaged, or names something other than a file beside it.
    """
    weight_map = read_json_object(index, max_bytes=_MAX_INDEX_BYTES).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise CheckpointError(f"{index}: weight_map is missing or empty")
    for name, shard in weight_map.items():
        if not isinstance(shard, str) or shard in ("", ".", "..") or set(shard) & set("/\\:\0"):
            raise CheckpointError(
                f"{index}: {name!r} is in {shard!r}, which is not the name of a file beside the index"
            )
    return weight_map


def _read_shards(
    folder: Path, index: Path, *, tied: bool, notes: list[str]
) -> tuple[dict[str, StoredTensor], tuple[Path, ...]]:
    weight_map = read_weight_map(index)

    def is_redundant(name: str) -> bool:
        return tied and unwrapped(name).removeprefix("model.") in (HEAD, EMBEDDING.removeprefix("model."))

    needed = {shard for name, shard in weight_map.items() if not is_redundant(name)}
    shards = sorted({shard for shard in weight_map.values() if shard in needed or (folder / shard).is_file()})
    tensors: dict[str, StoredTensor] = {}
    for shard in shards:
        path = folder / shard
        if not path.is_file():
            raise CheckpointError(f"{path}: missing, but {INDEX} names it; download it again")
        held = read_header(path)
        for name in held:
            if weight_map.get(name) != shard and not is_redundant(name):
                place = repr(weight_map[name]) if name in weight_map else "no shard"
                raise CheckpointError(f"{path}: holds {name!r}, which {INDEX} places in {place}")
        tensors.update(held)
    absent = [name for name in weight_map if name not in tensors]
    if wanted := [name for name in absent if not is_redundant(name)]:
        raise CheckpointError(f"{folder / weight_map[wanted[0]]}: does not hold {listed(wanted)}, as {INDEX} says")
    notes.extend(f"{INDEX} lists {name}, which no file holds" for name in absent)
    notes.extend(f"{INDEX} does not list {name}" for name in tensors if name not in weight_map)
    return tensors, (index, *(folder / shard for shard in shards))
