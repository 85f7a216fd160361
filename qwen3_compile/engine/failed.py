"""The folder `<engine>.failed`: figures and report of a build whose engine misses its accuracy limits."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from qwen3_runtime.engine_files import MEASURED

if TYPE_CHECKING:
    from collections.abc import Iterable


def failed_folder(target: Path) -> Path:
    """Where the figures of a failed build of `target` lie."""
    target = Path(os.path.abspath(target))  # noqa: PTH100 - `resolve` would follow a link at the target itself
    return target.with_name(f"{target.name}.failed")


def keep_failed(target: Path, folder: Path, names: Iterable[str] = MEASURED) -> Path:
    """Copy what was measured beside the output, in place of what an earlier failure left; returns where.

    Raises:
        OSError: it cannot be written, or a link is in its place.
    """
    kept = failed_folder(target)
    forget_failed(target)
    if kept.is_symlink():
        raise FileExistsError(f"{kept} is a link")
    kept.mkdir(exist_ok=True)
    for name in names:
        shutil.copyfile(folder / name, kept / name)
    return kept


def forget_failed(target: Path) -> None:
    """Remove what an earlier failure of `target` left, and the folder unless it holds something else."""
    kept = failed_folder(target)
    if kept.is_symlink() or not kept.is_dir():
        return
    for name in MEASURED:
        (kept / name).unlink(missing_ok=True)
    if not any(kept.iterdir()):
        kept.rmdir()
