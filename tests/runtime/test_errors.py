"""Programs tell errors apart by class, `code` and `field`; the documentation lists them all."""

from __future__ import annotations

import ast
import copy
import re
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from scripted import ScriptedBackend, make_engine

import qwen3_runtime
from qwen3_runtime import (
    DamagedEngineError,
    Engine,
    EngineClosedError,
    EngineError,
    OverloadedError,
    PromptTooLongError,
    Request,
    RequestError,
    StepFailedError,
    UnknownOptionError,
    UnsupportedEngineError,
    UntrustedEngineError,
    errors,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np

ROOT = Path(__file__).parents[2]
WORDS = 16


def family(root: type[EngineError] = EngineError) -> set[type[EngineError]]:
    return set(root.__subclasses__()).union(*map(family, root.__subclasses__()))


def open_engine(backend: ScriptedBackend | None = None, **limits: Any) -> Engine:
    backend = backend or ScriptedBackend(lambda _: 5, vocab=WORDS)
    sizes = {"vocab_size": WORDS, "tokenizer_vocab_size": WORDS, "task": "completion", "eos": ()}
    return make_engine(backend, None, None, **{**sizes, **limits})


def test_the_documentation_lists_every_class_with_its_code() -> None:
    text = (ROOT / "docs/runtime.md").read_text(encoding="utf-8")
    listed = dict(re.findall(r"^\| `(\w+Error)` \| `(\w+)` \| \d{3} \|", text, re.MULTILINE))
    assert listed == {kind.__name__: kind.code for kind in family()}
    assert len(set(listed.values())) == len(listed)


def test_every_class_can_be_imported_from_the_package() -> None:
    for kind in family() | {EngineError}:
        assert getattr(qwen3_runtime, kind.__name__) is kind
        assert kind.__name__ in qwen3_runtime.__all__


def test_no_error_is_of_the_family_alone() -> None:
    """Every `raise` of the runtime says which error it is; `RequestError` wants a field by its signature."""
    for file in (ROOT / "runtime/qwen3_runtime").rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
                assert node.func.id != "EngineError", f"{file}:{node.lineno}"
    with pytest.raises(TypeError):
        RequestError("without a field")  # type: ignore[call-arg]


@pytest.mark.parametrize("kind", sorted(family(), key=lambda kind: kind.__name__))
def test_errors_can_be_copied_as_processes_hand_them_on(kind: type[EngineError]) -> None:
    error = copy.copy(kind("what is wrong", field="stop"))  # by the protocol of pickle
    assert (type(error), str(error), error.field) == (kind, "what is wrong", "stop")


def test_the_field_is_the_argument_however_deep_the_place_is() -> None:
    error = RequestError.at("messages[0].content[1]", "expected text, found int")
    assert (str(error), error.field) == ("messages[0].content[1]: expected text, found int", "messages")


CASES: list[tuple[Callable[[Engine], object], type[EngineError], str | None]] = [
    (lambda engine: engine.complete([1], max_tokens=0), RequestError, "max_tokens"),
    (lambda engine: engine.complete([1], sampling={"top_p": 2}), RequestError, "top_p"),
    (lambda engine: engine.complete([1], tempratur=1), UnknownOptionError, "tempratur"),  # type: ignore[arg-type]
    (lambda engine: engine.complete([WORDS]), RequestError, "prompt"),
    (lambda engine: engine.complete([1], thinking=True), RequestError, "thinking"),
    (lambda engine: engine.complete([1], thinking_budget=3), RequestError, "thinking_budget"),
    (lambda engine: engine.complete([1], stop=["x"]), RequestError, "stop"),
    (lambda engine: engine.complete([1] * 64), PromptTooLongError, "prompt"),
    (lambda engine: engine.complete([]), RequestError, "prompt"),
    (lambda engine: engine.chat("hi"), RequestError, "messages"),
    (lambda engine: engine.embed("hi"), RequestError, "texts"),
    (lambda engine: engine.rerank("hi", "ho"), RequestError, "documents"),
    (lambda _: Request([{"role": "nobody"}], prompt=[1], max_tokens=1.5), RequestError, "max_tokens"),  # type: ignore[arg-type]
    (lambda _: Engine.open("/nowhere"), DamagedEngineError, None),
    (lambda _: Engine.open("/", verify="slow"), RequestError, "verify"),  # type: ignore[arg-type]
    (lambda _: Engine.open("/", threads=0), RequestError, "threads"),
    (lambda _: Engine.open("/", max_waiting=-1), RequestError, "max_waiting"),
    (lambda _: Engine.open("/", trusted_keys=[]), RequestError, "trusted_keys"),
]


@pytest.mark.parametrize(("call", "kind", "field"), CASES)
def test_class_and_field(call: Callable[[Engine], object], kind: type[EngineError], field: str | None) -> None:
    with pytest.raises(EngineError) as caught:
        call(open_engine(max_context=64))
    assert (type(caught.value), caught.value.field) == (kind, field)


def test_a_closed_engine_is_told_from_a_failed_step() -> None:
    def broken(_: list[int]) -> np.ndarray:
        raise ValueError("the backend broke")

    engine = open_engine(ScriptedBackend(logits=broken, vocab=WORDS))
    with pytest.raises(StepFailedError, match="ValueError: the backend broke"):
        engine.complete([1])
    engine.close()
    with pytest.raises(EngineClosedError, match="closed"):
        engine.complete([1])


def test_requests_beyond_those_that_may_wait_are_refused_until_one_has_ended() -> None:
    engine = open_engine(max_sequences=2, max_waiting=1)
    handles = [engine.submit(Request(prompt=[1], max_tokens=2)) for _ in range(3)]
    with pytest.raises(OverloadedError, match="3 requests are running or waiting"):
        engine.submit(Request(prompt=[1], max_tokens=2))
    assert [handle.result().finish_reason for handle in handles[:1]] == ["length"]
    late = engine.submit(Request(prompt=[1], max_tokens=2))
    assert [handle.result().finish_reason for handle in (*handles, late)] == ["length"] * 4


def test_requests_that_arrive_during_a_step_count_with_those_in_it() -> None:
    backend = ScriptedBackend(lambda _: 5, vocab=WORDS)
    inside, go_on = threading.Event(), threading.Event()
    backend.before_step = lambda: (inside.set(), go_on.wait(120))[1]
    engine = open_engine(backend, max_sequences=1, max_waiting=1)
    runner = threading.Thread(target=lambda: engine.complete([1], max_tokens=1))
    runner.start()
    assert inside.wait(120)
    waiting = engine.submit(Request(prompt=[1], max_tokens=1))
    with pytest.raises(OverloadedError):
        engine.submit(Request(prompt=[1], max_tokens=1))
    go_on.set()
    runner.join(120)
    assert waiting.result().finish_reason == "length"


def test_a_web_server_needs_no_more_than_the_class() -> None:
    """400 for the caller, 503 for now, 500 for what is broken: subclasses go with their base."""
    status = {RequestError: 400, OverloadedError: 503, EngineClosedError: 503}
    found = {kind: next((status[base] for base in kind.__mro__ if base in status), 500) for kind in family()}
    assert {kind for kind, code in found.items() if code == 400} == {
        RequestError,
        PromptTooLongError,
        UnknownOptionError,
    }
    assert {kind for kind, code in found.items() if code == 500} == {
        DamagedEngineError,
        UntrustedEngineError,
        UnsupportedEngineError,
        StepFailedError,
    }
    text = (ROOT / "docs/runtime.md").read_text(encoding="utf-8")
    listed = dict(re.findall(r"^\| `(\w+Error)` \| `\w+` \| (\d{3}) \|", text, re.MULTILINE))
    assert listed == {kind.__name__: str(code) for kind, code in found.items()}
    assert issubclass(UnknownOptionError, TypeError)
    assert errors.EngineError.code == "engine_error"
