"""A built engine, opened by the runtime and run on ONNX Runtime, says what transformers says.

Reference: `transformers`, through real sessions
"""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import numpy as np
import onnx
import pytest
from built_engine import (
    GREEDY,
    build_engine,
    prompts,
    reference_rows,
    rewrite,
    with_changed_manifest,
)
from session_checks import check_any_schedule, check_embeddings, check_steps_without_wanted_rows

from qwen3_runtime import Engine, EngineError, Request

if TYPE_CHECKING:
    from pathlib import Path

    from transformers import PreTrainedModel

KINDS = {
    "ort": {"target": "ort", "cache": "fp32"},
    "ort-fp16-cache": {"target": "ort", "cache": "fp16"},
    "ort-moe": {"target": "ort", "cache": "fp32", "moe": True},
    "onnx": {"target": "onnx", "cache": "fp32"},
}


@pytest.fixture(scope="module", params=KINDS)
def built(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory):
    return build_engine(tmp_path_factory.mktemp(request.param), **KINDS[request.param])


def test_generation_in_a_batch_is_the_references_greedy_choice(built: tuple[Path, PreTrainedModel]) -> None:
    """Ten prompts through four seats: chunks (of 24), ragged first prefills and decodes of every mix."""
    path, model = built
    with Engine.open(path, threads=1, max_sequences=4) as engine:
        requests = [Request(prompt=prompt, max_tokens=12, sampling=GREEDY) for prompt in prompts(10)]
        done = engine.generate(requests)
        assert engine._scheduler.pool.available == 4
    for request, completion in zip(requests, done, strict=True):
        assert completion.finish_reason == "length"
        prompt = list(request.prompt or ())
        rows = reference_rows(model, [*prompt, *completion.tokens])[len(prompt) - 1 : -1]
        assert rows.argmax(-1).tolist() == list(completion.tokens)


def test_logits_of_any_schedule_are_the_references(built: tuple[Path, PreTrainedModel]) -> None:
    path, model = built
    tolerance = 2e-2 if "fp16" in str(path) else 1e-4
    with Engine.open(path, threads=1, max_sequences=4) as engine:
        check_any_schedule(engine, model, (64, 33, 17, 50), longest=9, tolerance=tolerance)


def test_steps_without_wanted_rows_only_fill_the_cache(built: tuple[Path, PreTrainedModel]) -> None:
    path, model = built
    with Engine.open(path, threads=1) as engine:
        check_steps_without_wanted_rows(engine, model, block=0, tolerance=2e-2)


def test_a_sequence_fills_the_context_to_its_last_token(built: tuple[Path, PreTrainedModel]) -> None:
    path, model = built
    with Engine.open(path, threads=1, max_context=48) as engine:
        done = engine.complete(prompts(1)[0], sampling=GREEDY)
        assert done.finish_reason == "context"
        assert done.usage.prompt_tokens + done.usage.completion_tokens == 48
    whole = [*prompts(1)[0], *done.tokens]
    assert reference_rows(model, whole)[-2].argmax() == done.tokens[-1]


def test_opening_with_less_context_makes_a_smaller_cache(built: tuple[Path, PreTrainedModel]) -> None:
    path, _ = built
    with Engine.open(path, max_sequences=3, max_context=16) as engine:
        geometry = engine.backend.cache
        assert (geometry.num_blocks, geometry.block_size) == (3, 16)
        width = 2 if "fp16" in str(path) else 4
        assert geometry.bytes_per_token == 2 * 2 * 2 * 32 * width  # layers, keys and values, heads, head_dim


def test_nothing_that_earlier_sequences_left_in_the_cache_matters(
    built: tuple[Path, PreTrainedModel], request: pytest.FixtureRequest
) -> None:
    """GroupQueryAttention never reads it; standard attention multiplies it with a weight of exactly zero."""
    path, _ = built
    left = 1e4 if "onnx" in request.node.callspec.params.values() else np.nan
    requests = [Request(prompt=prompt, max_tokens=8, sampling=GREEDY) for prompt in prompts(5)]
    with Engine.open(path, threads=1, max_sequences=2) as engine:
        clean = [done.tokens for done in engine.generate(requests)]
        for memory in engine.backend._memory.values():  # type: ignore[attr-defined]
            memory[...] = left
        assert [done.tokens for done in engine.generate(requests)] == clean


def test_a_backend_that_was_closed_says_so(built: tuple[Path, PreTrainedModel]) -> None:
    path, _ = built
    engine = Engine.open(path)
    engine.close()
    with pytest.raises(EngineError, match="closed"):
        engine.complete([1, 2])
    engine.close()


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_engine(tmp_path_factory.mktemp("plain"), target="ort", cache="fp32")[0]


@pytest.mark.parametrize("target", ["ort", "onnx"])
def test_embeddings_are_the_references_last_hidden_state(tmp_path: Path, target: str) -> None:
    check_embeddings(tmp_path, target=target, cache="fp32", tolerance=1e-5)


@pytest.mark.parametrize("location", ["../secret.bin", "/etc/hostname"])
def test_a_graph_whose_weights_lie_outside_the_engine_is_refused(plain: Path, tmp_path: Path, location: str) -> None:
    """Even when every hash holds: whoever made the engine may have meant harm."""
    path = shutil.copytree(plain, tmp_path / "engine")
    (tmp_path / "secret.bin").write_bytes((path / "weights.bin").read_bytes())
    graph = onnx.load(path / "model.onnx", load_external_data=False)
    for tensor in graph.graph.initializer:
        for entry in tensor.external_data:
            if entry.key == "location":
                entry.value = location
    rewrite(path, "model.onnx", graph.SerializeToString())
    with pytest.raises(EngineError, match=r"model\.onnx: ONNX Runtime cannot open it: .*[Ee]xternal data"):
        Engine.open(path)


def test_weights_shorter_than_the_graph_says_are_one_line_and_no_noise(
    plain: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path = shutil.copytree(plain, tmp_path / "engine")
    data = (path / "weights.bin").read_bytes()
    rewrite(path, "weights.bin", data[: len(data) // 3])
    with pytest.raises(EngineError, match=r"model\.onnx: ONNX Runtime cannot open it: .*out of bounds") as caught:
        Engine.open(path)
    assert "\n" not in str(caught.value)
    assert "std::" not in str(caught.value)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("section", "change", "message"),
    [
        ("target", {"provider": "cuda"}, "needs CUDAExecutionProvider, this onnxruntime has"),
        ("target", {"provider": "npu"}, "provider 'npu'; this backend has cpu, cuda"),
        ("io", {"cache_dtype": "float16"}, r"tensor\(float16\), the graph has tensor\(float\)"),
        ("io", {"layers": 3}, r"'kv\.2\.key': the manifest expects tensor\(float\), the graph has none"),
        ("io", {"kv_heads": 1}, "the manifest expects 1 on axis 1"),
        ("io", {"head_dim": 64}, "the manifest expects 64 on axis 3"),
        ("io", {"vocab_size": 121}, "the manifest expects 121 on axis 1"),
        ("io", {"output": "hidden"}, "'hidden'"),
    ],
)
def test_a_graph_that_differs_from_the_manifest_is_refused(
    plain: Path, tmp_path: Path, section: str, change: dict[str, object], message: str
) -> None:
    path = with_changed_manifest(plain, tmp_path / "engine", section, change)
    with pytest.raises(EngineError, match=message):
        Engine.open(path)


def test_where_the_texts_side_cannot_be_opened_the_backend_is_closed_again(
    built: tuple[Path, PreTrainedModel], monkeypatch: pytest.MonkeyPatch
) -> None:
    path, _ = built
    closed = []

    class Opened:
        def close(self) -> None:
            closed.append(True)

    def damaged(*_: object) -> None:
        raise EngineError("no text today")

    monkeypatch.setattr("qwen3_runtime.opening.open_backend", lambda *_, **__: Opened())
    monkeypatch.setattr("qwen3_runtime.opening.Model", damaged)
    with pytest.raises(EngineError, match="no text today"):
        Engine.open(path)
    assert closed == [True]
