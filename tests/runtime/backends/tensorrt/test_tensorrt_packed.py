"""The TensorRT backend of engines with our attention plugin: packed steps over a pool of cache blocks.

What stands for the plan is the eager model, which has the same interface; CUDA and TensorRT are imitated as in
`test_tensorrt_padded`.

Reference: `transformers` in float32
"""

from __future__ import annotations

import ctypes
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from built_engine import CONTEXT, GREEDY, SIZES, VOCAB, prompts, reference_rows, with_changed_manifest
from cuda_on_host import HostCuda
from tensorrt_on_host import LOGGER, HostTensorRt, real

from qwen3_graphs.architecture import Architecture
from qwen3_graphs.model import Batch, Qwen3
from qwen3_runtime import Engine, EngineError, Request
from qwen3_runtime.backends import tensorrt
from qwen3_runtime.backends.tensorrt import plan_runner
from qwen3_runtime.step import Step

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from transformers import PreTrainedModel

BLOCK, BATCH, TOKENS, LAYERS = 16, 4, 24, SIZES["num_hidden_layers"]
POOL = BATCH * CONTEXT // BLOCK
DTYPES = {"INT32": np.int32, "INT64": np.int64, "HALF": np.float16, "FLOAT": np.float32}
INPUTS: dict[str, tuple[str, tuple[int | str, ...]]] = {
    "input_ids": ("INT64", ("T",)),
    "query_start": ("INT32", ("B + 1",)),
    "context_len": ("INT32", ("B",)),
    "block_table": ("INT32", ("B", "M")),
    "logits_rows": ("INT32", ("R",)),
    **{f"kv.{layer}": ("HALF", ("blocks", 2, 2, BLOCK, 32)) for layer in range(LAYERS)},
}
MOST = {"B": BATCH, "B + 1": BATCH + 1, "M": CONTEXT // BLOCK, "R": BATCH, "blocks": POOL}


@dataclass
class EagerPlan:
    """The eager model where `tensorrt_on_host` wants a network; of a plugin, TensorRT does not tell aliases."""

    model: Qwen3
    tells_aliases: bool = False
    aliases: dict[str, str] = field(default_factory=lambda: {f"kv_out.{i}": f"kv.{i}" for i in range(LAYERS)})

    def __post_init__(self) -> None:
        self.tensors = {name: tensor(kind, dims) for name, (kind, dims) in INPUTS.items()}
        self.tensors["logits"] = tensor("FLOAT", ("R", VOCAB), is_input=False)
        for layer in range(LAYERS):
            self.tensors[f"kv_out.{layer}"] = tensor(*INPUTS[f"kv.{layer}"], is_input=False)
        self._builder = real.Builder(LOGGER)
        self.profiles = [self._profile(tokens) for tokens in (TOKENS, BATCH)]

    def _profile(self, tokens: int) -> Any:
        profile = self._builder.create_optimization_profile()
        least = {name: 2 if name == "B + 1" else 1 for name in MOST} | {"T": 1}
        for name, (_, dims) in INPUTS.items():
            smallest, largest = (
                tuple(sizes[dim] if isinstance(dim, str) else dim for dim in dims)
                for sizes in (least, {**MOST, "T": tokens})
            )
            profile.set_shape(name, smallest, largest, largest)
        return profile

    def compute(self, shapes: Mapping[str, tuple[int, ...]], addresses: Mapping[str, int]) -> None:
        arrays = {
            name: torch.from_numpy(at(addresses[name], shape, DTYPES[self.tensors[name].dtype.name]))
            for name, shape in shapes.items()
        }
        batch = Batch(arrays["query_start"], arrays["context_len"], arrays["block_table"])
        caches = [arrays[f"kv.{layer}"].clone() for layer in range(LAYERS)]
        with torch.no_grad():
            logits, written = self.model(arrays["input_ids"], batch, arrays["logits_rows"], caches)
        arrays["logits"].copy_(logits)
        for layer, cache in enumerate(written):
            arrays[f"kv_out.{layer}"].copy_(cache)


def tensor(kind: str, dims: tuple[int | str, ...], *, is_input: bool = True) -> SimpleNamespace:
    shape = tuple(-1 if isinstance(dim, str) else dim for dim in dims)
    dtype = getattr(real.DataType, kind)
    return SimpleNamespace(dtype=dtype, shape=shape, is_network_input=is_input, is_shape_tensor=False)


def at(address: int, shape: tuple[int, ...], dtype: Any) -> np.ndarray:
    size = int(np.prod(shape)) * np.dtype(dtype).itemsize
    return np.ctypeslib.as_array((ctypes.c_ubyte * size).from_address(address)).view(dtype).reshape(shape)


@pytest.fixture(scope="module")
def built(
    tensorrt_engine: tuple[Path, PreTrainedModel], tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, PreTrainedModel, EagerPlan]:
    native, reference = tensorrt_engine
    path = with_changed_manifest(
        native, tmp_path_factory.mktemp("packed") / "engine", "target", {"plugins": ["attention"]}
    )
    model = Qwen3(Architecture(**SIZES, rope_theta=1e4), CONTEXT)
    model.load_state_dict(reference.state_dict())
    return path, reference, EagerPlan(model)


@pytest.fixture(params=["tensorrt-rtx", "tensorrt"])
def trt(
    request: pytest.FixtureRequest,
    built: tuple[Path, PreTrainedModel, EagerPlan],
    monkeypatch: pytest.MonkeyPatch,
) -> HostTensorRt:
    found = HostTensorRt(HostCuda(), built[2], rtx=request.param == "tensorrt-rtx")
    monkeypatch.setattr(tensorrt, "import_bindings", lambda _, **__: (found, found.cuda))
    return found


def test_generation_in_a_batch_is_the_references_greedy_choice(built: Any, trt: HostTensorRt) -> None:
    """Ten prompts through four seats, over blocks that sequences take and give back."""
    path, model, _ = built
    with Engine.open(path, max_sequences=4) as engine:
        done = engine.generate([Request(prompt=prompt, max_tokens=12, sampling=GREEDY) for prompt in prompts(10)])
        assert engine._scheduler.pool.available == POOL
    for prompt, completion in zip(prompts(10), done, strict=True):
        rows = reference_rows(model, [*prompt, *completion.tokens])[len(prompt) - 1 : -1]
        chosen = np.take_along_axis(rows, np.array(completion.tokens)[:, None], 1)[:, 0]
        np.testing.assert_allclose(chosen, rows.max(-1), atol=1e-2)
    decode = [context for context in trt.contexts if context.profile == 1]
    if trt.rtx:
        assert len(decode) == 1
    else:
        assert all(context.recorded for context in decode)
        assert len(decode) <= BATCH  # a graph for each size of the batch
    assert trt.cuda.clean


def test_logits_of_any_schedule_are_the_references(
    built: Any, trt: HostTensorRt, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every row of four sequences over permuted blocks, more rows than are given at once."""
    monkeypatch.setattr(plan_runner, "ROWS_AT_ONCE", 1)
    path, model, _ = built
    rng = np.random.default_rng(2)
    sequences = [rng.integers(0, VOCAB, length) for length in (CONTEXT, 33, 17, 50)]
    expected = [reference_rows(model, sequence.tolist()) for sequence in sequences]
    blocks, done = rng.permutation(POOL).reshape(4, -1).astype(np.int32), [0, 0, 0, 0]
    with Engine.open(path, max_sequences=4) as engine:
        while waiting := [i for i in range(4) if done[i] < len(sequences[i])]:
            chosen = rng.permutation(waiting)[: rng.integers(1, len(waiting) + 1)].tolist()
            sizes = {i: 1 if rng.random() < 0.6 else min(6, len(sequences[i]) - done[i]) for i in chosen}
            held = max(-(-(done[i] + size) // BLOCK) for i, size in sizes.items())
            step = Step(
                input_ids=np.concatenate([sequences[i][done[i] : done[i] + size] for i, size in sizes.items()]),
                query_start=np.cumsum([0, *sizes.values()]).astype(np.int32),
                context_len=np.array([done[i] for i in sizes], np.int32),
                block_table=blocks[chosen][:, :held],
                logits_rows=np.arange(sum(sizes.values()), dtype=np.int32)[::-1].copy(),
            )
            found = engine.backend.run(step).values[::-1]
            wanted = np.concatenate([expected[i][done[i] : done[i] + size] for i, size in sizes.items()])
            np.testing.assert_allclose(found, wanted, atol=1e-2, rtol=0)
            for i, size in sizes.items():
                done[i] += size
    assert trt.cuda.clean


def test_wanted_rows_are_those_of_the_step(built: Any, trt: HostTensorRt) -> None:
    """None of a chunk, one of two that decode."""
    path, model, _ = built
    expected = reference_rows(model, list(range(6)))
    with Engine.open(path, max_sequences=2) as engine:

        def run(ids: list[int], starts: list[int], context: list[int], rows: list[int]) -> np.ndarray:
            table = np.arange(len(context), dtype=np.int32)[:, None]
            arrays = (np.array(starts, np.int32), np.array(context, np.int32), table, np.array(rows, np.int32))
            return engine.backend.run(Step(np.array(ids), *arrays)).values

        assert run([0, 1, 2, 0, 1], [0, 3, 5], [0, 0], []).shape == (0, VOCAB)
        np.testing.assert_allclose(run([3, 2], [0, 1, 2], [3, 2], [1]), expected[2:3], atol=1e-2)
        np.testing.assert_allclose(run([4, 3], [0, 1, 2], [4, 3], [1, 0]), expected[[3, 4]], atol=1e-2)
    assert trt.cuda.clean


def test_the_cache_is_as_large_as_was_asked_for(built: Any, trt: HostTensorRt) -> None:
    with Engine.open(built[0], max_sequences=3, max_context=40) as engine:
        geometry = engine.backend.cache
        assert (geometry.num_blocks, geometry.block_size) == (9, BLOCK)
        assert geometry.bytes_per_token == LAYERS * 2 * 2 * 32 * 2  # keys and values, heads, head_dim, float16
        step = Step(np.zeros(1, np.int64), np.array([0, 1]), np.array([48]), np.zeros((1, 4), np.int32), np.zeros(1))
        with pytest.raises(EngineError, match="4 cache blocks, the backend was opened for 3"):
            engine.backend.run(step)
    assert trt.cuda.clean


def test_a_cache_beyond_the_plans_profiles_is_refused(
    built: Any, trt: HostTensorRt, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(MOST, "blocks", 8)
    monkeypatch.setattr(trt.network, "profiles", [trt.network._profile(tokens) for tokens in (TOKENS, BATCH)])
    with pytest.raises(EngineError, match="4 sequences of 64 tokens need 16 cache blocks, the engine was built for 8"):
        Engine.open(built[0], max_sequences=4)
    assert trt.cuda.clean
