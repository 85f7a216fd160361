"""The TensorRT backend's host side, end to end: the file that TensorRT imports, executed where a device would be.

CUDA and TensorRT are imitated over host memory (`cuda_on_host`, `tensorrt_on_host`); ONNX Runtime computes.

Covers: profiles, staging, caches in place, CUDA graphs, refusals. ONNX Runtime computes the very graph that the
    plan was built from; names, types, shapes, profiles and aliases are those of TensorRT's own parser; calls have
    the arguments that CUDA's bindings accept
Reference: `transformers` in float32; the same graph run plainly, bit for bit
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pytest
from built_engine import CONTEXT, GREEDY, VOCAB, build_half_engine, prompts, reference_rows
from cuda_on_host import HostCuda
from tensorrt_on_host import HostTensorRt, Network, import_network, methods_that_the_bindings_lack

from qwen3_compile.spec.load import load_spec
from qwen3_compile.tensorrt import profiles_of
from qwen3_runtime import Engine, EngineError, Request
from qwen3_runtime.backends import tensorrt
from qwen3_runtime.backends.tensorrt import plan_runner
from qwen3_runtime.directory import read_engine_directory
from qwen3_runtime.step import Step

if TYPE_CHECKING:
    from pathlib import Path

    from transformers import PreTrainedModel

# Hidden states, keys and values are rounded to float16 where the reference stays in float32; logits are about 5.
FLOAT16 = 2e-2


@dataclass
class Tiny:
    kind: str
    path: Path
    model: PreTrainedModel
    network: Network


@pytest.fixture(scope="module", params=["dense", "moe"])
def tiny(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Tiny:
    if request.param == "dense":
        path, model = request.getfixturevalue("tensorrt_engine")
    else:
        path, model = build_half_engine(tmp_path_factory.mktemp("moe"), moe=True)
    profiles = [profile.sizes for profile in profiles_of(load_spec(path.parent / "spec.yaml"))]
    return Tiny(request.param, path, model, import_network(path / "model.onnx", profiles))


@pytest.fixture(params=["tensorrt-rtx", "tensorrt"])
def trt(request: pytest.FixtureRequest, tiny: Tiny, monkeypatch: pytest.MonkeyPatch) -> HostTensorRt:
    found = HostTensorRt(HostCuda(), tiny.network, rtx=request.param == "tensorrt-rtx")
    monkeypatch.setattr(tensorrt, "import_bindings", lambda _, **__: (found, found.cuda))
    return found


def step(sequences: list[np.ndarray], done: list[int], sizes: dict[int, int], blocks: np.ndarray) -> Step:
    """So many further tokens of some sequences, every row of them wanted."""
    ids = [sequences[i][done[i] : done[i] + size] for i, size in sizes.items()]
    return Step(
        input_ids=np.concatenate(ids),
        query_start=np.cumsum([0, *sizes.values()]).astype(np.int32),
        context_len=np.array([done[i] for i in sizes], np.int32),
        block_table=blocks[list(sizes)].astype(np.int32)[:, None],
        logits_rows=np.arange(sum(sizes.values()), dtype=np.int32),
    )


def test_what_stands_in_for_tensorrt_has_nothing_that_tensorrt_lacks() -> None:
    assert methods_that_the_bindings_lack() == []


@pytest.mark.parametrize("tiny", ["dense"], indirect=True)
def test_generation_in_a_batch_is_the_references_greedy_choice(tiny: Tiny, trt: HostTensorRt) -> None:
    """Ten prompts through four seats; where two tokens are as good in float16, either is a greedy choice.

    Not with experts: float16 turns a router's close call, after which the answer is another one.
    """
    with Engine.open(tiny.path, max_sequences=4) as engine:
        done = engine.generate([Request(prompt=prompt, max_tokens=12, sampling=GREEDY) for prompt in prompts(10)])
        assert engine._scheduler.pool.available == 4
    for prompt, completion in zip(prompts(10), done, strict=True):
        rows = reference_rows(tiny.model, [*prompt, *completion.tokens])[len(prompt) - 1 : -1]
        chosen = np.take_along_axis(rows, np.array(completion.tokens)[:, None], 1)[:, 0]
        np.testing.assert_allclose(chosen, rows.max(-1), atol=FLOAT16)
    assert trt.cuda.clean


@pytest.mark.usefixtures("trt")
@pytest.mark.parametrize("rows_at_once", [1, 64])  # the batch of four at least
def test_logits_of_any_schedule_are_the_references(
    tiny: Tiny, rows_at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every row of four sequences, fed in random chunks to random blocks, against one pass of transformers."""
    monkeypatch.setattr(plan_runner, "ROWS_AT_ONCE", rows_at_once)
    rng = np.random.default_rng(1)
    sequences = [rng.integers(0, VOCAB, length) for length in (CONTEXT, 33, 17, 50)]
    expected = [reference_rows(tiny.model, sequence.tolist()) for sequence in sequences]
    blocks, done = rng.permutation(4), [0, 0, 0, 0]
    tolerance = FLOAT16 if tiny.kind == "dense" else 2 * FLOAT16  # shares of the experts are rounded too
    with Engine.open(tiny.path, max_sequences=4) as engine:
        while waiting := [i for i in range(4) if done[i] < len(sequences[i])]:
            chosen = rng.permutation(waiting)[: rng.integers(1, len(waiting) + 1)].tolist()
            sizes = {i: 1 if rng.random() < 0.6 else min(9, len(sequences[i]) - done[i]) for i in chosen}
            found = engine.backend.run(step(sequences, done, sizes, blocks)).values
            wanted = np.concatenate([expected[i][done[i] : done[i] + size] for i, size in sizes.items()])
            np.testing.assert_allclose(found, wanted, atol=tolerance, rtol=0)
            for i, size in sizes.items():
                done[i] += size


@pytest.mark.usefixtures("trt")
def test_the_graph_on_the_cpu_says_the_same_bit_for_bit(tiny: Tiny) -> None:
    with Engine.open(tiny.path, max_sequences=2) as device, Engine.open(tiny.path, max_sequences=2, on_cpu=True) as cpu:
        assert cpu.backend.cache == device.backend.cache
        requests = [Request(prompt=prompt, max_tokens=8, sampling=GREEDY) for prompt in prompts(4)]
        assert [a.tokens for a in device.generate(requests)] == [b.tokens for b in cpu.generate(requests)]


def test_decoding_replays_one_graph_for_each_range_of_blocks(tiny: Tiny, trt: HostTensorRt) -> None:
    with Engine.open(tiny.path, max_sequences=2) as engine:
        engine.generate([Request(prompt=[1, 2, 3], max_tokens=9, sampling=GREEDY) for _ in range(2)])
        decode = [context for context in trt.contexts if context.profile == 1]
        if trt.rtx:  # TensorRT-RTX records by itself
            assert [context.config.cuda_graph_strategy.name for context in decode] == ["WHOLE_GRAPH_CAPTURE"]
            assert not trt.cuda.executables
        else:
            assert [context.recorded for context in decode] == [True]
            assert len(trt.cuda.executables) == 1
        prefill = [context for context in trt.contexts if context.profile == 0]
        assert [context.config.cuda_graph_strategy.name for context in prefill] == ["DISABLED"]
        bindings = sum(context.bindings for context in trt.contexts)
        engine.generate([Request(prompt=[1, 2, 3], max_tokens=9, sampling=GREEDY) for _ in range(2)])
        assert sum(context.bindings for context in trt.contexts) == bindings  # nothing was bound anew
    assert trt.cuda.clean


def test_graphs_beyond_the_limit_replace_the_oldest(
    tiny: Tiny, trt: HostTensorRt, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plan_runner, "MAX_GRAPHS", 2)
    sequences = [np.arange(20) for _ in range(4)]
    expected = reference_rows(tiny.model, list(range(20)))
    with Engine.open(tiny.path, max_sequences=4) as engine:
        done, blocks = [0] * 4, np.arange(4)
        for i in (0, 1, 2, 3, 1, 0, 1, 0, 2):
            found = engine.backend.run(step(sequences, done, {i: 1}, blocks)).values
            np.testing.assert_allclose(found[0], expected[done[i]], atol=FLOAT16)
            done[i] += 1
        assert len(trt.cuda.executables) == (0 if trt.rtx else 2)


def test_a_step_without_graphs_says_the_same(tiny: Tiny, trt: HostTensorRt) -> None:
    manifest = read_engine_directory(tiny.path)
    backend = tensorrt.open_tensorrt(tiny.path, manifest, max_sequences=1, max_context=CONTEXT, graphs=False)
    tokens = np.arange(6)
    for position in range(6):
        found = backend.run(step([tokens], [position], {0: 1}, np.zeros(1))).values
    np.testing.assert_allclose(found, reference_rows(tiny.model, tokens.tolist())[-1:], atol=FLOAT16)
    assert not trt.cuda.executables
    backend.close()
    backend.close()
    assert trt.cuda.clean
    with pytest.raises(EngineError, match="closed"):
        backend.run(step([tokens], [5], {0: 1}, np.zeros(1)))


@pytest.mark.usefixtures("trt")
def test_a_step_without_wanted_rows_only_fills_the_cache(tiny: Tiny) -> None:
    tokens = np.arange(7)
    with Engine.open(tiny.path) as engine:
        for start, end in ((0, 5), (5, 6), (6, 7)):
            rows = engine.backend.run(
                Step(
                    input_ids=tokens[start:end],
                    query_start=np.array([0, end - start], np.int32),
                    context_len=np.array([start], np.int32),
                    block_table=np.zeros((1, 1), np.int32),
                    logits_rows=np.array([0] if start == 6 else [], np.int32),
                )
            ).values
        np.testing.assert_allclose(rows, reference_rows(tiny.model, tokens.tolist())[-1:], atol=FLOAT16)


@pytest.mark.usefixtures("trt")
def test_a_cache_block_is_as_long_as_the_plan_says_and_the_engine_keeps_to_less(tiny: Tiny) -> None:
    with Engine.open(tiny.path, max_sequences=3, max_context=16) as engine:
        geometry = engine.backend.cache
        assert (geometry.num_blocks, geometry.block_size) == (3, CONTEXT)
        assert geometry.bytes_per_token == 2 * 2 * 2 * 32 * 2  # layers, keys and values, heads, head_dim, float16
        done = engine.complete([1, 2, 3], max_tokens=CONTEXT, sampling=GREEDY)
        assert done.finish_reason == "context"
        assert done.usage.prompt_tokens + done.usage.completion_tokens == 16


@pytest.mark.usefixtures("trt")
def test_a_sequence_fills_the_context_to_its_last_token(tiny: Tiny) -> None:
    with Engine.open(tiny.path) as engine:
        done = engine.complete([1, 2, 3], max_tokens=CONTEXT, sampling=GREEDY)
        assert done.usage.prompt_tokens + done.usage.completion_tokens == CONTEXT
