"""The benchmark's arithmetic, on a clock that the work moves: rates, medians, bandwidth and what a step holds."""

import subprocess
import sys
from threading import Lock
from types import SimpleNamespace

import numpy as np
import pytest

from qwen3_compile import bench
from qwen3_compile.bench import READ_BYTES, TokenBytes, measure_speed, read_bandwidth
from qwen3_runtime.step import CacheGeometry, Output


class Clock:
    """Shows the seconds that the work itself says it takes, however busy the machine is."""

    def __init__(self):
        self.now = 0.0

    def perf_counter(self):
        return self.now


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(bench, "time", clock)
    return clock


class TimedBackend:
    """Takes a given time for each token; each run of the benchmark, another one."""

    cache = CacheGeometry(num_blocks=8, block_size=16, bytes_per_token=64)

    def __init__(self, clock, seconds, steps_of_a_run=1):
        self.clock = clock
        self.seconds = seconds
        self.steps_of_a_run = steps_of_a_run
        self.steps = []

    def run(self, step):
        number = len(self.steps) // self.steps_of_a_run
        self.steps.append((step.context_len[0], step.input_ids.size, step.block_table.shape[1]))
        self.clock.now += self.seconds[min(number, len(self.seconds) - 1)] * step.input_ids.size
        return Output(np.zeros((step.logits_rows.size, 10), np.float32))

    def close(self):
        pass


def test_rates_are_medians_of_the_backends_and_the_first_run_does_not_count(clock, monkeypatch):
    monkeypatch.setattr(bench, "read_bandwidth", lambda threads: 1e6 * threads)
    # 16 tokens for the first one, 20 of prefill, 6 of decode; at most 8 in a step.
    backend = TimedBackend(clock, seconds=[8, 1 / 64, 1 / 512, 1 / 1024], steps_of_a_run=2 + 3 + 6)
    sizes = TokenBytes(weights=1000, cache_per_token=10)
    found = measure_speed(backend, sizes, vocab=10, step_tokens=8, threads=2, prompt=20, decode=6, repeats=3)
    assert (found.prefill_rate, found.decode_rate, found.first_token_seconds) == (512, 512, 16 / 512)
    assert (found.prompt_tokens, found.decoded_tokens, found.repeats, found.threads) == (20, 6, 3, 2)
    assert found.bytes_per_token == 1000 + 10 * 23
    assert found.bandwidth_share == pytest.approx(1230 * 512 / 2e6)


def test_peak_memory_is_that_of_the_engine_not_of_the_bandwidth_probe():
    code = (
        "import numpy as np\nfrom qwen3_compile import bench\n"
        "from qwen3_runtime.step import CacheGeometry, Output\n"
        "class Idle:\n"
        "    cache = CacheGeometry(num_blocks=8, block_size=16, bytes_per_token=64)\n"
        "    def run(self, step): return Output(np.zeros((1, 10), np.float32))\n"
        "found = bench.measure_speed(Idle(), bench.TokenBytes(1, 1), vocab=10, step_tokens=8, threads=2, prompt=8,"
        " decode=2, repeats=1)\n"
        "print(found.peak_memory, bench.READ_BYTES)"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    peak, probe = map(int, shown.split())
    assert 1e7 < peak < probe


def test_steps_stay_within_the_limit_and_blocks_cover_the_context(clock, monkeypatch):
    monkeypatch.setattr(bench, "read_bandwidth", lambda _threads: 1.0)
    backend = TimedBackend(clock, seconds=[1])
    measure_speed(backend, TokenBytes(1, 1), vocab=10, step_tokens=8, threads=1, prompt=20, decode=6, repeats=1)
    assert max(size for _, size, _ in backend.steps) == 8
    for context, size, blocks in backend.steps:
        assert context + size <= blocks * 16
        assert blocks <= 2


def test_bandwidth_is_that_of_the_best_pass_over_more_than_a_cache_holds(clock, monkeypatch):
    seconds, read, alone = iter([4.0, 0.0, 1.0, 0.0, 2.0, 0.0]), [], Lock()  # two threads of three passes

    def reduce(block):
        with alone:
            read.append(block.nbytes)
            clock.now += next(seconds)

    monkeypatch.setattr(bench.np, "bitwise_or", SimpleNamespace(reduce=reduce))
    assert READ_BYTES >= 1 << 29
    assert read_bandwidth(2, repeats=3) == READ_BYTES
    assert read == [READ_BYTES // 2] * 6
