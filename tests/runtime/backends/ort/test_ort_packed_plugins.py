"""Our operators for ONNX Runtime say what transformers says, however steps are packed and blocks lie.

Reference: `transformers`, through real sessions
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from built_engine import (
    GREEDY,
    SIZES,
    VOCAB,
    build_engine,
    prompts,
    reference_rows,
    with_changed_manifest,
)
from session_checks import check_any_schedule, check_embeddings, check_steps_without_wanted_rows

import qwen3_plugins.ort
from qwen3_compile.errors import UnsupportedError
from qwen3_runtime import Engine, EngineError, Request
from qwen3_runtime.backends.ort.packed_plugins import BLOCK_SIZE
from qwen3_runtime.step import Step

if TYPE_CHECKING:
    from pathlib import Path

    from transformers import PreTrainedModel

CONTEXT = 3 * BLOCK_SIZE - 5  # not a multiple of a block
LONG = {**SIZES, "max_position_embeddings": CONTEXT}
KINDS = {
    "dense": {"cache": "fp16"},
    "moe": {"cache": "fp16", "moe": True},
    "int8-cache": {"cache": "int8"},
}
# Logits reach 6. Keys and values have ten bits and a sign, or seven; both were measured at half of this.
TOLERANCE = {"float16": 2e-2, "int8": 0.25}


@pytest.fixture(scope="module", params=KINDS)
def built(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory):
    folder, kind = tmp_path_factory.mktemp(request.param), KINDS[request.param]
    return build_engine(folder, target="ort-plugins", sizes=LONG, **kind)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def quantized(tmp_path_factory: pytest.TempPathFactory) -> Path:
    kind = {"target": "ort-plugins", "cache": "fp16", "weights": "int4", "moe": True, "sizes": LONG}
    return build_engine(tmp_path_factory.mktemp("int4"), **kind)[0]  # type: ignore[arg-type]


def test_logits_of_any_schedule_are_the_references(built: tuple[Path, PreTrainedModel]) -> None:
    path, model = built
    with Engine.open(path, threads=2, max_sequences=4) as engine:
        assert engine.backend.cache.num_blocks == 12
        tolerance = TOLERANCE[engine.manifest.io.cache_dtype]
        check_any_schedule(engine, model, (CONTEXT, 33, 65, 128), longest=24, tolerance=tolerance)


def check_greedy(engine: Engine, model: PreTrainedModel, requests: list[Request]) -> None:
    """Generate together; a token counts as the reference's where its logit is within the rounding of the greatest."""
    tolerance = 2 * TOLERANCE[engine.manifest.io.cache_dtype]
    for request, completion in zip(requests, engine.generate(requests), strict=True):
        assert completion.finish_reason == "length"
        prompt = list(request.prompt or ())
        rows = reference_rows(model, [*prompt, *completion.tokens])[len(prompt) - 1 : -1]
        chosen = rows[np.arange(len(rows)), list(completion.tokens)]
        assert (rows.max(-1) - chosen < tolerance).all()


def test_generation_in_a_batch_is_the_references_greedy_choice(built: tuple[Path, PreTrainedModel]) -> None:
    """Ten prompts through four seats: chunks (of 24), ragged first prefills and decodes of every mix."""
    path, model = built
    with Engine.open(path, threads=1, max_sequences=4) as engine:
        check_greedy(engine, model, [Request(prompt=prompt, max_tokens=12, sampling=GREEDY) for prompt in prompts(10)])
        assert engine._scheduler.pool.available == engine.backend.cache.num_blocks


def test_what_is_read_from_the_prefix_cache_gives_the_references_choice(built: tuple[Path, PreTrainedModel]) -> None:
    """Twelve prompts with the same first 70 tokens, one full block of which is shared; then all of them once more."""
    path, model = built
    rng = np.random.default_rng(5)
    beginning = rng.integers(0, VOCAB, 70).tolist()
    asked = [
        Request(prompt=[*beginning, *rng.integers(0, VOCAB, 5 + i).tolist()], max_tokens=6, sampling=GREEDY)
        for i in range(12)
    ]
    with Engine.open(path, threads=2, max_sequences=4) as engine:
        check_greedy(engine, model, asked)
        check_greedy(engine, model, asked)
        assert [one.usage.cached_tokens for one in engine.generate(asked)] == [64] * 12


def test_a_small_pool_computes_again_what_it_had_to_give_back(built: tuple[Path, PreTrainedModel]) -> None:
    """Four sequences of up to three blocks each, in a pool of six: the youngest wait and start over."""
    path, model = built
    with Engine.open(path, threads=1, max_sequences=4) as engine:
        for _ in range(6):
            engine._scheduler.pool.take()
        check_greedy(engine, model, [Request(prompt=[7 + i] * 30, max_tokens=120, sampling=GREEDY) for i in range(4)])
        assert engine._scheduler.pool.available == 6


def test_a_sequence_does_not_depend_on_its_neighbors(quantized: Path) -> None:
    """One token of each of four sequences, together and alone.

    Sums of float32 may take another order, which may turn the rounding of an activation to eight bits: 5e-7 was
    measured, and one activation is worth a thousandth of a logit.
    """
    rng = np.random.default_rng(4)
    with Engine.open(quantized, threads=2, max_sequences=4) as engine:
        lengths = np.array([100, 3, 64, 90], np.int32)
        tables = rng.permutation(12).astype(np.int32).reshape(4, 3)
        for length, table in zip(lengths, tables, strict=True):
            engine.backend.run(one_step([rng.integers(0, VOCAB, length)], [0], table[None]))
        new = rng.integers(0, VOCAB, (4, 1))
        together = engine.backend.run(one_step(list(new), lengths, tables)).values
        for i in range(4):
            alone = engine.backend.run(one_step([new[i]], lengths[i : i + 1], tables[i : i + 1])).values
            np.testing.assert_allclose(alone[0], together[i], rtol=0, atol=5e-3)


def one_step(tokens: list[np.ndarray], context: object, tables: np.ndarray) -> Step:
    """New tokens of each sequence, whose last ones' logits are wanted."""
    starts = np.cumsum([0, *map(len, tokens)]).astype(np.int32)
    return Step(np.concatenate(tokens), starts, np.asarray(context, np.int32), tables, starts[1:] - 1)


def test_nothing_that_earlier_sequences_left_in_the_cache_matters(built: tuple[Path, PreTrainedModel]) -> None:
    path, _ = built
    requests = [Request(prompt=prompt, max_tokens=8, sampling=GREEDY) for prompt in prompts(5)]
    with Engine.open(path, threads=1, max_sequences=2) as engine:
        clean = [done.tokens for done in engine.generate(requests)]
        for memory in engine.backend._cache.values():  # type: ignore[attr-defined]
            memory[...] = 127 if memory.dtype == np.int8 else np.nan
        assert [done.tokens for done in engine.generate(requests)] == clean


def test_a_sequence_fills_the_context_to_its_last_token(built: tuple[Path, PreTrainedModel]) -> None:
    path, _ = built
    with Engine.open(path, threads=1, max_context=100) as engine:
        done = engine.complete(prompts(1)[0], sampling=GREEDY)
        # The pool holds whole blocks, the limit is what was asked for.
        assert engine.backend.cache.num_blocks == 2
    assert done.finish_reason == "context"
    assert done.usage.prompt_tokens + done.usage.completion_tokens == 100


def test_the_cache_is_counted_with_its_scales(built: tuple[Path, PreTrainedModel]) -> None:
    path, _ = built
    with Engine.open(path) as engine:
        width = {"float16": 32 * 2, "int8": 32 + 4}[engine.manifest.io.cache_dtype]
        assert engine.backend.cache.bytes_per_token == 2 * 2 * 2 * width  # layers, keys and values, heads


def test_steps_without_wanted_rows_only_fill_the_cache(built: tuple[Path, PreTrainedModel]) -> None:
    path, model = built
    with Engine.open(path, threads=1) as engine:
        tolerance = TOLERANCE[engine.manifest.io.cache_dtype]
        check_steps_without_wanted_rows(engine, model, block=1, tolerance=tolerance)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"block_table": [[99]]}, "names block 99, the cache has 3"),
        ({"context_len": [-1]}, "context_len of sequence 0 is -1"),
        ({"context_len": [64]}, "has 66 tokens, its 1 cache blocks hold 64"),
        ({"input_ids": [3, VOCAB]}, f"id {VOCAB} at position 1 is not a row of the table of {VOCAB}"),
        ({"logits_rows": [2]}, "logits_rows names row 2"),
    ],
)
def test_a_step_that_does_not_hold_together_is_one_line(quantized: Path, change: dict, message: str) -> None:
    good = {"input_ids": [3, 4], "query_start": [0, 2], "context_len": [0], "block_table": [[0]], "logits_rows": [1]}
    with Engine.open(quantized, threads=1) as engine:
        arrays = {name: np.array(value, np.int64 if name == "input_ids" else np.int32) for name, value in good.items()}
        before = engine.backend.run(Step(**arrays)).values
        with pytest.raises(EngineError, match=message) as caught:
            engine.backend.run(
                Step(**{**arrays, **{name: np.array(value, arrays[name].dtype) for name, value in change.items()}})
            )
        assert "\n" not in str(caught.value)
        np.testing.assert_array_equal(engine.backend.run(Step(**arrays)).values, before)


@pytest.mark.parametrize(
    ("section", "change", "message"),
    [
        ("target", {"provider": "cuda"}, "provider 'cuda'; this backend has cpu"),
        ("io", {"cache_dtype": "float32"}, "cache is float32; this backend has float16 and int8"),
        (
            "io",
            {"cache_dtype": "int8"},
            r"'kv\.0': the manifest expects tensor\(int8\), the graph has tensor\(float16\)",
        ),
        ("io", {"layers": 3}, r"'kv\.2': the manifest expects tensor\(float16\), the graph has none"),
        ("io", {"kv_heads": 1}, "the manifest expects 1 on axis 2"),
        ("io", {"head_dim": 64}, "the manifest expects 64 on axis 4"),
        ("io", {"vocab_size": 121}, "the manifest expects 121 on axis 1"),
        ("io", {"output": "hidden"}, r"'live_vocab': the manifest expects none, the graph has tensor\(int32\)"),
    ],
)
def test_a_graph_that_differs_from_the_manifest_is_refused(
    quantized: Path, tmp_path: Path, section: str, change: dict[str, object], message: str
) -> None:
    path = with_changed_manifest(quantized, tmp_path / "engine", section, change)
    with pytest.raises(EngineError, match=message):
        Engine.open(path)


def test_without_the_library_opening_and_building_offer_another_target(
    quantized: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from qwen3_compile.pipeline import build
    from qwen3_compile.spec import load_spec

    monkeypatch.setattr(qwen3_plugins.ort, "library_path", lambda: None)
    remedy = r"libqwen3_ort.so is missing .*qwen3_plugins.ort.compile.*--set target.plugins=none$"
    with pytest.raises(EngineError, match=remedy):
        Engine.open(quantized)
    with pytest.raises(UnsupportedError, match=remedy):
        build(load_spec(quantized.parent / "spec.yaml"), tmp_path / "other")
    assert not (tmp_path / "other").exists()


def test_a_backend_that_was_closed_says_so(quantized: Path) -> None:
    engine = Engine.open(quantized)
    engine.close()
    with pytest.raises(EngineError, match="closed"):
        engine.complete([1, 2])
    engine.close()


def test_embeddings_are_the_references_last_hidden_state(tmp_path: Path) -> None:
    check_embeddings(tmp_path, target="ort-plugins", cache="fp16", sizes=LONG, tolerance=1e-3)
