"""From a request to a turn: which prompt is fed, how thinking starts, and how much may follow."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from qwen3_runtime.budget import STOP_SENTENCE, fit_budget
from qwen3_runtime.errors import DamagedEngineError, RequestError
from qwen3_runtime.generation import Turn
from qwen3_runtime.sampling import NON_THINKING, THINKING, Sampling
from qwen3_runtime.scheduler import check_prompt
from qwen3_runtime.text.reasoning import CLOSE_TAG, OPEN_TAG, ThinkingStart, soft_switch, thinking_start

if TYPE_CHECKING:
    from collections.abc import Sequence

    from qwen3_runtime.manifest import Manifest
    from qwen3_runtime.request import Request
    from qwen3_runtime.text import ChatTemplate, Tokenizer


@dataclass(frozen=True)
class Model:
    """What an opened engine says about its model.

    Attributes:
        manifest: the engine's manifest.
        tokenizer: None for an engine that was built without one; it takes token ids only.
        template: None where the model has no chat template.
        max_context: tokens a sequence may hold, as opened.
    """

    manifest: Manifest
    tokenizer: Tokenizer | None
    template: ChatTemplate | None
    max_context: int

    @cached_property
    def stop_sentence(self) -> tuple[int, ...]:
        """The stop sentence as tokens; empty without a tokenizer."""
        return tuple(self.tokenizer.encode(STOP_SENTENCE)) if self.tokenizer is not None else ()

    @cached_property
    def default_sampling(self) -> tuple[Sampling, Sampling]:
        """The sampling of the thinking and of the non-thinking mode.

        Raises:
            DamagedEngineError: the manifest's values are unknown or out of range.
        """
        if self.manifest.chat is None:
            return Sampling(), Sampling()
        declared = self.manifest.chat.sampling
        return (
            _declared_sampling(declared.get("thinking"), THINKING),
            _declared_sampling(declared.get("non_thinking"), NON_THINKING),
        )


def prepare_turn(request: Request, model: Model) -> Turn:
    """Check a request against a model, tokenize it and decide how thinking starts and ends.

    Raises:
        RequestError: what cannot be served, with the numbers.
    """
    if (request.messages is None) == (request.prompt is None):
        raise RequestError("a request needs either messages or prompt, and not both", field="messages")
    _check_fields(request, model)
    budget = _wanted_budget(request, model)
    thinking = _wants_thinking(request, model, budget)
    prompt, start = _render(request, model, thinking=thinking)
    check_ids(prompt, model.manifest.io.vocab_size, request.source)
    check_prompt(len(prompt), model.max_context, output=1, field=request.source)
    left = model.max_context - len(prompt)
    max_tokens = request.max_tokens
    if max_tokens is None:
        max_tokens = model.manifest.chat.max_tokens if model.manifest.chat is not None else left
    if start is ThinkingStart.OFF:
        budget = None
    room = min(max_tokens, left)
    budget = fit_budget(
        budget,
        requested=request.thinking_budget != "default",
        room=room,
        stop_sentence=len(model.stop_sentence),
        reserve=request.answer_reserve,
    )
    return Turn(
        prompt=tuple(prompt),
        start=start,
        budget=budget,
        stop_sentence=model.stop_sentence,
        open_id=model.tokenizer.token_id(OPEN_TAG) if model.tokenizer is not None else None,
        close_id=model.tokenizer.token_id(CLOSE_TAG) if model.tokenizer is not None else None,
        room=room,
        limit="length" if max_tokens <= left else "context",
        eos=frozenset(model.manifest.eos_token_ids),
    )


def choose_sampling(request: Request, model: Model, start: ThinkingStart) -> Sampling:
    """The request's sampling; what it leaves open is the engine's for the mode that the turn is in."""
    switched_off = request.conversation is not None and soft_switch(request.conversation) is False
    quiet = start is ThinkingStart.OFF or (switched_off and start is not ThinkingStart.INSIDE)
    return request.sampling_over(model.default_sampling[quiet])


def _declared_sampling(declared: Any, fallback: Sampling) -> Sampling:  # noqa: ANN401 - a mapping read from JSON
    if declared is None:
        return fallback
    for name in declared:
        if name not in Sampling.__dataclass_fields__:
            raise DamagedEngineError(f"manifest.json: chat: sampling: unknown field {name!r}; rebuild the engine")
    try:
        return Sampling(**declared)
    except RequestError as error:
        raise DamagedEngineError(f"manifest.json: chat: sampling: {error}; rebuild the engine") from None


def _wanted_budget(request: Request, model: Model) -> int | None:
    if request.thinking_budget == "default":
        default = model.manifest.chat.thinking_budget if model.manifest.chat is not None else None
        # An engine whose default is not to think still does when told to.
        return None if default == 0 and request.thinking else default
    return request.thinking_budget


def _wants_thinking(request: Request, model: Model, budget: int | None) -> bool:
    mode = model.manifest.chat.thinking if model.manifest.chat is not None else "never"
    if mode == "never":
        named = request.thinking_budget not in ("default", None, 0)
        if request.thinking or named:
            asked = "thinking=True" if request.thinking else f"thinking_budget={request.thinking_budget}"
            field = asked.partition("=")[0]
            raise RequestError(f"this model never thinks: leave {asked} out", field=field)
        return False
    if mode == "always":
        if request.thinking is False:
            problem = "this model always thinks: pass thinking_budget=0 to have it answer at once"
            raise RequestError(problem, field="thinking")
        return True
    return request.thinking is not False and not (budget == 0 and request.messages is not None)


def _render(request: Request, model: Model, *, thinking: bool) -> tuple[list[int], ThinkingStart]:
    """The prompt's tokens and how generation starts after them."""
    tokenizer = model.tokenizer
    if request.conversation is not None:
        if tokenizer is None or model.template is None:
            missing = "tokenizer" if tokenizer is None else "chat template"
            problem = f"this engine has no {missing}, so it cannot chat; use a raw prompt"
            raise RequestError(problem, field="messages")
        hybrid = model.manifest.chat is not None and model.manifest.chat.thinking == "hybrid"
        text = model.template.render(
            request.conversation,
            tools=request.tools,
            enable_thinking=thinking if hybrid else None,
        )
        ids = tokenizer.encode(text, field="messages")
    elif isinstance(request.prompt, str):
        if tokenizer is None:
            raise RequestError("this engine has no tokenizer: give the prompt as token ids", field="prompt")
        text = request.prompt
        ids = tokenizer.encode(text, field="prompt")
    else:
        ids = list(request.prompt or ())
        check_ids(ids, model.manifest.io.vocab_size, "prompt")  # before anything decodes them
        text = tokenizer.decode(ids) if thinking and tokenizer is not None else ""
    return ids, thinking_start(text) if thinking and tokenizer is not None else ThinkingStart.OFF


def check_ids(ids: Sequence[int], vocab_size: int, field: str) -> None:
    """Refuse token ids that the model has no embedding for; some checkpoints have fewer rows than their tokenizer ids.

    Raises:
        RequestError: naming the first.
    """
    for index, token in enumerate(ids):
        if not 0 <= token < vocab_size:
            raise RequestError.at(f"{field}[{index}]", f"token id {token} is not below the vocabulary's {vocab_size}")


def _check_fields(request: Request, model: Model) -> None:
    if request.tools is not None and request.messages is None:
        raise RequestError.at("tools", "only a chat template can show them; give messages instead of a raw prompt")
    if model.tokenizer is None:
        named = request.thinking_budget not in ("default", None)
        for field, given in (("stop", request.stop), ("thinking_budget", named)):
            if given:
                raise RequestError.at(field, "this engine has no tokenizer, so it sees no text to act on")
