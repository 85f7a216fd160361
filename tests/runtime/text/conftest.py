"""The released tokenizer, opened by the runtime and by transformers."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from transformers import AutoTokenizer

from qwen3_runtime.text import ChatTemplate, Tokenizer

if TYPE_CHECKING:
    from pathlib import Path

    from transformers import PreTrainedTokenizerBase


@pytest.fixture(scope="session")
def tokenizer(qwen3_tokenizer_dir: Path) -> Tokenizer:
    return Tokenizer.open(qwen3_tokenizer_dir)


@pytest.fixture(scope="session")
def template(qwen3_tokenizer_dir: Path, tokenizer: Tokenizer) -> ChatTemplate:
    found = ChatTemplate.open(qwen3_tokenizer_dir, tokenizer.named_tokens)
    assert found is not None
    return found


@pytest.fixture(scope="session")
def reference(qwen3_tokenizer_dir: Path) -> PreTrainedTokenizerBase:
    return AutoTokenizer.from_pretrained(qwen3_tokenizer_dir)
