"""Requests for one row of output and no text: embeddings and relevance scores. They share steps with all others."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from qwen3_runtime import arguments
from qwen3_runtime.admission import check_ids
from qwen3_runtime.errors import DamagedEngineError, RequestError
from qwen3_runtime.last_row import LastRow
from qwen3_runtime.reranking import relevance, rerank_prompt
from qwen3_runtime.scheduler import check_prompt
from qwen3_runtime.sequence import TokenSequence

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from qwen3_runtime.admission import Model
    from qwen3_runtime.driver import Driver


class Pooling:
    """Takes the output at the last token of each prompt.

    Args:
        driver: runs the prompts.
        model: what they are for; `model.max_context` tokens fit.
    """

    def __init__(self, driver: Driver, model: Model) -> None:
        self._driver = driver
        self._model = model

    def embed(self, texts: str | Sequence[str]) -> NDArray[np.float32]:
        """See `Engine.embed`."""
        io, tokenizer = self._model.manifest.io, self._model.tokenizer
        if io.output != "hidden" or tokenizer is None:
            raise RequestError(f"this engine is made for {io.task}: it cannot embed", field="texts")
        given = arguments.texts("texts", texts)
        prompts = [tokenizer.encode(text, add_special_tokens=True, field="texts") for text in given]
        rows = self._last_rows(prompts, "texts")
        matrix = np.array(rows, np.float32).reshape(len(rows), io.hidden_size)
        lengths = np.linalg.norm(matrix.astype(np.float64), axis=1, keepdims=True)
        return (matrix / np.where(lengths > 0, lengths, 1.0)).astype(np.float32)

    def rerank(self, query: str, documents: str | Sequence[str], instruction: str) -> NDArray[np.float32]:
        """See `Engine.rerank`."""
        io, tokenizer = self._model.manifest.io, self._model.tokenizer
        if io.task != "reranker" or tokenizer is None:
            raise RequestError(f"this engine is made for {io.task}: it cannot rerank", field="documents")
        yes, no = tokenizer.token_id("yes"), tokenizer.token_id("no")
        if yes is None or no is None:
            raise DamagedEngineError('the tokenizer has no tokens "yes" and "no": it is not a reranker\'s')
        query, instruction = arguments.text("query", query), arguments.text("instruction", instruction)
        prompts = [rerank_prompt(query, text, instruction) for text in arguments.texts("documents", documents)]
        rows = self._last_rows([tokenizer.encode(prompt, field="documents") for prompt in prompts], "documents")
        return np.array([relevance(row, yes, no) for row in rows], np.float32)

    def _last_rows(self, prompts: Sequence[list[int]], field: str) -> list[NDArray[np.float32]]:
        """Run prompts once each; returns the output at the last token of each. Errors name the argument `field`."""
        for ids in prompts:
            check_ids(ids, self._model.manifest.io.vocab_size, field)
            check_prompt(len(ids), self._model.max_context, output=0, field=field)
        kept = [LastRow() for _ in prompts]
        self._driver.queue(*map(TokenSequence, prompts, kept))
        return [self._driver.wait(row.poll) for row in kept]
