"""The released tokenizer and chat template, as the runtime opens them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from qwen3_runtime.text import ChatTemplate, Tokenizer

if TYPE_CHECKING:
    from pathlib import Path

    from transformers import PreTrainedModel


@pytest.fixture(scope="session")
def tokenizer(qwen3_tokenizer_dir: Path) -> Tokenizer:
    return Tokenizer.open(qwen3_tokenizer_dir)


@pytest.fixture(scope="session")
def template(qwen3_tokenizer_dir: Path, tokenizer: Tokenizer) -> ChatTemplate:
    found = ChatTemplate.open(qwen3_tokenizer_dir, tokenizer.named_tokens)
    assert found is not None
    return found


@pytest.fixture(scope="session")
def always_template(template: ChatTemplate) -> ChatTemplate:
    """A template like that of Thinking-2507: the prompt ends inside the think block."""
    opening = "{{- '<|im_start|>assistant\\n' }}"
    assert template.source.count(opening) == 1
    return ChatTemplate({"default": template.source.replace(opening, opening[:-4] + "<think>\\n' }}")})


@pytest.fixture(scope="session")
def tensorrt_engine(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, PreTrainedModel]:
    """A dense engine of target `tensorrt-rtx` as built, its spec beside it, and the reference with the same weights."""
    from built_engine import build_half_engine

    return build_half_engine(tmp_path_factory.mktemp("tensorrt"))
