"""A hub for the tests of the compiler."""

from __future__ import annotations

import contextlib

import pytest
from hub_stand_in import served


@pytest.fixture
def serve_hub(monkeypatch):
    """Serve files as the repository `test/tiny`, to which HF_ENDPOINT then points: serve_hub(files) gives its state."""
    with contextlib.ExitStack() as stack:

        def serve(files):
            state, address = stack.enter_context(served(files))
            monkeypatch.setenv("HF_ENDPOINT", address)
            monkeypatch.setenv("HF_HUB_DISABLE_PROGRESS_BARS", "1")
            # The pause between attempts within one run, the library's and ours.
            monkeypatch.setattr("huggingface_hub.file_download.time.sleep", lambda _seconds: None)
            # The library keeps what it received in whole chunks, of 10 MB unless told.
            monkeypatch.setattr("huggingface_hub.constants.DOWNLOAD_CHUNK_SIZE", 1000)
            return state

        yield serve
