"""Every backend feeds exactly the inputs that its interface declares; a further one is declared and filled, no more."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import numpy as np
import onnx
import pytest
from built_engine import GREEDY, SIZES, build_engine, rewrite
from cuda_on_host import HostCuda
from onnx import TensorProto, helper
from tensorrt_on_host import HostTensorRt, import_network

from qwen3_compile.spec.load import load_spec
from qwen3_compile.tensorrt import profiles_of
from qwen3_graphs import interface
from qwen3_graphs.interface import StepInput
from qwen3_runtime import Engine, EngineError
from qwen3_runtime.backends import filling, padding, tensorrt
from qwen3_runtime.step import Step

if TYPE_CHECKING:
    from pathlib import Path

ADAPTERS = StepInput("adapter_ids", "INT32", ("B",), "lengths")
KINDS = {
    "packed_plugins": {"target": "ort-plugins", "cache": "fp16"},
    "padded": {"target": "ort", "cache": "fp32"},
    "padded_batch": {"target": "tensorrt-rtx", "weights": "fp16", "cache": "fp16"},
    "packed": {
        "target": "tensorrt-rtx attention",
        "weights": "fp16",
        "cache": "fp16",
        "sizes": {**SIZES, "head_dim": 64},
    },
}


def with_adapters(engine: Path) -> None:
    """Give a graph a further input, whose sum is added to all logits."""
    model = onnx.load(engine / "model.onnx", load_external_data=False)
    graph = model.graph
    graph.input.append(helper.make_tensor_value_info(ADAPTERS.name, TensorProto.INT32, list(ADAPTERS.shape)))
    for node in graph.node:
        node.output[:] = ["logits.before" if name == "logits" else name for name in node.output]
    graph.node.extend(
        [
            helper.make_node("Cast", [ADAPTERS.name], ["adapters.float"], to=TensorProto.FLOAT),
            helper.make_node("ReduceSum", ["adapters.float"], ["adapters.sum"], keepdims=0),
            helper.make_node("Add", ["logits.before", "adapters.sum"], ["logits"]),
        ]
    )
    rewrite(engine, "model.onnx", model.SerializeToString())


@pytest.fixture(scope="module", params=KINDS)
def built(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    return request.param, build_engine(tmp_path_factory.mktemp(request.param), **KINDS[request.param])[0]


def declare(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a feature would do: declare its input and say what fills it, here a number by the sequence's past."""
    for name in ("PACKED", "PADDED"):
        monkeypatch.setattr(interface, name, (*getattr(interface, name), ADAPTERS))
    monkeypatch.setitem(filling.PACKED, ADAPTERS.name, lambda step: step.context_len + 3)
    monkeypatch.setitem(padding.PADDED, ADAPTERS.name, lambda group: [row.context + 3 for row in group.rows])


def logits(path: Path, *, on_cpu: bool) -> list[np.ndarray]:
    """Of two sequences' first tokens, then of one more token each."""
    found = []
    with Engine.open(path, threads=1, max_sequences=2, on_cpu=on_cpu) as engine:
        first = engine.backend.cache.num_blocks // 2
        for start, count in ((0, 3), (3, 1)):
            step = Step(
                input_ids=np.arange(2 * count) + start,
                query_start=np.array([0, count, 2 * count], np.int32),
                context_len=np.array([start, start], np.int32),
                block_table=np.array([[0], [first]], np.int32),
                logits_rows=np.arange(2 * count, dtype=np.int32),
            )
            found.append(engine.backend.run(step).values.copy())
    return found


def test_a_further_input_is_fed_by_every_backend(built: tuple[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    kind, path = built
    on_cpu = kind in ("padded_batch", "packed")
    before = logits(path, on_cpu=on_cpu)
    with_adapters(path)
    with pytest.raises(EngineError, match="'adapter_ids': the manifest expects none"):
        Engine.open(path, on_cpu=on_cpu)
    declare(monkeypatch)
    after = logits(path, on_cpu=on_cpu)
    for old, new, added in zip(before, after, (6, 12), strict=True):
        np.testing.assert_allclose(new, old + added, atol=1e-5)


def test_a_further_input_is_fed_to_a_plan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, _ = build_engine(tmp_path, **KINDS["padded_batch"])
    before = logits(path, on_cpu=True)
    with_adapters(path)
    declare(monkeypatch)
    profiles = profiles_of(load_spec(path.parent / "spec.yaml"))
    network = import_network(path / "model.onnx", [profile.sizes for profile in profiles])
    found = HostTensorRt(HostCuda(), network)
    monkeypatch.setattr(tensorrt, "import_bindings", lambda _, **__: (found, found.cuda))
    for old, new, added in zip(before, logits(path, on_cpu=False), (6, 12), strict=True):
        np.testing.assert_allclose(new, old + added, atol=2e-2)
    with Engine.open(path) as engine:
        assert engine.complete([1, 2, 3], sampling=GREEDY, max_tokens=4).finish_reason == "length"


def test_every_declared_input_has_its_filling() -> None:
    packed = {each.name for each in (*interface.PACKED, *interface.HEAD_INPUTS)}
    assert filling.PACKED.keys() | filling.CONSTANTS.keys() == packed
    assert padding.PADDED.keys() == {each.name for each in interface.PADDED}
    fields = {field.name for field in dataclasses.fields(Step)}
    assert fields == {each.name for each in (*interface.PACKED, *interface.HEAD_INPUTS) if each.filled_by != "constant"}
