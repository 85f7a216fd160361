"""From a spec's `model.source` to an open checkpoint."""

from __future__ import annotations

from dataclasses import replace
from types import MappingProxyType
from typing import TYPE_CHECKING

from qwen3_compile.checkpoint.adapter import ADAPTER_CONFIG, refuse_adapter
from qwen3_compile.checkpoint.config import check_expected, read_architecture
from qwen3_compile.checkpoint.directory import (
    CONFIG,
    MODEL_ASSETS,
    TOKENIZER_ASSETS,
    TOKENIZER_FILES,
    DirectoryCheckpoint,
    find_assets,
    open_directory,
)
from qwen3_compile.checkpoint.shards import INDEX, SINGLE, read_weight_map
from qwen3_compile.checkpoint.synthetic import SyntheticCheckpoint
from qwen3_compile.errors import CheckpointError
from qwen3_compile.spec.shipped import PACKAGED
from qwen3_compile.spec.source import FolderSource, HubSource, Source, SyntheticSource, parse_source

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from qwen3_compile.checkpoint.directory import Look
    from qwen3_compile.checkpoint.hub import HubSnapshot
    from qwen3_compile.checkpoint.protocol import Checkpoint
    from qwen3_graphs.architecture import Architecture


def open_checkpoint(
    source: str,
    *,
    base_dir: Path,
    expected: Architecture | None = None,
    tokenizer: str | None = None,
    cache_dir: Path | None = None,
    examine: Look | None = None,
) -> Checkpoint:
    """Open the checkpoint that a spec names; tensors are read later, one at a time.

    Args:
        source: a folder (relative to `base_dir`), `hf://org/name@revision`, or `synthetic://SEED`.
        base_dir: the folder of the spec.
        expected: what the spec expects of config.json. A synthetic checkpoint needs it, having no other architecture.
        tokenizer: a folder or `hf://` source whose tokenizer files replace the checkpoint's own.
        cache_dir: where downloads go; default is the Hugging Face cache.
        examine: called with the files that travel with the engine, by name, before weights are downloaded or read; what
            it raises ends the opening.

    Raises:
        CheckpointError: one line that says what is wrong with which file.
    """
    origin = _parse(source)
    replaced = None if tokenizer is None else _tokenizer_assets(tokenizer, base_dir=base_dir, cache_dir=cache_dir)

    def with_tokenizer(assets: Mapping[str, Path]) -> Mapping[str, Path]:
        if replaced is None:
            return assets
        own = {name: path for name, path in assets.items() if name not in TOKENIZER_ASSETS}
        return MappingProxyType(own | replaced)

    def look(assets: Mapping[str, Path]) -> None:
        if examine is not None:
            examine(with_tokenizer(assets))

    checkpoint: DirectoryCheckpoint | SyntheticCheckpoint
    if isinstance(origin, SyntheticSource):
        if expected is None:
            raise CheckpointError(f"{source}: synthetic weights need an expected architecture")
        look({})
        checkpoint = SyntheticCheckpoint(origin.seed, expected)
    elif isinstance(origin, HubSource):
        checkpoint = _open_hub(origin, expected=expected, cache_dir=cache_dir, look=look)
    else:
        checkpoint = open_directory(_local(origin, base_dir), uri=source, expected=expected, look=look)
    return replace(checkpoint, asset_paths=with_tokenizer(checkpoint.asset_paths))


def _open_hub(
    source: HubSource,
    *,
    expected: Architecture | None,
    cache_dir: Path | None,
    look: Look,
) -> DirectoryCheckpoint:
    # Imported here because a local build needs no HTTP client.
    from qwen3_compile.checkpoint.hub import hub_snapshot

    snapshot = hub_snapshot(source.repo, source.revision, cache_dir=cache_dir)
    try:
        _fetch_model(snapshot, expected=expected, look=look)
        return open_directory(snapshot.folder, uri=snapshot.uri, revision=snapshot.commit, expected=expected)
    except CheckpointError as error:
        if snapshot.offline is None:
            raise
        raise CheckpointError(
            f"{source}: the hub cannot be reached ({snapshot.offline}), and in its cache {error}"
        ) from error


def _fetch_model(snapshot: HubSnapshot, *, expected: Architecture | None, look: Look) -> None:
    """Bring the files of a model, the small ones first: a wrong model is refused before its weights travel."""
    config = snapshot.folder / CONFIG
    snapshot.fetch([CONFIG, ADAPTER_CONFIG])
    refuse_adapter(snapshot.folder, has_model=config.is_file())
    architecture = read_architecture(config)
    if expected is not None:
        check_expected(architecture, expected, where=str(config))
    snapshot.fetch(TOKENIZER_FILES + MODEL_ASSETS)
    look(find_assets(snapshot.folder, TOKENIZER_ASSETS + MODEL_ASSETS))
    snapshot.fetch([SINGLE])
    if not (snapshot.folder / SINGLE).is_file():
        snapshot.fetch([INDEX])
        if (snapshot.folder / INDEX).is_file():
            snapshot.fetch(sorted(set(read_weight_map(snapshot.folder / INDEX).values())))


def _tokenizer_assets(source: str, *, base_dir: Path, cache_dir: Path | None) -> dict[str, Path]:
    origin = _parse(source)
    if isinstance(origin, SyntheticSource):
        raise CheckpointError(f"{source}: synthetic sources have no tokenizer; name a folder or hf://org/name@revision")
    if isinstance(origin, HubSource):
        from qwen3_compile.checkpoint.hub import hub_snapshot

        snapshot = hub_snapshot(origin.repo, origin.revision, cache_dir=cache_dir)
        snapshot.fetch(TOKENIZER_FILES)
        folder = snapshot.folder
    else:
        folder = _local(origin, base_dir)
    found = find_assets(folder, TOKENIZER_ASSETS)
    if "tokenizer.json" not in found:
        raise CheckpointError(f"{folder}: holds no tokenizer.json (tokenizer source {source!r})")
    return found


def _parse(source: str) -> Source:
    try:
        return parse_source(source)
    except ValueError as error:
        raise CheckpointError(f"model source {source!r}: {error}") from error


def _local(source: FolderSource, base_dir: Path) -> Path:
    folder = base_dir / source.path.expanduser()
    if not folder.is_dir() and base_dir == PACKAGED:
        raise CheckpointError(
            f"model source {str(source.path)!r}: the tiny checkpoints are in the project's repository (examples/tiny), "
            "not in the installed package; --set model.source=synthetic://0 uses random weights instead"
        )
    return folder
