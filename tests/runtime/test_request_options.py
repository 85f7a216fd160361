"""What a request may be given: texts where lists are usual, numpy's numbers, some of the sampling; and how it shows."""

from __future__ import annotations

import inspect
from dataclasses import fields, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from scripted import IM_END, THINK, THINK_END, VOCAB, ScriptedBackend, background, in_turn, make_engine, make_manifest

from qwen3_runtime import DamagedEngineError, Engine, Request, RequestError, Sampling, UnknownOptionError
from qwen3_runtime.admission import Model, choose_sampling, prepare_turn
from qwen3_runtime.sampling import NON_THINKING, THINKING

if TYPE_CHECKING:
    from qwen3_runtime.text import ChatTemplate, Tokenizer

QUESTION = [{"role": "user", "content": "How much is 6 times 7?"}]
SWITCHED_OFF = "6 times 7? /no_think"


def silent(tokenizer: Tokenizer | None = None, template: ChatTemplate | None = None, **manifest: Any) -> Engine:
    return make_engine(ScriptedBackend(lambda _: IM_END), tokenizer, template, **manifest)


@pytest.mark.parametrize("method", [Engine.chat, Engine.complete, Engine.stream])
def test_every_field_of_a_request_is_spelled_out_where_it_can_be_given(method: Any) -> None:
    options = {
        field.name: (field.default, field.type) for field in fields(Request) if field.name not in ("messages", "prompt")
    }
    parameters = {
        name: (parameter.default, parameter.annotation)
        for name, parameter in inspect.signature(method).parameters.items()
        if parameter.kind is parameter.KEYWORD_ONLY
    }
    assert parameters == options
    assert {field.name for field in fields(Sampling)} <= parameters.keys()
    keywords = [name for name, parameter in inspect.signature(Request).parameters.items() if name in options]
    assert keywords == list(parameters)


@pytest.mark.parametrize(
    ("unknown", "message"),
    [
        ("max_token", "unknown option 'max_token'; did you mean 'max_tokens'[?]"),
        ("temprature", "unknown option 'temprature'; did you mean 'temperature'[?]"),
        ("stop_strings", "unknown option 'stop_strings'; did you mean 'stop'[?]"),
        ("zzz", "unknown option 'zzz'; expected one of messages, prompt, tools, .*, answer_reserve"),
    ],
)
def test_an_unknown_option_is_answered_with_the_nearest(
    tokenizer: Tokenizer, template: ChatTemplate, unknown: str, message: str
) -> None:
    engine = silent(tokenizer, template)
    given: dict[str, Any] = {unknown: 5}
    for call in (
        lambda: engine.chat(QUESTION, **given),
        lambda: engine.complete("a", **given),
        lambda: engine.stream(QUESTION, **given),
        lambda: Request(QUESTION, **given),
    ):
        for kind in (UnknownOptionError, RequestError, TypeError):
            with pytest.raises(kind, match=message):
                call()
    for partial in (lambda: Sampling(tempratur=1), lambda: Request(sampling={"tempratur": 1})):  # type: ignore[call-arg]
        with pytest.raises(UnknownOptionError, match="unknown option 'tempratur'; did you mean 'temperature'"):
            partial()


def test_type_checkers_see_the_options(tokenizer: Tokenizer, template: ChatTemplate) -> None:
    """mypy refuses these lines; were it not to, the comments that silence it would be refused as unused."""
    engine = silent(tokenizer, template)
    with pytest.raises(UnknownOptionError):
        engine.chat(QUESTION, max_token=5)  # type: ignore[arg-type]
    with pytest.raises(RequestError):
        engine.chat(QUESTION, max_tokens="5")  # type: ignore[arg-type]


def test_a_text_is_one_message_of_the_user(tokenizer: Tokenizer, template: ChatTemplate) -> None:
    engine = silent(tokenizer, template)
    text = "How much is 6 times 7?"
    assert engine.chat(text).usage == engine.chat(QUESTION).usage
    assert [type(event) for event in engine.stream(text)] == [type(event) for event in engine.stream(QUESTION)]
    assert prepare_turn(Request(text), engine._model) == prepare_turn(Request(QUESTION), engine._model)


def test_a_stop_may_be_one_string_or_none(tokenizer: Tokenizer, template: ChatTemplate) -> None:
    words = tokenizer.encode("one two three four")
    backend = ScriptedBackend(in_turn(lambda turn: [*words, IM_END][len(turn) - 4]))
    engine = make_engine(backend, tokenizer, template)
    for stop, answer in (("three", "one two "), (["three"], "one two "), (None, "one two three four")):
        assert engine.chat(QUESTION, thinking=False, stop=stop).answer == answer


def test_numbers_may_be_numpys(tokenizer: Tokenizer, template: ChatTemplate) -> None:
    given = {
        "thinking": np.bool_(True),
        "thinking_budget": np.int64(9),
        "max_tokens": np.int32(80),
        "deadline": np.float32(5.5),
        "seed": np.uint64(2**64 - 1),
        "temperature": np.float16(0.5),
        "top_k": np.int8(5),
        "top_p": np.float64(0.5),
        "min_p": np.float32(0),
        "presence_penalty": np.int64(1),
        "answer_reserve": np.int64(2),
    }
    plain = {name: value.item() for name, value in given.items()}
    request = Request(QUESTION, **given)  # type: ignore[arg-type]
    assert request == Request(QUESTION, **plain)
    for name in given:
        assert type(getattr(request, name)).__module__ == "builtins", name
    silent(tokenizer, template).generate([request])
    assert Sampling(np.float32(0.5), np.int64(3)) == Sampling(0.5, 3)  # type: ignore[arg-type]
    assert Request(prompt=np.array([5, 6], np.uint16)).prompt == (5, 6)  # type: ignore[arg-type]
    assert Request(sampling={"top_k": np.int64(3)}).sampling_over(Sampling()) == Sampling(top_k=3)


@pytest.mark.parametrize("given", [{"temperature": 0.2}, {"sampling": {"temperature": 0.2}}])
@pytest.mark.parametrize(
    ("messages", "options", "mode"),
    [
        (QUESTION, {}, THINKING),
        (QUESTION, {"thinking": True}, THINKING),
        (QUESTION, {"thinking_budget": 9}, THINKING),
        (QUESTION, {"thinking": False}, NON_THINKING),
        (QUESTION, {"thinking_budget": 0}, NON_THINKING),
        (SWITCHED_OFF, {}, NON_THINKING),
        ([{"role": "system", "content": "/no_think"}, *QUESTION], {}, NON_THINKING),
        (SWITCHED_OFF + " /think", {}, THINKING),
    ],
)
def test_partial_sampling_leaves_the_rest_as_the_mode_of_the_turn_has_it(
    tokenizer: Tokenizer,
    template: ChatTemplate,
    messages: Any,
    options: dict[str, Any],
    mode: Sampling,
    given: dict[str, Any],
) -> None:
    model = silent(tokenizer, template)._model
    assert sampled(model, Request(messages, **options)) == mode
    changed = Sampling(temperature=0.2, top_p=mode.top_p, top_k=mode.top_k)
    assert sampled(model, Request(messages, **options, **given)) == changed
    seeded = Sampling(temperature=0.2, top_p=mode.top_p, top_k=mode.top_k, min_p=0.1, seed=3)
    assert sampled(model, Request(messages, **options, **given, min_p=0.1, seed=3)) == seeded
    whole = Sampling(min_p=0.3)
    assert sampled(model, Request(messages, **options, sampling=whole)) == whole
    assert sampled(model, Request(messages, **options, sampling=whole, seed=4)) == Sampling(min_p=0.3, seed=4)


def test_the_manifests_sampling_replaces_that_of_the_model_cards_mode_by_mode() -> None:
    declared = declaring({"thinking": {"temperature": 0.3, "top_k": 7}})
    assert declared.default_sampling == (Sampling(temperature=0.3, top_k=7), NON_THINKING)
    assert declaring({}).default_sampling == (THINKING, NON_THINKING)


@pytest.mark.parametrize(
    ("declared", "message"),
    [
        ({"heat": 1}, "chat: sampling: unknown field 'heat'; rebuild the engine"),
        ({"top_p": 2}, "chat: sampling: top_p: expected .*, found 2; rebuild the engine"),
    ],
)
@pytest.mark.parametrize("mode", ["thinking", "non_thinking"])
def test_sampling_that_a_manifest_cannot_mean_is_damage(mode: str, declared: dict[str, Any], message: str) -> None:
    with pytest.raises(DamagedEngineError, match=message):
        _ = declaring({mode: declared}).default_sampling


def declaring(sampling: dict[str, Any]) -> Model:
    """A model whose manifest declares sampling parameters by mode."""
    manifest = make_manifest()
    assert manifest.chat is not None
    return Model(replace(manifest, chat=replace(manifest.chat, sampling=sampling)), None, None, 64)


def test_the_first_and_the_last_token_id_are_prompts_and_the_one_after_is_not() -> None:
    engine = silent(task="completion")
    assert engine.complete([0, VOCAB - 1], max_tokens=1).usage.prompt_tokens == 2
    for token in (-1, VOCAB):
        with pytest.raises(RequestError, match=rf"prompt\[1\]: token id {token} is not below"):
            engine.complete([0, token])


@pytest.mark.parametrize("token", [-(2**40), -1, VOCAB, 2**40])
def test_token_ids_are_judged_before_the_tokenizer_sees_them(
    tokenizer: Tokenizer, template: ChatTemplate, token: int
) -> None:
    """A thinking model's prompt is decoded to see how it begins, and the tokenizer takes 32 bits."""
    with pytest.raises(RequestError, match=rf"prompt\[0\]: token id {token} is not below"):
        silent(tokenizer, template).complete([token])


def sampled(model: Model, request: Request) -> Sampling:
    return choose_sampling(request, model, prepare_turn(request, model).start)


def test_a_keyword_of_sampling_reaches_the_sampler(tokenizer: Tokenizer, template: ChatTemplate) -> None:
    def logits(_: list[int]) -> np.ndarray:
        row = background(VOCAB)
        row[[500, 501]] = np.log([0.6, 0.4])
        return row

    engine = make_engine(ScriptedBackend(logits=logits), tokenizer, template)
    assert set(engine.chat(QUESTION, max_tokens=40, seed=1).tokens) == {500, 501}
    assert set(engine.chat(QUESTION, max_tokens=40, seed=1, temperature=0).tokens) == {500}
    assert set(engine.chat(QUESTION, max_tokens=40, seed=1, sampling={"top_k": 1}).tokens) == {500}


def test_a_bare_text_is_one_text_to_embed_and_one_document_to_rank(tokenizer: Tokenizer) -> None:
    def hidden(tokens: list[int]) -> np.ndarray:
        return np.array([len(tokens), *tokens[:1] * 7], np.float32)

    embedder = make_engine(ScriptedBackend(logits=hidden, vocab=8), tokenizer, None, task="embedding", output="hidden")
    np.testing.assert_array_equal(embedder.embed("a text"), embedder.embed(["a text"]))
    np.testing.assert_array_equal(embedder.embed(text for text in ("a", "b")), embedder.embed(["a", "b"]))  # type: ignore[arg-type]
    reranker = make_engine(ScriptedBackend(logits=lambda _: background(VOCAB)), tokenizer, None, task="reranker")
    assert reranker.rerank("q", "a document").shape == (1,)
    for texts, message in (
        (5, "texts: expected text or a list of texts, found int"),
        (None, "texts: expected text or a list of texts, found nothing"),
        (b"a", "texts: expected text or a list of texts, found bytes"),
        ({"a"}, "texts: expected text or a list of texts, found set"),
        (["a", 5], r"texts\[1\]: expected text, found int"),
    ):
        with pytest.raises(RequestError, match=message):
            embedder.embed(texts)  # type: ignore[arg-type]
    for arguments, message in (
        ((5, ["a"]), "query: expected text, found int"),
        (("q", 5), "documents: expected text or a list of texts, found int"),
        (("q", ["a", None]), r"documents\[1\]: expected text, found nothing"),
    ):
        with pytest.raises(RequestError, match=message):
            reranker.rerank(*arguments)  # type: ignore[arg-type]
    with pytest.raises(RequestError, match="instruction: expected text, found int"):
        reranker.rerank("q", "d", instruction=5)  # type: ignore[arg-type]


def test_everything_shows_shortly(tokenizer: Tokenizer, template: ChatTemplate) -> None:
    words = [THINK, *tokenizer.encode("hm " * 500), THINK_END, *tokenizer.encode("\n\nok " * 500), IM_END]
    engine = make_engine(ScriptedBackend(in_turn(lambda turn: words[len(turn)])), tokenizer, template, max_tokens=3000)
    assert repr(engine) == "<Engine scripted: chat, target ort, 4 x 4096 tokens>"
    request = Request([{"role": "user", "content": "x" * 5000}] * 3, max_tokens=2900, sampling={"top_k": 3})
    assert repr(request) == "Request(messages=<3 messages>, max_tokens=2900, sampling={'top_k': 3})"
    assert repr(Request(prompt=range(5000))) == "Request(prompt=<5000 token ids>)"
    assert repr(Request(np.zeros(3), stop="a")) == "Request(messages=array([0., 0., 0.]), stop=('a',))"  # type: ignore[arg-type]
    assert len(repr(Request(prompt="x" * 5000))) < 100
    handle = engine.submit(request)
    assert repr(handle) == "<Handle in flight, 0 events to read>"
    done = handle.result()
    assert repr(handle) == "<Handle ended by stop, 0 events to read>"
    assert repr(done).startswith("Completion(reasoning='hm hm hm ")
    assert repr(done).endswith(f", finish_reason='stop', tokens=<{len(done.tokens)} token ids>)")
    assert len(repr(done)) < 250
    engine.close()
    assert repr(engine) == "<Engine scripted: chat, target ort, 4 x 4096 tokens (closed)>"
