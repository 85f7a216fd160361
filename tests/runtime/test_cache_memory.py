"""An engine whose cache has few bytes serves the same requests with the same tokens, in more steps.

Reference: the same engine with a cache for the worst case
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from built_engine import GREEDY, build_engine, prompts

from qwen3_runtime import Engine, Request, RequestError
from qwen3_runtime.backends import open_backend
from qwen3_runtime.directory import read_engine_directory

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="module", params=["ort-plugins", "ort"])
def engine(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    cache = "fp16" if request.param == "ort-plugins" else "fp32"
    return build_engine(tmp_path_factory.mktemp(request.param), target=request.param, cache=cache)[0]


def test_half_the_cache_gives_the_same_tokens(engine: Path) -> None:
    requests = [Request(prompt=prompt, max_tokens=12, sampling=GREEDY) for prompt in prompts(10)]
    with Engine.open(engine, threads=1, max_sequences=4) as whole:
        cache = whole.backend.cache
        expected = [one.tokens for one in whole.generate(requests)]
    size = cache.bytes_per_token * cache.block_size
    with Engine.open(engine, threads=1, max_sequences=4, cache_memory=2 * size + size // 2) as small:
        assert (cache.num_blocks, small.backend.cache.num_blocks) == (4, 2)
        assert [one.tokens for one in small.generate(requests)] == expected
        assert small.max_context == whole.max_context


def test_a_cache_that_holds_nothing_is_refused(engine: Path) -> None:
    with pytest.raises(RequestError, match="cache_memory: expected at least"):
        Engine.open(engine, cache_memory=100)


@pytest.mark.parametrize("wrong", [0, -1, 1.5, "1GB", True])
def test_cache_memory_is_a_number_of_bytes(engine: Path, wrong: object) -> None:
    with pytest.raises(RequestError, match="cache_memory: expected"):
        Engine.open(engine, cache_memory=wrong)  # type: ignore[arg-type]


def test_a_cache_on_a_gpu_has_no_size_of_its_own(engine: Path) -> None:
    manifest = read_engine_directory(engine)
    on_gpu = replace(manifest, target=replace(manifest.target, provider="cuda"))
    with pytest.raises(RequestError, match="cache_memory: only a cache in the CPU's memory"):
        open_backend(engine, on_gpu, threads=1, max_sequences=1, max_context=64, cache_memory=10**9)
