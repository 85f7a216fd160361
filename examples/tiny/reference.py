"""Greedy replies of a checkpoint through eager `transformers`, with the thinking budget: the yardstick of engines."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch
from conversations import STOP_SENTENCE, Renderer
from reply import MAX_TOKENS, Reply
from transformers import AutoModelForCausalLM

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path


@dataclass
class _Turn:
    """The state of one reply while it is generated."""

    tokens: list[int] = field(default_factory=list)
    forced: deque[int] = field(default_factory=deque)
    reasoning_tokens: int = 0
    inside: bool = False
    cut: bool = False
    ended: bool = False


class Reference:
    """A checkpoint in float32, eager attention."""

    def __init__(self, folder: Path) -> None:
        """Load a checkpoint folder."""
        self._renderer = Renderer(folder)
        self._stop = self._renderer.encode(STOP_SENTENCE)
        self._live = self._renderer.tokenizer.get_vocab_size()
        self._model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager")
        self._model.eval()

    @torch.inference_mode()
    def replies(self, questions: Sequence[str], budget: int | None) -> list[Reply]:
        """Answer single questions greedily, as one batch.

        Args:
            questions: the users' messages.
            budget: tokens of thinking; `None` for no budget, 0 for no thinking.
        """
        prompts = [
            self._renderer.encode(
                self._renderer.prompt([{"role": "user", "content": question}], enable_thinking=budget != 0)
            )
            for question in questions
        ]
        turns = [_Turn() for _ in prompts]
        longest = max(len(prompt) for prompt in prompts)
        ids = torch.tensor([[self._renderer.pad] * (longest - len(prompt)) + prompt for prompt in prompts])
        mask = torch.tensor([[0] * (longest - len(prompt)) + [1] * len(prompt) for prompt in prompts])
        cache = None
        for _ in range(MAX_TOKENS):
            positions = (mask.cumsum(dim=1) - 1).clamp(min=0)[:, -ids.shape[1] :]
            out = self._model(
                input_ids=ids, attention_mask=mask, position_ids=positions, past_key_values=cache, logits_to_keep=1
            )
            cache = out.past_key_values
            chosen = out.logits[:, -1, : self._live].argmax(dim=-1).tolist()
            ids = torch.tensor([[self._take(turn, token, budget)] for turn, token in zip(turns, chosen, strict=True)])
            mask = torch.cat((mask, torch.ones_like(ids)), dim=1)
            if all(turn.ended for turn in turns):
                break
        return [self._reply(turn) for turn in turns]

    def _reply(self, turn: _Turn) -> Reply:
        text = self._renderer.decode(turn.tokens)
        reasoning, tag, answer = text.partition("</think>")
        if not tag and "<think>" not in text:
            reasoning, answer = "", text
        stripped = reasoning.removeprefix("<think>").strip("\n")
        return Reply(stripped, answer.lstrip("\n"), turn.reasoning_tokens, turn.cut)

    def _take(self, turn: _Turn, chosen: int, budget: int | None) -> int:
        """Record the model's choice, or the stop sentence in its place; returns the token to feed next."""
        if turn.ended:
            return self._renderer.pad
        if turn.inside and turn.reasoning_tokens == budget and chosen != self._renderer.think_end:
            turn.forced.extend(self._stop)
            turn.inside, turn.cut = False, True
        token = turn.forced.popleft() if turn.forced else chosen
        turn.tokens.append(token)
        turn.ended = token == self._renderer.end
        if token == self._renderer.think:
            turn.inside = True
        elif token == self._renderer.think_end:
            turn.inside = False
        elif turn.inside:
            turn.reasoning_tokens += 1
        return token
