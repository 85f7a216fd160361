"""Fixtures of the Triton kernels' tests."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from interpreted import Interpreter

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="session")
def interpreter() -> Iterator[Interpreter]:
    """A process that interprets Triton kernels."""
    process = Interpreter()
    yield process
    process.close()
