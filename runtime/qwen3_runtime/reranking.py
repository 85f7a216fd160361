"""How a Qwen3 reranker is asked, and how its answer becomes a score.

The model judges one document at a time and answers "yes" or "no"; the score is the probability of "yes" among
the two. The wording is part of the model: it is the one that Qwen's reranker model cards give.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

INSTRUCTION = "Given a web search query, retrieve relevant passages that answer the query"

_PREFIX = (
    "<|im_start|>system\nJudge whether the Document meets the requirements based on the Query and the Instruct "
    'provided. Note that the answer can only be "yes" or "no".<|im_end|>\n<|im_start|>user\n'
)
_SUFFIX = "<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n"


def rerank_prompt(query: str, document: str, instruction: str) -> str:
    """The whole prompt for one document; the next token is "yes" or "no"."""
    return f"{_PREFIX}<Instruct>: {instruction}\n<Query>: {query}\n<Document>: {document}{_SUFFIX}"


def relevance(row: NDArray[np.float32], yes: int, no: int) -> float:
    """Probability of "yes" against "no" from the logits [vocab_size] of the next token: a float in 0..1."""
    # As tanh, which no difference of logits overflows.
    return 0.5 * (1.0 + math.tanh((float(row[yes]) - float(row[no])) / 2.0))
