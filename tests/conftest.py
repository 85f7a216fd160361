"""Fixtures for all tests."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, settings
from released import TokenizerUnavailableError, released_tokenizer

if TYPE_CHECKING:
    from pathlib import Path

# Tests import onnxruntime themselves; it would write below HOME and call its maker.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"

# How long an example takes says how busy the machine is, and nothing of the code.
settings.register_profile("steady", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("steady")

# A shell starts what it puts in the background with Ctrl-C ignored; tests that interrupt a build would wait for ever.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def qwen3_tokenizer_dir(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with the released `tokenizer.json` and `tokenizer_config.json`; a test without them fails."""
    cache = getattr(request.config, "cache", None)  # none with -p no:cacheprovider
    folder = tmp_path_factory.mktemp("released") if cache is None else cache.mkdir("released")
    try:
        return released_tokenizer(folder)
    except TokenizerUnavailableError as error:
        pytest.fail(str(error), pytrace=False)
