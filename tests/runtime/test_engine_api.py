"""Blocking calls, streams, handles, threads, deadlines and cancellation, over a scripted model.

Covers: caps, cancellation
Reference: scripted backends
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import numpy as np
import pytest
from scripted import (
    IM_END,
    THINK,
    THINK_END,
    TOOL_CALL,
    TOOL_CALL_END,
    VOCAB,
    ScriptedBackend,
    background,
    in_turn,
    make_engine,
)

from qwen3_runtime import EngineError, Finished, Request, RequestError, Sampling, TextDelta
from qwen3_runtime.reranking import relevance

if TYPE_CHECKING:
    from qwen3_runtime.text import ChatTemplate, Tokenizer

QUESTION = [{"role": "user", "content": "How much is 6 times 7?"}]
RAINY = "It is raining 🌧️ in 東京."


def speaker(tokenizer: Tokenizer, reasoning: str, answer: str) -> ScriptedBackend:
    """Thinks, answers, ends the turn, whatever it is asked; without thinking it only answers."""
    thoughts = [THINK, *tokenizer.encode(f"\n{reasoning}\n"), THINK_END, 271]
    words = [*tokenizer.encode(answer), IM_END]

    def script(turn: list[int]) -> int:
        if turn[:4] == [THINK, 271, THINK_END, 271]:
            return words[len(turn) - 4]
        return [*thoughts, *words][len(turn)]

    return ScriptedBackend(in_turn(script))


def test_reasoning_and_answer_come_apart(tokenizer: Tokenizer, template: ChatTemplate) -> None:
    engine = make_engine(speaker(tokenizer, "6 * 7 = 42", RAINY), tokenizer, template)
    done = engine.chat(QUESTION)
    assert (done.reasoning, done.answer, done.finish_reason) == ("6 * 7 = 42", RAINY, "stop")
    usage = done.usage
    assert usage.prompt_tokens == len(tokenizer.encode(template.render(QUESTION)))
    assert usage.reasoning_tokens == len(tokenizer.encode("\n6 * 7 = 42\n"))
    assert usage.answer_tokens == len(tokenizer.encode(RAINY)) + 1  # and the "\n\n" behind the tag
    assert usage.completion_tokens == usage.reasoning_tokens + usage.answer_tokens + 3  # two tags, end of turn
    assert len(done.tokens) == usage.completion_tokens
    assert engine.chat(QUESTION, thinking=False).answer == RAINY


def test_a_stream_gives_the_same_text_piece_by_piece(tokenizer: Tokenizer, template: ChatTemplate) -> None:
    engine = make_engine(speaker(tokenizer, "Let me see 🌧️.", RAINY), tokenizer, template)
    events = list(engine.stream(QUESTION))
    *deltas, last = events
    assert isinstance(last, Finished)
    assert all(isinstance(delta, TextDelta) and delta.text for delta in deltas)
    kinds = [delta.kind for delta in deltas if isinstance(delta, TextDelta)]
    assert kinds == sorted(kinds, reverse=True)  # reasoning, then answer
    for kind, text in (("reasoning", "Let me see 🌧️."), ("answer", RAINY)):
        pieces = [delta.text for delta in deltas if isinstance(delta, TextDelta) and delta.kind == kind]
        assert "".join(pieces) == text == getattr(last.completion, kind)
        assert len(pieces) > 3
        assert not any("\ufffd" in piece for piece in pieces)


def test_events_come_while_the_model_is_still_running(tokenizer: Tokenizer, template: ChatTemplate) -> None:
    backend = speaker(tokenizer, "hm", RAINY)
    stream = make_engine(backend, tokenizer, template).stream(QUESTION)
    assert backend.steps == []
    next(stream)
    early = len(backend.steps)
    list(stream)
    assert 0 < early < len(backend.steps)


def test_a_bad_request_fails_before_the_first_event(tokenizer: Tokenizer, template: ChatTemplate) -> None:
    engine = make_engine(speaker(tokenizer, "hm", RAINY), tokenizer, template)
    with pytest.raises(RequestError, match="max_tokens"):
        engine.stream(QUESTION, max_tokens=0)


def test_closing_a_stream_cancels_it_and_frees_its_cache(tokenizer: Tokenizer, template: ChatTemplate) -> None:
    backend = speaker(tokenizer, "one two three", RAINY)
    engine = make_engine(backend, tokenizer, template, max_sequences=1)
    stream = engine.stream(QUESTION)
    next(stream)
    stream.close()  # type: ignore[attr-defined]
    assert engine.chat(QUESTION, thinking=False).answer == RAINY
    assert engine._scheduler.pool.available == 4
    assert not engine._scheduler.in_flight


def test_a_stream_that_was_never_read_holds_nothing(tokenizer: Tokenizer, template: ChatTemplate) -> None:
    engine = make_engine(speaker(tokenizer, "hm", RAINY), tokenizer, template)
    engine.stream(QUESTION).close()  # type: ignore[attr-defined]
    assert not engine._scheduler.in_flight


def test_cancelling_keeps_what_was_said(tokenizer: Tokenizer, template: ChatTemplate) -> None:
    engine = make_engine(speaker(tokenizer, "hm", "one two three four five"), tokenizer, template)
    handle = engine.submit(Request(messages=QUESTION))
    for event in handle:
        if isinstance(event, TextDelta) and event.kind == "answer" and "three" in event.text:
            handle.cancel()
    done = handle.result()
    assert (done.finish_reason, done.answer) == ("cancelled", "one two three")
    assert engine._scheduler.pool.available == 4


def test_a_waiting_request_can_be_cancelled(tokenizer: Tokenizer, template: ChatTemplate) -> None:
    engine = make_engine(speaker(tokenizer, "hm", RAINY), tokenizer, template, max_sequences=1)
    first, second = (engine.submit(Request(messages=QUESTION)) for _ in range(2))
    second.cancel()
    assert (second.result().finish_reason, second.result().tokens) == ("cancelled", ())
    assert first.result().answer == RAINY


def test_a_cancelled_thread_releases_the_one_that_waits(tokenizer: Tokenizer, template: ChatTemplate) -> None:
    backend = ScriptedBackend(lambda _: 1154)  # never ends by itself
    engine = make_engine(backend, tokenizer, template, max_context=100_000, max_tokens=90_000)
    handle = engine.submit(Request(messages=QUESTION))
    waiter = threading.Thread(target=handle.result)
    waiter.start()
    while not backend.steps:
        pass
    handle.cancel()
    waiter.join(120)
    assert not waiter.is_alive()
    assert handle.result().finish_reason == "cancelled"


class Clock:
    """A clock that a backend advances by a second a step."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now

    def tick(self) -> None:
        self.now += 1.0


def test_the_deadline_ends_a_request_with_what_it_has(tokenizer: Tokenizer, template: ChatTemplate) -> None:
    clock = Clock()
    backend = speaker(tokenizer, "hm", "one two three four five six seven")
    backend.before_step = clock.tick
    engine = make_engine(backend, tokenizer, template, clock=clock)
    done = engine.chat(QUESTION, thinking=False, deadline=4.0)
    assert (done.finish_reason, done.answer) == ("deadline", "one two three four")
    assert done.timings.total == 4.0
    assert engine._scheduler.pool.available == 4


def test_the_deadline_of_a_request_that_still_waits(tokenizer: Tokenizer, template: ChatTemplate) -> None:
    clock = Clock()
    backend = speaker(tokenizer, "hm", "one two three four five six seven")
    backend.before_step = clock.tick
    engine = make_engine(backend, tokenizer, template, clock=clock, max_sequences=1)
    first = engine.submit(Request(messages=QUESTION, thinking=False))
    second = engine.submit(Request(messages=QUESTION, thinking=False, deadline=3.0))
    assert second.result().finish_reason == "deadline"
    assert (second.result().tokens, second.result().timings.queued) == ((), None)
    assert first.result().finish_reason == "stop"


def test_timings_are_those_of_the_clock(tokenizer: Tokenizer, template: ChatTemplate) -> None:
    clock = Clock()
    backend = speaker(tokenizer, "hm", "one two three four five six seven")
    backend.before_step = clock.tick
    engine = make_engine(backend, tokenizer, template, clock=clock, max_step_tokens=10)
    done = engine.chat(QUESTION, thinking=False)
    prefills = -(-done.usage.prompt_tokens // 10)
    assert done.timings.queued == 0.0
    assert done.timings.time_to_first_token == prefills
    assert done.timings.prefill_tokens_per_second == done.usage.prompt_tokens / prefills
    assert done.timings.decode_tokens_per_second == 1.0
    assert done.timings.total == prefills + len(done.tokens) - 1


def test_stop_strings_end_the_answer_but_not_the_reasoning(tokenizer: Tokenizer, template: ChatTemplate) -> None:
    engine = make_engine(speaker(tokenizer, "I stop here. No.", "One. I stop here. Two."), tokenizer, template)
    done = engine.chat(QUESTION, stop=["stop here"])
    assert (done.reasoning, done.answer, done.finish_reason) == ("I stop here. No.", "One. I ", "stop_string")


def test_max_tokens_counts_everything_after_the_prompt(tokenizer: Tokenizer, template: ChatTemplate) -> None:
    engine = make_engine(speaker(tokenizer, "hm", RAINY), tokenizer, template)
    for count in range(1, 12):
        done = engine.chat(QUESTION, max_tokens=count)
        assert (len(done.tokens), done.finish_reason) == (count, "length")


def test_tool_calls_are_the_raw_bodies(tokenizer: Tokenizer, template: ChatTemplate) -> None:
    bodies = ['{"name": "a", "arguments": {"x": 1}}', '{"name": "b", "arguments": {}}']
    words = [THINK, THINK_END, 271]
    for body in bodies:
        words += [TOOL_CALL, *tokenizer.encode(f"\n{body}\n"), TOOL_CALL_END, 198]
    words.append(IM_END)
    engine = make_engine(ScriptedBackend(in_turn(lambda turn: words[len(turn)])), tokenizer, template)
    assert engine.chat(QUESTION).tool_calls == tuple(bodies)


def test_the_sampling_defaults_follow_the_mode(tokenizer: Tokenizer, template: ChatTemplate) -> None:
    """Thinking is 0.6 / 0.95, not thinking 0.7 / 0.8: at the edge of a nucleus of 0.8 they differ."""

    def logits(_: list[int]) -> np.ndarray:
        row = background(VOCAB)
        row[[500, 501, 502]] = np.log([0.6, 0.25, 0.15])
        return row

    engine = make_engine(ScriptedBackend(logits=logits), tokenizer, template)
    seen = {
        name: set(engine.chat(messages, thinking=thinking, max_tokens=300, thinking_budget=None, seed=5).tokens)
        for name, messages, thinking in (
            ("thinking", QUESTION, True),
            ("hard switch", QUESTION, False),
            ("soft switch", [{"role": "user", "content": "6 times 7? /no_think"}], None),
        )
    }
    assert seen == {"thinking": {500, 501, 502}, "hard switch": {500, 501}, "soft switch": {500, 501}}


def test_many_threads_share_steps_and_get_their_own_answers(tokenizer: Tokenizer, template: ChatTemplate) -> None:
    def script(tokens: list[int]) -> int:
        text = tokenizer.decode(tokens)
        number = text.split("number ")[1].split(" ")[0]
        said = text.rsplit("</think>\n\n", 1)[1]
        wanted = tokenizer.encode(number * 3)
        count = len(tokenizer.encode(said)) if said else 0
        return wanted[count] if count < len(wanted) else IM_END

    backend = ScriptedBackend(script)
    engine = make_engine(backend, tokenizer, template, max_sequences=4)
    answers: dict[int, str] = {}

    def ask(number: int) -> None:
        messages = [{"role": "user", "content": f"Say number {number} please."}]
        answers[number] = engine.chat(messages, thinking=False).answer

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(100, 116)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert answers == {number: str(number) * 3 for number in range(100, 116)}
    assert max(len(step.context_len) for step in backend.steps) > 1
    assert engine._scheduler.pool.available == 4


def test_closing_cancels_what_runs_and_refuses_what_follows(tokenizer: Tokenizer, template: ChatTemplate) -> None:
    backend = speaker(tokenizer, "hm", RAINY)
    with make_engine(backend, tokenizer, template) as engine:
        handle = engine.submit(Request(messages=QUESTION))
        next(iter(handle))
    assert backend.closed
    assert handle.result().finish_reason == "cancelled"
    with pytest.raises(EngineError, match="closed"):
        engine.chat(QUESTION)


def test_raw_prompts_are_continued_as_they_are(tokenizer: Tokenizer) -> None:
    words = tokenizer.encode("Once upon a time there was a number.")
    engine = make_engine(
        ScriptedBackend(lambda tokens: words[len(tokens)] if len(tokens) < len(words) else IM_END),
        tokenizer,
        None,
        task="completion",
    )
    for prompt in ("Once upon a", tokenizer.encode("Once upon a")):
        assert engine.complete(prompt, sampling=Sampling(temperature=0)).answer == " time there was a number."
    with pytest.raises(RequestError, match="no chat template"):
        engine.chat(QUESTION)


def test_embeddings_are_the_last_row_at_norm_1(tokenizer: Tokenizer) -> None:
    def hidden(tokens: list[int]) -> np.ndarray:
        return np.array([len(tokens), tokens[-1] % 7, 2, -1, 0, 3, 1, 1], np.float32)

    backend = ScriptedBackend(logits=hidden, vocab=8)
    engine = make_engine(backend, tokenizer, None, task="embedding", output="hidden", max_step_tokens=4)
    texts = ["a", "a much longer text than the others are", "b c"]
    rows = engine.embed(texts)
    assert (rows.shape, rows.dtype) == ((3, 8), np.float32)
    for row, text in zip(rows, texts, strict=True):
        expected = hidden(tokenizer.encode(text, add_special_tokens=True)).astype(np.float64)
        np.testing.assert_allclose(row, expected / np.sqrt((expected**2).sum()), rtol=1e-6)
    assert engine.embed([]).shape == (0, 8)
    full = ScriptedBackend(logits=hidden, vocab=8, num_blocks=1, block_size=len(tokenizer.encode(texts[1])))
    limits = {"max_context": full.cache.block_size, "max_sequences": 1}
    whole = make_engine(full, tokenizer, None, task="embedding", output="hidden", **limits)
    np.testing.assert_array_equal(whole.embed([texts[1]])[0], rows[1])  # no room is kept for output
    with pytest.raises(RequestError, match="the prompt has 9 tokens, but a sequence may hold 8"):
        whole.embed([texts[1] + " a"])
    with pytest.raises(RequestError, match=r"use embed\(\)"):
        engine.complete("a")


def test_a_reranker_gives_the_probability_of_yes_against_no(tokenizer: Tokenizer, template: ChatTemplate) -> None:
    yes, no = tokenizer.token_id("yes"), tokenizer.token_id("no")
    assert yes is not None
    assert no is not None

    def logits(tokens: list[int]) -> np.ndarray:
        row = np.full(151_936, 50.0, np.float32)  # whatever else the model might say counts for nothing
        row[yes], row[no] = len(tokens) % 5, 2.0
        return row

    documents = ["a", "a b c d e", ""]
    engine = make_engine(ScriptedBackend(logits=logits), tokenizer, None, task="reranker", max_step_tokens=16)
    scores = engine.rerank("what?", documents, instruction="judge")
    system = (
        "Judge whether the Document meets the requirements based on the Query and the Instruct provided. "
        'Note that the answer can only be "yes" or "no".'
    )
    for score, document in zip(scores, documents, strict=True):
        user = f"<Instruct>: judge\n<Query>: what?\n<Document>: {document}"
        messages = [{"role": "system", "content": system}, {"role": "user", "content": user}]
        row = logits(tokenizer.encode(template.render(messages, tools=None, enable_thinking=False))).astype(np.float64)
        assert score == pytest.approx(np.exp(row[yes]) / (np.exp(row[yes]) + np.exp(row[no])), rel=1e-6)
    assert engine.rerank("what?", []).shape == (0,)
    with pytest.raises(RequestError, match="made for reranker: it cannot embed"):
        engine.embed(["a"])
    chat = make_engine(ScriptedBackend(logits=logits), tokenizer, template)
    with pytest.raises(RequestError, match="made for chat: it cannot rerank"):
        chat.rerank("what?", documents)


@pytest.mark.parametrize("difference", [-1e4, -30.0, 0.0, 30.0, 1e4])
def test_relevance_is_a_probability_at_any_distance(difference: float) -> None:
    row = np.array([difference, 0.0], np.float32)
    assert relevance(row, 0, 1) == pytest.approx(1 / (1 + np.exp(np.float64(min(-difference, 700)))), abs=1e-12)


def test_text_that_the_model_has_no_embedding_for_is_refused(tokenizer: Tokenizer, template: ChatTemplate) -> None:
    """Some released checkpoints have fewer embedding rows than their tokenizer has ids."""
    backend = ScriptedBackend(lambda _: 5, vocab=151_660)
    engine = make_engine(backend, tokenizer, template, vocab_size=151_660, tokenizer_vocab_size=151_660)
    with pytest.raises(RequestError, match=r"token id 151667 is not below the vocabulary's 151660"):
        engine.chat(QUESTION, thinking=False)
    assert backend.steps == []
