"""Fixtures for all tests."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from released import TokenizerUnavailableError, released_tokenizer

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="session")
def qwen3_tokenizer_dir(request: pytest.FixtureRequest) -> Path:
    """A directory with the released `tokenizer.json` and `tokenizer_config.json`; a test without them fails."""
    try:
        return released_tokenizer(request.config.cache.mkdir("released"))
    except TokenizerUnavailableError as error:
        pytest.fail(str(error), pytrace=False)
