"""Whatever is given for an argument, what comes out is an error of ours on one line, or a result."""

from __future__ import annotations

import decimal
import fractions
import math
import os
import signal
import threading
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from built_engine import CONTEXT, build_engine, with_changed_manifest
from scripted import IM_END, ScriptedBackend, background, make_engine

from qwen3_runtime import Engine, EngineError, Request, RequestError, Sampling, UnknownOptionError
from qwen3_runtime.request import SAMPLING_FIELDS

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from qwen3_runtime.text import ChatTemplate, Tokenizer


class Hostile:
    """Has no text, no length and no truth."""

    def __repr__(self) -> str:
        raise RuntimeError("no text")

    def __bool__(self) -> bool:
        raise RuntimeError("no truth")


WRONG: list[Any] = [
    None, True, False, 0, 1, -1, 10**400, -(10**400), 10**5000, 1.5, -0.0, math.nan, math.inf, -math.inf, 1e308, 1e-308,
    "", "text", "\ud800", "\0", "x" * 5000, b"bytes", bytearray(b"x"), [], [None], [[]], ["a", 1], (), {}, {"a": 1},
    {1: 2}, set(), {"a"}, frozenset({1}), object(), object, len, Hostile(), [Hostile()], {"temperature": Hostile()},
    range(3), iter(["a"]), np.array(5), np.array([1, 2]), np.array([[1]]), np.array(["a"]), np.zeros(0), np.half(0.5),
    np.int64(3), np.bool_(True), np.float64("nan"), np.datetime64(0, "s"), np.str_("a"), 1j, decimal.Decimal("0.5"),
    fractions.Fraction(1, 2), memoryview(b"x"), Exception("x"), NotImplemented, ..., slice(3),
    [{"role": "user", "content": 5}], [{"role": "user", "content": "hi"}], [{"role": 5}], [{}],
]  # fmt: skip
OPTIONS = (
    *("tools", "thinking", "thinking_budget", "max_tokens", "stop", "deadline", "sampling", "answer_reserve"),
    *SAMPLING_FIELDS,
)


def ends_well(call: Callable[[], object], *arguments: str) -> None:
    """What the call is refused with is one line, and names one of the arguments if it is a wrong request."""
    try:
        call()
    except EngineError as error:
        if isinstance(error, RequestError) and not isinstance(error, UnknownOptionError) and arguments:
            field = error.field
            assert field in arguments
        message = str(error)
        assert message
        assert message.isprintable(), message
        assert len(message) < 1000


def bounded(engine: Engine, **given: Any) -> None:
    engine.generate([Request(**{"prompt": [1], "max_tokens": 3, **given})])


@pytest.fixture
def engine(tokenizer: Tokenizer, template: ChatTemplate) -> Engine:
    return make_engine(ScriptedBackend(lambda _: IM_END), tokenizer, template)


@pytest.mark.parametrize("option", OPTIONS)
def test_options_of_a_request(engine: Engine, option: str) -> None:
    fields = (option, *(SAMPLING_FIELDS if option == "sampling" else ()))
    for value in WRONG:
        ends_well(lambda value=value: bounded(engine, **{option: value}), *fields)  # type: ignore[misc]
        ends_well(lambda value=value: engine.chat("hi", **{option: value}), *fields)  # type: ignore[misc]
        ends_well(lambda value=value: engine.complete([1], **{option: value}), *fields)  # type: ignore[misc]
        ends_well(lambda value=value: list(engine.stream("hi", **{option: value})), *fields)  # type: ignore[misc]


@pytest.mark.parametrize("field", SAMPLING_FIELDS)
def test_fields_of_sampling(field: str) -> None:
    for value in WRONG:
        ends_well(lambda value=value: Sampling(**{field: value}), field)  # type: ignore[misc]
        ends_well(lambda value=value: Request(prompt=[1], sampling={field: value}), field)  # type: ignore[misc]


def test_what_is_asked(engine: Engine, tokenizer: Tokenizer) -> None:
    embedder = make_engine(
        ScriptedBackend(logits=lambda _: np.ones(8, np.float32), vocab=8),
        tokenizer,
        None,
        task="embedding",
        output="hidden",
    )
    reranker = make_engine(ScriptedBackend(logits=lambda _: background(151_936)), tokenizer, None, task="reranker")
    calls: list[Callable[[Any], object]] = [
        engine.chat,
        engine.complete,
        lambda value: list(engine.stream(value)),
        engine.generate,
        lambda value: engine.generate([value]),
        engine.submit,
        lambda value: repr(Request(value)),
        lambda value: repr(Request(prompt=value)),
        lambda value: Request(value, value),
        embedder.embed,
        lambda value: embedder.embed([value]),
        lambda value: reranker.rerank(value, ["a"]),
        lambda value: reranker.rerank("a", value),
        lambda value: reranker.rerank("a", [value]),
        lambda value: reranker.rerank("a", ["b"], instruction=value),
    ]
    for call in calls:
        for value in WRONG:
            ends_well(lambda call=call, value=value: call(value))  # type: ignore[misc]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_engine(tmp_path_factory.mktemp("wrong"), target="ort-plugins", cache="fp16")[0]


def test_arguments_of_open(built: Path) -> None:
    options = (
        *("threads", "max_sequences", "max_context", "max_waiting", "verify", "strict", "trusted_keys", "on_cpu"),
        "sampler",
    )
    for option in options:
        for value in WRONG:
            ends_well(lambda option=option, value=value: Engine.open(built, **{option: value}).close(), option)  # type: ignore[misc]
    for value in WRONG:
        ends_well(lambda value=value: Engine.open(value).close(), "path")  # type: ignore[misc]


def test_threads_are_at_most_the_processors_of_the_machine(built: Path) -> None:
    most = os.cpu_count() or 1
    Engine.open(built, threads=most).close()
    for threads in (most + 1, 2000, 10**9):
        with pytest.raises(EngineError, match=f"threads: expected 1 to {most}, the processors of this machine, found"):
            Engine.open(built, threads=threads)


@pytest.mark.parametrize("target", ["ort-plugins", "ort", "onnx"])
def test_a_manifest_that_promises_more_positions_than_the_graph_has_is_refused(tmp_path: Path, target: str) -> None:
    cache = "fp16" if target == "ort-plugins" else "fp32"
    path, _ = build_engine(tmp_path / "built", target=target, cache=cache)
    for context, refused in ((CONTEXT, False), (CONTEXT + 1, True), (1 << 20, True)):
        edited = with_changed_manifest(path, tmp_path / str(context), "io", {"max_context": context})
        if not refused:
            Engine.open(edited).close()
            continue
        with pytest.raises(EngineError, match=rf"max_context is {context}, but rope\.\w+ of model\.onnx has 64 rows"):
            Engine.open(edited)
        with pytest.raises(EngineError, match="max_context is"):
            Engine.open(edited, max_context=8)


def test_a_fork_made_while_a_step_runs_is_told_so_and_does_not_hang() -> None:
    backend = ScriptedBackend(lambda _: 5)
    inside, go_on = threading.Event(), threading.Event()

    def wait() -> None:
        inside.set()
        go_on.wait(120)

    engine = make_engine(backend, None, None, max_context=4096)
    backend.before_step = wait
    before = engine.submit(Request(prompt=[1], max_tokens=2))
    runner = threading.Thread(target=lambda: engine.complete([1], max_tokens=2))
    runner.start()
    assert inside.wait(120)
    with engine._driver._changed:  # as it may be held by another thread at the moment of the fork
        child = os.fork()
        if child == 0:
            signal.alarm(120)
            code = 0
            for call in (lambda: engine.complete([1], max_tokens=2), before.result):
                try:
                    call()
                    code = 1
                except EngineError as error:
                    code = code if "is a fork of it; open the engine after forking" in str(error) else 2
            engine.close()
            os._exit(code if not backend.closed else 3)
    _, status = os.waitpid(child, 0)
    go_on.set()
    runner.join(120)
    assert os.waitstatus_to_exitcode(status) == 0
    assert engine.complete([1], max_tokens=2).finish_reason == "length"
