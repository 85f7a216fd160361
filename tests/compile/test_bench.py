"""The benchmark's arithmetic: bandwidth is plausible, and rates are those of the backend that it drives."""

import subprocess
import sys
import time

import numpy as np
import pytest

from qwen3_compile.bench import Sizes, measure_speed, read_bandwidth
from qwen3_runtime.step import CacheGeometry, Output


class SlowBackend:
    """Takes a fixed time for each token."""

    cache = CacheGeometry(num_blocks=8, block_size=16, bytes_per_token=64)

    def __init__(self, seconds):
        self.seconds = seconds
        self.steps = []

    def run(self, step):
        self.steps.append((step.context_len[0], step.input_ids.size, step.block_table.shape[1]))
        time.sleep(self.seconds * step.input_ids.size)
        return Output(np.zeros((step.logits_rows.size, 10), np.float32))

    def close(self):
        pass


def test_rates_are_those_of_the_backend():
    backend = SlowBackend(0.002)
    sizes = Sizes(weights=1000, cache_per_token=10)
    found = measure_speed(backend, sizes, vocab=10, step_tokens=8, threads=1, prompt=20, decode=6, repeats=2)
    assert found.prefill_rate == pytest.approx(500, rel=0.3)
    assert found.decode_rate == pytest.approx(500, rel=0.3)
    assert found.bytes_per_token == 1000 + 10 * 23
    assert found.bandwidth_share == pytest.approx(found.bytes_per_token * found.decode_rate / found.read_bandwidth)


def test_peak_memory_is_that_of_the_engine_not_of_the_bandwidth_probe():
    code = (
        "import numpy as np\nfrom qwen3_compile import bench\n"
        "from qwen3_runtime.step import CacheGeometry, Output\n"
        "class Idle:\n"
        "    cache = CacheGeometry(num_blocks=8, block_size=16, bytes_per_token=64)\n"
        "    def run(self, step): return Output(np.zeros((1, 10), np.float32))\n"
        "found = bench.measure_speed(Idle(), bench.Sizes(1, 1), vocab=10, step_tokens=8, threads=2, prompt=8, decode=2,"
        " repeats=1)\n"
        "print(found.peak_memory, bench.READ_BYTES)"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    peak, probe = map(int, shown.split())
    assert 1e7 < peak < probe


def test_steps_stay_within_the_limit_and_blocks_cover_the_context():
    backend = SlowBackend(0)
    measure_speed(backend, Sizes(1, 1), vocab=10, step_tokens=8, threads=1, prompt=20, decode=6, repeats=1)
    assert max(size for _, size, _ in backend.steps) == 8
    for context, size, blocks in backend.steps:
        assert context + size <= blocks * 16
        assert blocks <= 2


def test_bandwidth_is_that_of_memory_not_of_a_cache():
    assert 1e9 < read_bandwidth(1, repeats=2) < 2e11
