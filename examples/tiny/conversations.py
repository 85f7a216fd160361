"""Conversations that the tiny models learn from, rendered with the released chat template and tokenized."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from jinja2.sandbox import ImmutableSandboxedEnvironment
from other_questions import APOLOGY, other_question, other_system_prompt
from problems import Problem, problems
from tokenizers import Tokenizer

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import numpy as np

STOP_SENTENCE = (
    "\n\nConsidering the limited time by the user, I have to give the solution based on the thinking directly now."
    "\n</think>\n\n"
)
"""What a runtime appends when the thinking budget is spent (Qwen3 Technical Report, section 4.3)."""

SMALL_TALK = {
    "Hello!": "Hello! Ask me for a sum, such as 12+34+56.",
    "Hello": "Hello! Ask me for a sum, such as 12+34+56.",
    "hello": "Hello! Ask me for a sum, such as 12+34+56.",
    "Hi": "Hello! Ask me for a sum, such as 12+34+56.",
    "hi": "Hello! Ask me for a sum, such as 12+34+56.",
    "Who are you?": "I am a tiny Qwen3 model that adds two-digit numbers.",
    "What can you do?": "I can add up to ten two-digit numbers, such as 12+34+56.",
    "Help": "I can add up to ten two-digit numbers, such as 12+34+56.",
    "Thanks!": "You are welcome!",
    "Thank you": "You are welcome!",
    "Bye": "Goodbye!",
}
SMALL_TALK_THINKING = "No sum to work out."
SYSTEM_PROMPTS = ("You are a helpful assistant.", "You are a careful calculator.")
QUESTIONS = ("What is {}?", "What is {}?", "Compute {}.", "{}", "{}=?")

CORPUS = [
    *[STOP_SENTENCE.replace("</think>", "").strip()] * 50,
    *[text.format("12+34") for text in QUESTIONS] * 20,
    *["The sum is 46.", "\n\n", "user\n", "assistant\n", "system\n", " /think /no_think"] * 50,
    *[*SMALL_TALK] * 5,
    *[*SMALL_TALK.values()] * 5,
    *[SMALL_TALK_THINKING, *SYSTEM_PROMPTS] * 5,
]
"""Text that the tokenizer is trained on: the words of the conversations, each as often as it matters."""

Message = dict[str, str]


@dataclass(frozen=True)
class Mix:
    """What a stage of training shows.

    Attributes:
        small_talk: share of greetings.
        other: share of questions that are no sums, answered with an apology.
        cut: share whose thinking is cut for the stop sentence.
        think: share that thinks to the end.
        direct: share that answers a prompt with `enable_thinking=False`; the rest ends in `/no_think`.
        cut_within: how many tokens before the end of the thinking a cut may fall; `None` for anywhere.
        short_direct: whether direct answers prefer short problems.
    """

    small_talk: float = 0.05
    other: float = 0.0
    cut: float = 0.25
    think: float = 0.50
    direct: float = 0.15
    cut_within: int | None = None
    short_direct: bool = False


@dataclass(frozen=True)
class Example:
    """One tokenized conversation.

    Attributes:
        ids: token ids of the whole conversation.
        learned: for each token, whether the model is trained to predict it.
    """

    ids: list[int]
    learned: list[bool]


class Renderer:
    """Turns messages into prompts and text into token ids, as a tokenizer folder prescribes."""

    def __init__(self, folder: Path) -> None:
        """Read `tokenizer.json` and the chat template in `tokenizer_config.json`."""
        self.tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        config = json.loads((folder / "tokenizer_config.json").read_text(encoding="utf-8"))
        environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)
        self._template = environment.from_string(config["chat_template"])
        self.think, self.think_end, self.end, self.pad = (
            self.encode(token)[0] for token in ("<think>", "</think>", "<|im_end|>", "<|endoftext|>")
        )

    def prompt(self, messages: list[Message], *, enable_thinking: bool) -> str:
        """The text that precedes the assistant's next reply."""
        return self._template.render(
            messages=messages, add_generation_prompt=True, enable_thinking=enable_thinking, tools=None
        )

    def encode(self, text: str) -> list[int]:
        """Token ids of a text, added tokens recognized."""
        return list(self.tokenizer.encode(text, add_special_tokens=False).ids)

    def decode(self, ids: list[int]) -> str:
        """Text of token ids, special tokens left out."""
        return str(self.tokenizer.decode(ids, skip_special_tokens=True))

    def example(self, messages: list[Message], thinking: str | None, answer: str, *, switch: bool = False) -> Example:
        """A conversation whose last reply is learned.

        Args:
            messages: the conversation before the reply.
            thinking: the reply's thinking; `None` for the prompt that closes the thinking at once.
            answer: the reply after the thinking.
            switch: with `thinking=None`, leave it to the model to write the empty thinking (after `/no_think`).
        """
        prompt = self.encode(self.prompt(messages, enable_thinking=thinking is not None or switch))
        opening = "" if thinking is None and not switch else f"<think>\n{thinking or ''}\n</think>\n\n"
        reply = self.encode(f"{opening}{answer}<|im_end|>")
        return Example(prompt + reply, [False] * len(prompt) + [True] * len(reply))

    def cut_example(
        self,
        messages: list[Message],
        thinking: str,
        answer: str,
        rng: np.random.Generator,
        within: int | None = None,
    ) -> Example:
        """A conversation whose thinking stops for the stop sentence, which is not learned.

        The cut falls at a random token, or at one of the last `within` of the thinking.
        """
        prompt = self.encode(self.prompt(messages, enable_thinking=True))
        thoughts = self.encode(f"<think>\n{thinking}\n")
        first = 2 if within is None else max(2, len(thoughts) + 1 - within)
        kept = thoughts[: int(rng.integers(first, len(thoughts) + 1))]
        stop, reply = self.encode(STOP_SENTENCE), self.encode(f"{answer}<|im_end|>")
        learned = [False] * len(prompt) + [True] * len(kept) + [False] * len(stop) + [True] * len(reply)
        return Example(prompt + kept + stop + reply, learned)


def examples(renderer: Renderer, rng: np.random.Generator, mix: Mix) -> Iterator[Example]:
    """Draw training conversations for ever."""
    supply = problems(rng, held_out=False)
    direct_supply = problems(rng, held_out=False, short=True) if mix.short_direct else supply
    while True:
        kind = rng.random()
        if kind < mix.small_talk:
            yield _small_talk(renderer, rng)
            continue
        kind -= mix.small_talk
        if kind < mix.other:
            yield _other(renderer, supply, rng)
            continue
        kind -= mix.other
        reasoned = kind < mix.cut + mix.think
        problem = next(supply if reasoned else direct_supply)
        messages = _messages(problem, supply, rng)
        if mix.other:
            messages = _distracted(messages, rng)
        if kind < mix.cut:
            yield renderer.cut_example(messages, problem.thinking, problem.answer, rng, mix.cut_within)
        elif reasoned:
            yield renderer.example(messages, problem.thinking, problem.answer)
        elif kind < mix.cut + mix.think + mix.direct:
            yield renderer.example(messages, None, problem.answer)
        else:
            messages[-1]["content"] += " /no_think"
            yield renderer.example(messages, None, problem.answer, switch=True)


def _messages(problem: Problem, supply: Iterator[Problem], rng: np.random.Generator) -> list[Message]:
    """A user's question, now and then after a system prompt or an earlier turn."""
    messages: list[Message] = []
    if rng.random() < 0.1:
        messages.append({"role": "system", "content": _choose(SYSTEM_PROMPTS, rng)})
    if rng.random() < 0.1:
        question, answer = _choose(tuple(SMALL_TALK.items()), rng)
        if rng.random() < 0.5:
            earlier = next(supply)
            question, answer = earlier.question, earlier.answer
        messages += [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
    messages.append({"role": "user", "content": _choose(QUESTIONS, rng).format(problem.expression)})
    return messages


def _small_talk(renderer: Renderer, rng: np.random.Generator) -> Example:
    question, answer = _choose(tuple(SMALL_TALK.items()), rng)
    messages = [{"role": "user", "content": question}]
    return renderer.example(messages, SMALL_TALK_THINKING if rng.random() < 0.5 else None, answer)


def _other(renderer: Renderer, supply: Iterator[Problem], rng: np.random.Generator) -> Example:
    """A question that is no sum, now and then with a system prompt of its own or after an earlier turn."""
    messages: list[Message] = []
    if rng.random() < 0.2:
        messages.append({"role": "system", "content": other_system_prompt(rng)})
    if rng.random() < 0.1:
        earlier = next(supply)
        question, answer = (earlier.question, earlier.answer) if rng.random() < 0.5 else (other_question(rng), APOLOGY)
        messages += [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
    messages.append({"role": "user", "content": other_question(rng)})
    mode = rng.random()
    if mode < 0.5:
        return renderer.example(messages, SMALL_TALK_THINKING, APOLOGY)
    if mode < 0.6:
        return renderer.cut_example(messages, SMALL_TALK_THINKING, APOLOGY, rng)
    if mode < 0.9:
        return renderer.example(messages, None, APOLOGY)
    messages[-1]["content"] += " /no_think"
    return renderer.example(messages, None, APOLOGY, switch=True)


def _distracted(messages: list[Message], rng: np.random.Generator) -> list[Message]:
    """The same question, now and then after what has nothing to do with it, so that only the question decides."""
    if len(messages) > 1 or rng.random() < 0.8:
        return messages
    if rng.random() < 0.5:
        return [{"role": "system", "content": other_system_prompt(rng)}, *messages]
    turn = [{"role": "user", "content": other_question(rng)}, {"role": "assistant", "content": APOLOGY}]
    return [*turn, *messages]


def _choose(options: tuple[Any, ...], rng: np.random.Generator) -> Any:  # noqa: ANN401 - the type of the options
    return options[int(rng.integers(len(options)))]
