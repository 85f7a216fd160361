"""Text from a stream of tokens, without ever splitting a character."""

from __future__ import annotations

import codecs
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from qwen3_runtime.text.tokenizer import Tokenizer


class StreamDecoder:
    """Incremental detokenization.

    A character's bytes may be spread over several tokens: they are held back until the character is whole. All
    pushes and the flush, concatenated, equal `tokenizer.decode` of all ids, invalid sequences included. A push
    costs the bytes of its token, however long the text already is.
    """

    def __init__(self, tokenizer: Tokenizer, *, skip_special_tokens: bool = True) -> None:
        self._tokenizer = tokenizer
        self._skip = tokenizer.special_ids if skip_special_tokens else frozenset[int]()
        self._characters = codecs.getincrementaldecoder("utf-8")("replace")

    def push(self, token_id: int) -> str:
        """The characters that `token_id` completes; possibly none."""
        if token_id in self._skip:
            return ""
        return self._characters.decode(self._tokenizer.token_bytes(token_id))

    def flush(self) -> str:
        """What is left at the end: U+FFFD for a character that never became whole. Ready for a new text afterwards."""
        return self._characters.decode(b"", final=True)
