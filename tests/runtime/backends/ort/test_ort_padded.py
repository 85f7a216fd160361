"""A built engine, opened by the runtime and run on ONNX Runtime, says what transformers says.

Reference: `transformers`, through real sessions
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import onnx
import pytest
import torch
from built_engine import (
    GREEDY,
    SIZES,
    VOCAB,
    build_engine,
    embedding_tokenizer,
    prompts,
    reference_rows,
    rewrite,
    with_changed_manifest,
)
from tokenizers import Tokenizer

from qwen3_runtime import Engine, EngineError, Request
from qwen3_runtime.step import Step

if TYPE_CHECKING:
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
    """Every row of five sequences, fed in random chunks to random blocks, against one pass of transformers."""
    path, model = built
    rng = np.random.default_rng(1)
    sequences = [rng.integers(0, VOCAB, length) for length in (64, 33, 17, 50)]
    tolerance = 2e-2 if "fp16" in str(path) else 1e-4
    with Engine.open(path, threads=1, max_sequences=4) as engine:
        blocks = rng.permutation(4)
        done = [0, 0, 0, 0]
        expected = [reference_rows(model, sequence.tolist()) for sequence in sequences]
        while waiting := [i for i in range(4) if done[i] < len(sequences[i])]:
            chosen = rng.permutation(waiting)[: rng.integers(1, len(waiting) + 1)].tolist()
            sizes = [1 if rng.random() < 0.6 else min(9, len(sequences[i]) - done[i]) for i in chosen]
            step = Step(
                input_ids=np.concatenate(
                    [sequences[i][done[i] : done[i] + size] for i, size in zip(chosen, sizes, strict=True)]
                ),
                query_start=np.cumsum([0, *sizes]).astype(np.int32),
                context_len=np.array([done[i] for i in chosen], np.int32),
                block_table=blocks[chosen].astype(np.int32)[:, None],
                logits_rows=np.arange(sum(sizes), dtype=np.int32),
            )
            found = engine.backend.run(step).values
            wanted = np.concatenate(
                [expected[i][done[i] : done[i] + size] for i, size in zip(chosen, sizes, strict=True)]
            )
            np.testing.assert_allclose(found, wanted, atol=tolerance, rtol=0)
            for i, size in zip(chosen, sizes, strict=True):
                done[i] += size


def test_a_step_without_wanted_rows_only_fills_the_cache(built: tuple[Path, PreTrainedModel]) -> None:
    path, model = built
    tokens = prompts(1)[0] + prompts(2)[1]
    with Engine.open(path, threads=1) as engine:
        for start, end in ((0, 5), (5, 6)):
            step = Step(
                input_ids=np.array(tokens[start:end], np.int64),
                query_start=np.array([0, end - start], np.int32),
                context_len=np.array([start], np.int32),
                block_table=np.zeros((1, 1), np.int32),
                logits_rows=np.array([0] if start else [], np.int32),
            )
            rows = engine.backend.run(step).values
            assert rows.shape == (1 if start else 0, VOCAB)
        np.testing.assert_allclose(rows[0], reference_rows(model, tokens[:6])[-1], atol=2e-2)


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


TINY_TOKENIZER = Path(__file__).resolve().parents[4] / "examples" / "tiny" / "tokenizer"


@pytest.mark.parametrize("target", ["ort", "onnx"])
def test_embeddings_are_the_references_last_hidden_state(tmp_path: Path, target: str) -> None:
    folder = embedding_tokenizer(TINY_TOKENIZER, tmp_path / "tokenizer")
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    sizes = {**SIZES, "vocab_size": 448, "tie_word_embeddings": True}
    path, model = build_engine(tmp_path, target=target, cache="fp32", task="embedding", sizes=sizes, tokenizer=folder)
    texts = ["What is 37+45?", "Hello!", "a rather longer text than the two before, 12+34+56"]
    with Engine.open(path, threads=1, max_sequences=2) as engine:
        found = engine.embed(texts)
    for row, text in zip(found, texts, strict=True):
        with torch.no_grad():
            hidden = model(torch.tensor([tokenizer.encode(text).ids])).last_hidden_state[0, -1].double()
        np.testing.assert_allclose(row, (hidden / hidden.norm()).numpy(), atol=1e-5)


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
