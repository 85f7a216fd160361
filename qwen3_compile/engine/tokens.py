"""What the tokenizer's files say that an engine must know: tokenizer vocabulary, end and padding tokens."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tokenizers import Tokenizer

from qwen3_compile.errors import CheckpointError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

_MAX_JSON_BYTES = 64_000_000


@dataclass(frozen=True)
class Tokens:
    """Facts about the vocabulary.

    Attributes:
        tokenizer_vocab_size: ids below it are tokens; the matrix rows beyond were never trained.
        eos_token_ids: tokens that end a generation, the main one first.
        pad_token_id: the padding token, if there is one.
    """

    tokenizer_vocab_size: int
    eos_token_ids: tuple[int, ...] = ()
    pad_token_id: int | None = None


def read_tokens(assets: Mapping[str, Path], vocab_size: int, tokenizer: Tokenizer | None = None) -> Tokens:
    """Read the facts from a checkpoint's `generation_config.json` and `tokenizer_config.json`.

    The end tokens are those of the first and, as other runtimes have it, the tokenizer's own. The padding token is the
    tokenizer's only where the first has none.

    Args:
        assets: the checkpoint's files by name; without `tokenizer.json` every id counts as a token.
        vocab_size: rows of the embedding matrix.
        tokenizer: what `tokenizer.json` holds, where it is open already: the released one takes half a second.

    Raises:
        CheckpointError: a file is damaged, or the tokenizer is not this model's.
    """
    path = assets.get("tokenizer.json")
    if tokenizer is None and path is not None:
        tokenizer = open_tokenizer(path)
    tokenizer_vocab_size = (
        vocab_size if tokenizer is None else _tokenizer_vocab_size(tokenizer, vocab_size, assets["tokenizer.json"])
    )
    generation = json_object(assets.get("generation_config.json"))
    names = json_object(assets.get("tokenizer_config.json")) if tokenizer is not None else {}

    def ids(role: str) -> tuple[int, ...]:
        value = generation.get(f"{role}_token_id")
        listed = list(value) if isinstance(value, list) else [] if value is None else [value]
        if (
            tokenizer is not None
            and (role == "eos" or not listed)
            and (name := _token_text(names.get(f"{role}_token")))
        ):
            own = tokenizer.token_to_id(name)
            listed += [] if own is None else [own]
        for token in listed:
            if type(token) is not int or not 0 <= token < vocab_size:
                raise CheckpointError(
                    f"{role}_token_id is {value!r}, expected ids below the vocabulary's {vocab_size}; "
                    "the tokenizer or generation_config.json is another model's"
                )
        return tuple(dict.fromkeys(listed))

    return Tokens(tokenizer_vocab_size, ids("eos"), next(iter(ids("pad")), None))


def _tokenizer_vocab_size(tokenizer: Tokenizer, vocab_size: int, path: Path) -> int:
    # Tokens added behind the matrix are harmless (a release drops rows that it never trained); ordinary ones are not.
    plain = max(tokenizer.get_vocab(with_added_tokens=False).values(), default=-1) + 1
    if plain > vocab_size:
        raise CheckpointError(
            f"{path}: {plain} tokens, but the model has {vocab_size} embeddings; this is another model's tokenizer"
        )
    return int(min(max(tokenizer.get_vocab(with_added_tokens=True).values(), default=-1) + 1, vocab_size))


def open_tokenizer(path: Path) -> Tokenizer:
    """Read `tokenizer.json`.

    Raises:
        CheckpointError: the tokenizers library cannot read it.
    """
    try:
        return Tokenizer.from_file(str(path))
    except Exception as error:  # noqa: BLE001 - the library raises plain Exception
        raise CheckpointError(f"{path}: not a tokenizer that the tokenizers library reads ({error})") from None


def json_object(path: Path | None) -> dict[str, Any]:
    """Read the JSON object in a file; empty without a file.

    Raises:
        CheckpointError: it is damaged, too large, or not an object.
    """
    if path is None:
        return {}
    try:
        if path.stat().st_size > _MAX_JSON_BYTES:
            raise CheckpointError(f"{path}: larger than {_MAX_JSON_BYTES} bytes")
        document = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointError(f"{path}: not valid JSON ({error})") from None
    if not isinstance(document, dict):
        raise CheckpointError(f"{path}: expected a JSON object, found {type(document).__name__}")
    return document


def _token_text(value: object) -> str | None:
    """A token in tokenizer_config.json is its text, or an object with it as `content`."""
    content = value.get("content") if isinstance(value, dict) else value
    return content if isinstance(content, str) else None
