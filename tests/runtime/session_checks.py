"""What an engine of any cache layout must do, with real sessions, held to what transformers says."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from built_engine import SIZES, VOCAB, build_engine, embedding_tokenizer, prompts, reference_rows
from tokenizers import Tokenizer

from qwen3_runtime import Engine
from qwen3_runtime.step import Step

if TYPE_CHECKING:
    from transformers import PreTrainedModel

_TINY_TOKENIZER = Path(__file__).resolve().parents[2] / "examples" / "tiny" / "tokenizer"
_TEXTS = ["What is 37+45?", "Hello!", "a rather longer text than the two before, 12+34+56"]


def check_any_schedule(
    engine: Engine, model: PreTrainedModel, lengths: tuple[int, ...], *, longest: int, tolerance: float
) -> None:
    """Every row of random sequences, fed in random chunks of up to `longest`, their blocks scattered over the pool."""
    rng = np.random.default_rng(1)
    sequences = [rng.integers(0, VOCAB, length) for length in lengths]
    expected = [reference_rows(model, sequence.tolist()) for sequence in sequences]
    count, blocks = len(sequences), engine.backend.cache.num_blocks
    tables = rng.permutation(blocks).astype(np.int32).reshape(count, blocks // count)
    done = [0] * count
    while waiting := [i for i in range(count) if done[i] < len(sequences[i])]:
        chosen = rng.permutation(waiting)[: rng.integers(1, len(waiting) + 1)].tolist()
        sizes = [1 if rng.random() < 0.5 else min(longest, len(sequences[i]) - done[i]) for i in chosen]
        fed = [slice(done[i], done[i] + size) for i, size in zip(chosen, sizes, strict=True)]
        step = Step(
            input_ids=np.concatenate([sequences[i][part] for i, part in zip(chosen, fed, strict=True)]),
            query_start=np.cumsum([0, *sizes]).astype(np.int32),
            context_len=np.array([done[i] for i in chosen], np.int32),
            block_table=tables[chosen],
            logits_rows=np.arange(sum(sizes), dtype=np.int32),
        )
        wanted = np.concatenate([expected[i][part] for i, part in zip(chosen, fed, strict=True)])
        np.testing.assert_allclose(engine.backend.run(step).values, wanted, atol=tolerance, rtol=0)
        for i, part in zip(chosen, fed, strict=True):
            done[i] = part.stop


def check_steps_without_wanted_rows(engine: Engine, model: PreTrainedModel, *, block: int, tolerance: float) -> None:
    """They only fill the cache: the next token's logits are those after all of them."""
    tokens = prompts(2)[1][:6]
    for start, end in ((0, 5), (5, 6)):
        step = Step(
            input_ids=np.array(tokens[start:end], np.int64),
            query_start=np.array([0, end - start], np.int32),
            context_len=np.array([start], np.int32),
            block_table=np.array([[block]], np.int32),
            logits_rows=np.array([0] if start else [], np.int32),
        )
        rows = engine.backend.run(step).values
        assert rows.shape == (1 if start else 0, VOCAB)
    np.testing.assert_allclose(rows[0], reference_rows(model, tokens)[-1], atol=tolerance)


def check_embeddings(folder: Path, *, tolerance: float, sizes: dict[str, Any] = SIZES, **engine: Any) -> None:
    """Embeddings are the reference's last hidden state, of length one."""
    files = embedding_tokenizer(_TINY_TOKENIZER, folder / "tokenizer")
    tokenizer = Tokenizer.from_file(str(files / "tokenizer.json"))
    sizes = {**sizes, "vocab_size": 448, "tie_word_embeddings": True}
    path, model = build_engine(folder, task="embedding", sizes=sizes, tokenizer=files, **engine)
    with Engine.open(path, threads=1, max_sequences=2) as opened:
        found = opened.embed(_TEXTS)
    for row, text in zip(found, _TEXTS, strict=True):
        with torch.no_grad():
            hidden = model(torch.tensor([tokenizer.encode(text).ids])).last_hidden_state[0, -1].double()
        np.testing.assert_allclose(row, (hidden / hidden.norm()).numpy(), atol=tolerance)
