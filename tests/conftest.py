"""Fixtures for all tests."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, settings
from released import TokenizerUnavailableError, released_tokenizer

from qwen3_compile.pipeline.cache import Cache
from qwen3_compile.pipeline.stages.trace import SEMANTIC, TraceStage

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
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


@pytest.fixture(scope="session", autouse=True)
def traced_once(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[TraceStage], None]]:
    """Traces each model once for all workers: tracing is most of the time of a tiny build, and gives the same bytes.

    Builds in processes of their own trace for themselves.

    Yields:
        What traces anew, for tests of tracing.
    """
    own = tmp_path_factory.getbasetemp()
    cache = Cache((own.parent if os.environ.get("PYTEST_XDIST_WORKER") else own) / "traced")
    cache.open()
    produce = TraceStage.produce

    def produce_or_take(stage: TraceStage) -> None:
        key, path = stage.key(), stage.build.scratch / SEMANTIC
        assert key is not None
        if cache.fetch("trace", key, path) is None:
            produce(stage)
            cache.store("trace", key, path)

    TraceStage.produce = produce_or_take  # type: ignore[method-assign]
    yield produce
    TraceStage.produce = produce  # type: ignore[method-assign]
