"""The released tokenizer as transformers opens it; as the runtime does it comes from the folder above."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from transformers import AutoTokenizer

from qwen3_runtime.text import ChatTemplate
from qwen3_runtime.text.meter import Meter

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from transformers import PreTrainedTokenizerBase


@pytest.fixture(scope="session")
def reference(qwen3_tokenizer_dir: Path) -> PreTrainedTokenizerBase:
    return AutoTokenizer.from_pretrained(qwen3_tokenizer_dir)


@pytest.fixture
def spent(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], tuple[int, int]]:
    """Steps and characters that a template is charged for."""
    meters: list[Meter] = []

    class Kept(Meter):
        def __init__(self, *given: object) -> None:
            super().__init__(*given)
            meters.append(self)

    monkeypatch.setattr("qwen3_runtime.text.template.Meter", Kept)

    def charged(source: str) -> tuple[int, int]:
        ChatTemplate({"default": source}).render([{"role": "user", "content": "hi"}])
        meter = meters.pop()
        return meter._most_steps - meter._steps, meter._most_characters - meter._characters

    return charged
