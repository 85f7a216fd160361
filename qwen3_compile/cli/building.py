"""What commands that build share: the progress on stderr, and the engine for a model that is named instead of one."""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from qwen3_compile.cli.output import remark, verbosity
from qwen3_compile.places import cache_dir, engines_dir
from qwen3_compile.stopping import stop_on_signals
from qwen3_runtime.engine_files import MANIFEST
from qwen3_runtime.errors import RequestError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from qwen3_compile.pipeline.progress import Progress


@contextlib.contextmanager
def show_progress() -> Iterator[Progress]:
    """Live bars where stderr is a terminal, else lines; nothing of a quiet command, every step of a verbose one."""
    from qwen3_compile.pipeline.progress import Bars, Lines, Silent

    if verbosity() < 0:
        yield Silent()
    elif verbosity() > 0:
        yield Lines(interval=0.0)
    elif sys.stderr.isatty():
        with Bars() as bars:
            yield bars
    else:
        yield Lines()


def engine_for(argument: str, *, threads: int | None = None) -> Path:
    """The engine that an argument stands for: a directory that is one, or one of the model that it names.

    A model's engine is built where it was not built before; nothing of the compiler is imported for a directory.

    Args:
        argument: an engine's directory, or whatever `build` takes.
        threads: of a build.

    Raises:
        CompileError: it names nothing, or the build fails.
        RequestError: it is no engine, and the compiler is not installed.
    """
    folder = Path(argument)
    if (folder / MANIFEST).exists() or (folder.is_dir() and not (folder / "config.json").is_file()):
        return folder
    try:
        from qwen3_compile.pipeline.kept import build_kept, locate
        from qwen3_compile.resolve import resolve
    except ModuleNotFoundError as error:
        raise _no_compiler(argument, error) from error
    place = locate(resolve(argument).spec, engines_dir())
    stop_on_signals()
    with show_progress() as progress:
        return build_kept(place, cache_dir=cache_dir(), progress=progress, threads=threads, tell=_tell)


def _no_compiler(argument: str, error: ModuleNotFoundError) -> Exception:
    from qwen3_compile.cli.failures import extras_with
    from qwen3_runtime.installation import install_command

    name = (error.name or "").partition(".")[0]
    if not name or name.startswith("qwen3_"):
        return error
    return RequestError(
        f"{argument}: no such engine; building it from a model needs {name}, which is not installed: "
        f"{install_command(*extras_with(name))}",
        field="engine",
    )


def _tell(message: str) -> None:
    remark(message, style="dim")
