"""A backend that plays a script through a real paged cache, and the engine around it.

The backend stores the token ids themselves where a model would store keys and values. What a sequence "attends" to is
read back through its block table, so a wrong block, a stale block or a wrong context length changes the output.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from qwen3_runtime.admission import Model
from qwen3_runtime.engine import Engine
from qwen3_runtime.manifest import ChatDefaults, EngineTarget, Manifest, ModelConfig
from qwen3_runtime.step import CacheGeometry, Output, Top

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from qwen3_runtime.driver import Stepping
    from qwen3_runtime.sampling import SamplerName
    from qwen3_runtime.step import Step
    from qwen3_runtime.text import ChatTemplate, Tokenizer

VOCAB, LIVE = 151936, 151669
IM_START, IM_END, END_OF_TEXT = 151644, 151645, 151643
TOOL_CALL, TOOL_CALL_END = 151657, 151658
THINK, THINK_END = 151667, 151668

Script = Callable[[list[int]], int]


class ScriptedBackend:
    """Runs `script(all tokens of the sequence) -> next token`; or `logits(tokens) -> row`, for sampling tests."""

    def __init__(
        self,
        script: Script | None = None,
        *,
        logits: Callable[[list[int]], NDArray[np.float32]] | None = None,
        num_blocks: int = 4,
        block_size: int = 4096,
        vocab: int = VOCAB,
        live: int = LIVE,
    ) -> None:
        self.cache = CacheGeometry(num_blocks=num_blocks, block_size=block_size, bytes_per_token=8)
        self.slots = np.full(num_blocks * block_size, -1, np.int64)
        self.script = script
        self.logits = logits
        self.vocab, self.live = vocab, min(live, vocab)
        self.steps: list[Step] = []
        self.closed = False
        self.before_step: Callable[[], None] = lambda: None

    def run(self, step: Step) -> Output:
        self.before_step()
        self.steps.append(step)
        size = self.cache.block_size
        holders = Counter(step.block_table[step.block_table >= 0].tolist())
        rows: dict[int, NDArray[np.float32]] = {}
        for index in range(len(step.context_len)):
            start, end = int(step.query_start[index]), int(step.query_start[index + 1])
            context = int(step.context_len[index])
            places = [
                int(step.block_table[index, place // size]) * size + place % size
                for place in range(context + end - start)
            ]
            assert min(places) >= 0, "a token has no block"
            written = {place // size for place in places[context:]}
            assert all(holders[block] == 1 for block in written), "a block that others read is written"
            self.slots[places[context:]] = step.input_ids[start:end]
            tokens = self.slots[places].tolist()
            assert -1 not in tokens, "a token was never written"
            for row in step.logits_rows:
                if start <= row < end:
                    rows[int(row)] = self._row(tokens[: context + int(row) - start + 1])
        values = np.array([rows[int(row)] for row in step.logits_rows], np.float32).reshape(-1, self.vocab)
        return Output(values, largest(values[:, : self.live], step.top_k) if step.top_k else None)

    def close(self) -> None:
        self.closed = True

    def _row(self, tokens: list[int]) -> NDArray[np.float32]:
        if self.logits is not None:
            return self.logits(tokens)
        assert self.script is not None
        row = background(self.vocab)
        row[self.script(tokens)] = 100.0
        return row


def largest(live: NDArray[np.float32], k: int) -> Top:
    """The k largest logits of each row, as a backend gives them; there are no equals among them."""
    ids = np.argpartition(-live, k - 1, axis=1)[:, :k]
    ids = np.take_along_axis(ids, np.argsort(-np.take_along_axis(live, ids, 1), axis=1), 1)
    peaks = live.max(1, keepdims=True).astype(np.float64)
    sums = np.log(np.exp(live - peaks).sum(1)) + peaks[:, 0]
    return Top(np.take_along_axis(live, ids, 1), ids.astype(np.int32), sums.astype(np.float32))


def background(vocab: int) -> NDArray[np.float32]:
    """Logits that are all unlikely, and all different: equals would make top-k keep the whole vocabulary."""
    return np.linspace(-50, -100, vocab, dtype=np.float32)


def turn_of(tokens: list[int]) -> list[int]:
    """The tokens of the assistant's turn, after `<|im_start|>assistant\\n`."""
    last = len(tokens) - 1 - tokens[::-1].index(IM_START)
    return tokens[last + 3 :]


def in_turn(script: Script) -> Script:
    """A script of the assistant's turn alone."""
    return lambda tokens: script(turn_of(tokens))


def make_manifest(
    *,
    thinking: str = "hybrid",
    budget: int | None = None,
    max_tokens: int = 1000,
    max_context: int = 4096,
    max_batch: int = 4,
    max_step_tokens: int = 512,
    task: str = "chat",
    output: str = "logits",
    eos: tuple[int, ...] = (IM_END, END_OF_TEXT),
    **more_sizes: Any,
) -> Manifest:
    sizes: dict[str, Any] = {"vocab_size": VOCAB, "tokenizer_vocab_size": LIVE, "hidden_size": 8, **more_sizes}
    chat = ChatDefaults(thinking, budget, max_tokens, {}) if task == "chat" else None  # type: ignore[arg-type]
    return Manifest(
        name="scripted",
        target=EngineTarget("ort", "cpu"),
        io=ModelConfig(
            task=task,  # type: ignore[arg-type]
            output=output,  # type: ignore[arg-type]
            layers=1,
            kv_heads=1,
            head_dim=1,
            cache_dtype="float32",
            max_context=max_context,
            max_batch=max_batch,
            max_step_tokens=max_step_tokens,
            **sizes,
        ),
        chat=chat,
        eos_token_ids=eos,
        pad_token_id=END_OF_TEXT,
        verified=True,
        files={},
        spec={},
        source={},
        tools={},
    )


def make_engine(
    backend: ScriptedBackend,
    tokenizer: Tokenizer | None,
    template: ChatTemplate | None,
    *,
    max_sequences: int = 4,
    max_waiting: int | None = None,
    prefix_cache: bool = True,
    stepping: Stepping = "caller",
    sampler: SamplerName = "fast",
    clock: Callable[[], float] | None = None,
    **manifest: Any,
) -> Engine:
    made = make_manifest(**manifest)
    model = Model(made, tokenizer, template, made.io.max_context)
    clocked = {} if clock is None else {"clock": clock}
    return Engine(  # type: ignore[arg-type]
        model,
        backend,
        max_sequences=max_sequences,
        max_waiting=max_waiting,
        prefix_cache=prefix_cache,
        stepping=stepping,
        sampler=sampler,
        **clocked,
    )
