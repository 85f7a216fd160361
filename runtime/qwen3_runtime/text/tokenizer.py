"""The checkpoint's own tokenizer: text to ids, ids to text, and the bytes behind each id."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import tokenizers
from tokenizers import decoders

from qwen3_runtime.errors import DamagedEngineError, RequestError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

TOKENIZER, CONFIG = "tokenizer.json", "tokenizer_config.json"


class Tokenizer:
    """A byte-level BPE tokenizer as released: `tokenizer.json` with `tokenizer_config.json`.

    Attributes:
        special_ids: ids that `decode(..., skip_special_tokens=True)` leaves out. The think and tool-call tags
            of Qwen3 are not among them.
        named_tokens: the roles that the configuration names (`eos_token`, `pad_token`, ...) and their text.
    """

    def __init__(self, backend: tokenizers.Tokenizer, config: dict[str, Any]) -> None:
        if not isinstance(backend.decoder, decoders.ByteLevel):
            raise DamagedEngineError(
                f"tokenizer.json: expected a ByteLevel decoder, found {type(backend.decoder).__name__}"
            )
        backend.no_truncation()
        backend.no_padding()
        self._backend = backend
        self._bytes: dict[int, bytes] = {}
        added = backend.get_added_tokens_decoder()
        self.special_ids: frozenset[int] = frozenset(index for index, token in added.items() if token.special)
        self.named_tokens: dict[str, str] = _named_tokens(config)

    @classmethod
    def open(cls, directory: Path) -> Tokenizer:
        """Open the tokenizer of an engine or checkpoint directory.

        Raises:
            DamagedEngineError: a file is missing or damaged, or the tokenizer is not byte-level.
        """
        return cls(_read_backend(directory / TOKENIZER), read_config(directory))

    def encode(self, text: str, *, add_special_tokens: bool = False, field: str = "text") -> list[int]:
        """The ids of `text`, in which special tokens such as `<|im_start|>` are recognized, as transformers does.

        Args:
            text: any text that UTF-8 can represent.
            add_special_tokens: let the tokenizer's post-processor add its tokens (embedding checkpoints end a
                text with `<|endoftext|>`); a rendered chat wants none.
            field: the argument that errors name.

        Raises:
            RequestError: the text holds a lone surrogate.
        """
        try:
            return list(self._backend.encode(text, add_special_tokens=add_special_tokens).ids)
        except (UnicodeError, TypeError) as error:
            raise RequestError.at(field, f"expected text that UTF-8 can represent, found {error}") from error

    def decode(self, ids: Sequence[int], *, skip_special_tokens: bool = False) -> str:
        """The text of `ids`. Ids without a token are left out; bytes that are not UTF-8 become U+FFFD."""
        return self._backend.decode([i for i in ids if i >= 0], skip_special_tokens=skip_special_tokens)

    def token_id(self, token: str) -> int | None:
        """The id of the token spelled exactly `token`, or None."""
        index: int | None = self._backend.token_to_id(token)
        return index

    def token_bytes(self, token_id: int) -> bytes:
        """The bytes that `token_id` stands for: part of a character, several characters, or none if it is unknown."""
        found = self._bytes.get(token_id)
        if found is None:
            token = self._backend.id_to_token(token_id) if token_id >= 0 else None
            found = self._bytes[token_id] = b"" if token is None else _spelt_bytes(token)
        return found


def read_config(directory: Path) -> dict[str, Any]:
    """`tokenizer_config.json` of a directory.

    Raises:
        DamagedEngineError: the file is missing or not a JSON object.
    """
    path = directory / CONFIG
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise DamagedEngineError(f"{path} is missing: copy it from the checkpoint") from error
    except (OSError, ValueError, RecursionError) as error:
        raise DamagedEngineError(f"{path}: expected JSON, found {error}") from error
    if not isinstance(config, dict):
        raise DamagedEngineError(f"{path}: expected a JSON object, found {type(config).__name__}")
    return config


def _read_backend(path: Path) -> tokenizers.Tokenizer:
    if not path.is_file():
        raise DamagedEngineError(f"{path} is missing: copy it from the checkpoint")
    try:
        return tokenizers.Tokenizer.from_file(str(path))
    except Exception as error:  # the library raises bare Exception
        raise DamagedEngineError(f"{path}: expected a tokenizer of the tokenizers library, found {error}") from error


def _named_tokens(config: dict[str, Any]) -> dict[str, str]:
    named = {}
    for role in ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token"):
        token = config.get(role)
        text = token.get("content") if isinstance(token, dict) else token
        if isinstance(text, str):
            named[role] = text
    return named


def _byte_of_character() -> dict[str, int]:
    """The alphabet of byte-level BPE (GPT-2): printable Latin-1 stands for itself, other bytes for U+0100 and on."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in set(printable)]
    return {chr(byte): byte for byte in printable} | {chr(0x100 + i): byte for i, byte in enumerate(others)}


_BYTE_OF_CHARACTER = _byte_of_character()


def _spelt_bytes(token: str) -> bytes:
    try:
        return bytes(_BYTE_OF_CHARACTER[character] for character in token)
    except KeyError:  # an added token outside the alphabet is spelled in plain text
        return token.encode()
