"""What an engine is opened with: limits within those it was built for, and everything of it but what executes it."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from qwen3_runtime.admission import Model
from qwen3_runtime.arguments import integer, items, kind, shown
from qwen3_runtime.backends import open_backend
from qwen3_runtime.errors import DamagedEngineError, RequestError
from qwen3_runtime.text import ChatTemplate, Tokenizer
from qwen3_runtime.text.tokenizer import CONFIG, TOKENIZER

if TYPE_CHECKING:
    from collections.abc import Iterable

    from qwen3_runtime.manifest import Manifest, ModelConfig
    from qwen3_runtime.step import Backend

Name = TypeVar("Name", bound=str)


def checked_directory(path: object) -> Path:
    """The path of an engine directory.

    Raises:
        RequestError: it is no path.
    """
    if not isinstance(path, str | os.PathLike) or not isinstance(os.fspath(path), str):
        raise RequestError.at("path", f"expected the path of an engine directory, found {kind(path)}")
    try:
        Path(path).stat()
    except (FileNotFoundError, NotADirectoryError):
        pass  # whoever reads it says so
    except (OSError, ValueError) as error:  # a surrogate, a NUL, or longer than the system takes
        reason = (error.strerror if isinstance(error, OSError) else None) or "no system has such a path"
        problem = f"expected the path of an engine directory, found {shown(path)}: {reason}"
        raise RequestError.at("path", problem) from None
    return Path(path)


def checked_threads(threads: object) -> int | None:
    """Threads of the provider; at most one for each processor of the machine, since more only wait for each other.

    Raises:
        RequestError: it is no integer, or out of range.
    """
    processors = os.cpu_count() or 1
    expected = f"1 to {processors}, the processors of this machine"
    return None if threads is None else integer("threads", threads, 1, processors, expected=expected)


def checked_limits(limits: ModelConfig, max_sequences: object, max_context: object) -> tuple[int, int]:
    """Sequences of a step and tokens of a sequence, within what the engine was built for.

    Raises:
        RequestError: one is no integer, or out of range.
    """
    built = "which the engine was built for"
    batch = limits.max_batch
    sequences = integer("max_sequences", max_sequences, 1, batch, expected=f"1 to {batch}, {built}")
    if max_context is None:
        return sequences, limits.max_context
    expected = f"1 to {limits.max_context}, {built}"
    return sequences, integer("max_context", max_context, 1, limits.max_context, expected=expected)


def checked_keys(trusted_keys: object) -> Any:  # noqa: ANN401 - what stands in the list is checked key by key
    """The list of trusted keys; one path, None and an empty list are for `read_engine_directory` to refuse.

    Raises:
        RequestError: it is no list.
    """
    if trusted_keys is None or isinstance(trusted_keys, list | tuple | str | bytes | os.PathLike):
        return trusted_keys
    return items("trusted_keys", trusted_keys, "a list of paths")


def checked_name(argument: str, value: object, names: Iterable[Name]) -> Name:
    """One of the names that an argument may have.

    Raises:
        RequestError: it is none of them.
    """
    for name in names:
        if isinstance(value, str) and value == name:
            return name
    raise RequestError.at(argument, f"expected {' or '.join(map(repr, names))}, found {shown(value)}")


def open_together(
    directory: Path,
    manifest: Manifest,
    *,
    threads: int | None,
    max_sequences: int,
    max_context: int,
    cache_memory: int | None,
    on_cpu: bool,
) -> tuple[Model, Backend]:
    """The model and its backend. The provider opens its session while the tokenizer's file is parsed.

    Either takes a few hundred milliseconds. Arguments and errors as for `open_backend` and `open_model`.
    """
    with ThreadPoolExecutor(1) as pool:
        opening = pool.submit(
            open_backend,
            directory,
            manifest,
            threads=threads,
            max_sequences=max_sequences,
            max_context=max_context,
            cache_memory=cache_memory,
            on_cpu=on_cpu,
        )
        try:
            model = open_model(directory, manifest, max_context)
        except BaseException:
            if opening.exception() is None:
                opening.result().close()
            raise
        return model, opening.result()


def open_model(directory: Path, manifest: Manifest, max_context: int) -> Model:
    """Everything of an engine but what executes it. Files that the manifest does not list are not read.

    Raises:
        DamagedEngineError: a file, or the manifest's sampling, is damaged.
    """
    files = manifest.files
    if TOKENIZER in files and CONFIG not in files:
        raise DamagedEngineError(
            f"{directory}: manifest.json lists {TOKENIZER} but not {CONFIG}; the engine is incomplete, build it again"
        )
    tokenizer = Tokenizer.open(directory) if TOKENIZER in files else None
    template = None if tokenizer is None else ChatTemplate.open(directory, tokenizer.named_tokens, files=files)
    model = Model(manifest, tokenizer, template, max_context)
    _ = model.default_sampling  # so that a bad manifest fails here and not in the first request
    return model
