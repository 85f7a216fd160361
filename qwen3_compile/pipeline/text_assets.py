"""The tokenizer, its configuration and the chat template of an engine, checked before the first weight is read.

Everything is read by the runtime's own readers, so that what they would refuse in the engine is refused here.
`text_checks` asks what the task needs besides.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from qwen3_compile.checkpoint.directory import TOKENIZER_SOURCES, find_assets
from qwen3_compile.engine.added_tokens import completed_tokenizer
from qwen3_compile.engine.files import copy_file, file_entry
from qwen3_compile.engine.manifest import manifest_document
from qwen3_compile.engine.tokens import Tokens, open_tokenizer, read_tokens
from qwen3_compile.errors import CheckpointError
from qwen3_compile.pipeline.text_checks import Opened, check, reranker_notes, with_turn_end
from qwen3_compile.spec.source import SyntheticSource, parse_source
from qwen3_runtime.admission import Model
from qwen3_runtime.errors import EngineError
from qwen3_runtime.manifest import FileEntry, parse_manifest
from qwen3_runtime.text import ChatTemplate, Tokenizer
from qwen3_runtime.text.tokenizer import read_config

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import tokenizers

    from qwen3_compile.spec import Spec

_TOKENIZER = "tokenizer.json"


@dataclass(frozen=True)
class TextAssets:
    """The engine's text files and what they say.

    Attributes:
        sources: files that the engine takes as they are, by name.
        tokenizer: the bytes of `tokenizer.json` with tokens that other files declare; None where it is taken as it is.
        tokens: facts about the vocabulary.
        notes: what was added to what the files say.
    """

    sources: Mapping[str, Path]
    tokenizer: bytes | None
    tokens: Tokens
    notes: tuple[str, ...] = ()

    def entries(self) -> dict[str, FileEntry]:
        """Identities of the files that `write` will write."""
        found = {name: file_entry(path) for name, path in self.sources.items()}
        if self.tokenizer is not None:
            found[_TOKENIZER] = FileEntry(len(self.tokenizer), hashlib.sha256(self.tokenizer).hexdigest())
        return dict(sorted(found.items()))

    def write(self, folder: Path) -> dict[str, FileEntry]:
        """Write the files into the engine's folder; returns their identities."""
        for name, path in sorted(self.sources.items()):
            copy_file(path, folder / name)
        if self.tokenizer is not None:
            (folder / _TOKENIZER).write_bytes(self.tokenizer)
        return {name: file_entry(folder / name) for name in self.entries()}


def checked_text(spec: Spec, assets: Mapping[str, Path], *, capabilities: Sequence[str] | None = None) -> TextAssets:
    """Read a checkpoint's text files as the runtime will.

    Args:
        spec: what is built.
        assets: the checkpoint's files that travel with the engine, by name.
        capabilities: GPU architectures of a TensorRT plan, as for the manifest.

    Raises:
        CheckpointError: one line that says what is wrong with which file.
    """
    _require_tokenizer(spec, assets)
    with tempfile.TemporaryDirectory() as scratch:
        staged = Path(scratch)
        origin = {staged / name: path for name, path in assets.items()}
        for copy, path in origin.items():
            copy.symlink_to(path.resolve())
        try:
            backend, rewritten = _complete(assets, staged)
            tokens = read_tokens({path.name: path for path in origin}, spec.model.architecture.vocab_size, backend)
            tokenizer = None if backend is None else Tokenizer(backend, read_config(staged))
            tokens, notes = _check(spec, assets, staged, tokenizer, tokens, capabilities)
        except (CheckpointError, EngineError) as error:
            raise CheckpointError(_located(str(error), origin)) from error
    return TextAssets(
        {name: path for name, path in assets.items() if rewritten is None or name != _TOKENIZER},
        rewritten,
        tokens,
        notes,
    )


def _complete(assets: Mapping[str, Path], staged: Path) -> tuple[tokenizers.Tokenizer | None, bytes | None]:
    """Stage `tokenizer.json` with the tokens that other files declare, opened, and its bytes where it was rewritten."""
    if _TOKENIZER not in assets:
        return None, None
    backend, rewritten = completed_tokenizer({**assets, **find_assets(assets[_TOKENIZER].parent, TOKENIZER_SOURCES)})
    if rewritten is not None:
        (staged / _TOKENIZER).unlink()
        (staged / _TOKENIZER).write_bytes(rewritten)
        backend = open_tokenizer(staged / _TOKENIZER)  # as the runtime will
    return backend, rewritten


def _check(
    spec: Spec,
    assets: Mapping[str, Path],
    staged: Path,
    tokenizer: Tokenizer | None,
    tokens: Tokens,
    capabilities: Sequence[str] | None,
) -> tuple[Tokens, tuple[str, ...]]:
    document = manifest_document(
        spec, source={}, tools={}, tokens=tokens, files={}, verified=False, capabilities=capabilities
    )
    manifest = parse_manifest(json.dumps(document).encode())
    template = None if tokenizer is None else ChatTemplate.open(staged, tokenizer.named_tokens)
    _ = Model(manifest, tokenizer, template, manifest.io.max_context).default_sampling
    if tokenizer is None:
        return tokens, ()
    opened = Opened(spec, assets[_TOKENIZER].parent, tokenizer, template, tokens)
    check(opened)
    tokens, notes = with_turn_end(opened)
    return tokens, notes + reranker_notes(opened)


def _require_tokenizer(spec: Spec, assets: Mapping[str, Path]) -> None:
    """Refuse an engine that takes text and has no tokenizer; completion takes token ids, synthetic weights say nothing.

    Raises:
        CheckpointError: the model's own tokenizer is missing.
    """
    synthetic = isinstance(parse_source(spec.model.source), SyntheticSource)
    if synthetic or spec.model.task == "completion" or _TOKENIZER in assets:
        return
    raise CheckpointError(
        f"{spec.model.source}: no tokenizer.json, which a model for {spec.model.task} needs; "
        "put the tokenizer's files beside the weights, or set model.tokenizer to their location"
    )


def _located(message: str, origin: Mapping[Path, Path]) -> str:
    """Name files where the user has them, not where they were staged."""
    for copy, path in origin.items():
        message = message.replace(str(copy), str(path))
    staged = next(iter(origin), None)
    return message if staged is None else message.replace(str(staged.parent), str(next(iter(origin.values())).parent))
