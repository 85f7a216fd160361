"""From a spec's `model.source` to an open checkpoint."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from qwen3_compile.checkpoint.directory import TOKENIZER_ASSETS, find_assets, open_directory
from qwen3_compile.errors import CheckpointError

if TYPE_CHECKING:
    from qwen3_graphs.architecture import Architecture

    from qwen3_compile.checkpoint.contract import Checkpoint

HUB = "hf://"
SYNTHETIC = "synthetic://"


def open_checkpoint(
    source: str,
    *,
    base_dir: Path,
    expected: Architecture | None = None,
    tokenizer: str | None = None,
    cache_dir: Path | None = None,
) -> Checkpoint:
    """Open the checkpoint that a spec names; tensors are read later, one at a time.

    Args:
        source: a folder (relative to `base_dir`), `hf://org/name@revision`, or `synthetic://SEED`.
        base_dir: the folder of the spec.
        expected: what the spec expects of config.json; a synthetic checkpoint has no other architecture.
        tokenizer: a folder or `hf://` source whose tokenizer files replace the checkpoint's own.
        cache_dir: where downloads go; default is the Hugging Face cache.

    Raises:
        CheckpointError: one line that says what is wrong with which file.
    """
    checkpoint = _open_directory_source(source, base_dir=base_dir, expected=expected)
    if tokenizer is None:
        return checkpoint
    folder = _local_folder(tokenizer, base_dir)
    found = find_assets(folder, TOKENIZER_ASSETS)
    if "tokenizer.json" not in found:
        raise CheckpointError(f"{folder}: holds no tokenizer.json (model.tokenizer {tokenizer!r})")
    own = {name: path for name, path in checkpoint.asset_paths.items() if name not in TOKENIZER_ASSETS}
    return replace(checkpoint, asset_paths=own | found)


def _local_folder(source: str, base_dir: Path) -> Path:
    return base_dir / Path(source).expanduser()


def _open_directory_source(source: str, *, base_dir: Path, expected: Architecture | None):
    return open_directory(_local_folder(source, base_dir), uri=source, expected=expected)
