"""What an engine's tokenizer and chat template must say for its task; each check raises in one line.

A wrong answer here costs nothing in the logits, which is why comparing them does not find it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from qwen3_compile.errors import CheckpointError
from qwen3_runtime.reranking import INSTRUCTION, rerank_prompt

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from qwen3_compile.engine.tokens import Tokens
    from qwen3_compile.spec import Spec
    from qwen3_runtime.text import ChatTemplate, Tokenizer

_CONVERSATION = [{"role": "user", "content": "Hello"}]
_REPLY = "Good morning to you"
_TOOL = {
    "type": "function",
    "function": {
        "name": "now",
        "description": "Tells the time.",
        "parameters": {"type": "object", "properties": {"zone": {"type": "string"}}, "required": ["zone"]},
    },
}


@dataclass(frozen=True)
class Opened:
    """What the checks look at: the files as the runtime has opened them.

    Attributes:
        spec: what is built.
        where: the tokenizer's folder, to name in errors.
        tokenizer: the runtime's.
        template: the runtime's; None where there is none.
        tokens: facts about the vocabulary.
    """

    spec: Spec
    where: Path
    tokenizer: Tokenizer
    template: ChatTemplate | None
    tokens: Tokens


def check(opened: Opened) -> None:
    """Run every check of the task.

    Raises:
        CheckpointError: the first that fails.
    """
    for asked in _CHECKS:
        asked(opened)


def reranker_notes(opened: Opened) -> tuple[str, ...]:
    """Say where a reranker's template asks in other words than the runtime, which asks as the model card does."""
    if opened.spec.model.task != "reranker" or opened.template is None:
        return ()
    asked = rerank_prompt("query", "document", INSTRUCTION)
    system, user = (part.partition("\n")[2] for part in asked.partition("<|im_end|>\n<|im_start|>")[::2])
    messages = [{"role": "system", "content": system}, {"role": "user", "content": user.partition("<|im_end|>")[0]}]
    if opened.template.render(messages, enable_thinking=False) == asked:
        return ()
    return ("the chat template differs from the prompt of Qwen3-Reranker's model card, which rerank() uses",)


def with_turn_end(opened: Opened) -> tuple[Tokens, tuple[str, ...]]:
    """Make sure that a chat engine stops where its template ends a reply.

    Fine-tunes of base models often name `<|endoftext|>` alone as their end, while they were trained to end a reply with
    `<|im_end|>`: such an engine would talk on to its last token. What the template writes behind a reply is what the
    model learned, so it counts as an end too.

    Returns:
        The tokens, and what was added to them in a sentence.

    Raises:
        CheckpointError: no token of the tokenizer ends a reply.
    """
    template, tokens = opened.template, opened.tokens
    if opened.spec.model.task != "chat" or template is None:
        return tokens, ()
    text = template.render([*_CONVERSATION, {"role": "assistant", "content": _REPLY}], add_generation_prompt=False)
    _, found, tail = text.rpartition(_REPLY)
    if not found:
        raise CheckpointError(f"{opened.where}: the chat template drops the assistant's replies from a conversation")
    known = opened.tokenizer.special_ids | set(tokens.eos_token_ids)
    end = next((token for token in opened.tokenizer.encode(tail) if token in known), None)
    if end is None:
        raise CheckpointError(
            f"{opened.where}: the chat template ends a reply with {tail!r}, expected a special token such as "
            "<|im_end|>, which tells the engine to stop; fix the template"
        )
    if end in tokens.eos_token_ids:
        return tokens, ()
    name = opened.tokenizer.decode([end])
    note = f"{name} ends a reply in the chat template and was added to the end tokens"
    return replace(tokens, eos_token_ids=(end, *tokens.eos_token_ids)), (note,)


def _has_template(opened: Opened) -> None:
    task = opened.spec.model.task
    if task in ("chat", "reranker") and opened.template is None:
        raise CheckpointError(
            f"{opened.where}: no chat template, which a model for {task} needs; put chat_template.jinja beside the "
            "tokenizer" + (", or set model.task to completion for a base model" if task == "chat" else "")
        )


def _template_renders(opened: Opened) -> None:
    """One turn, and for chat also with a tool; every token of it must be an id of the model's vocabulary."""
    if opened.template is None:
        return
    texts = [opened.template.render(_CONVERSATION)]
    if opened.spec.model.task == "chat":
        texts.append(opened.template.render(_CONVERSATION, tools=[_TOOL]))
    vocab_size = opened.spec.model.architecture.vocab_size
    highest = max((token for text in texts for token in opened.tokenizer.encode(text)), default=-1)
    if highest >= vocab_size:
        raise CheckpointError(
            f"{opened.where}: the chat template writes {opened.tokenizer.decode([highest])!r}, token {highest}, but "
            f"the model has {vocab_size} embeddings; the tokenizer or the template is another model's"
        )


def _pools_an_end(opened: Opened) -> None:
    """The vector of an embedding model is its output at a token that the tokenizer appends to every text."""
    if opened.spec.model.task != "embedding":
        return
    plain, whole = (opened.tokenizer.encode("Hello", add_special_tokens=special) for special in (False, True))
    if len(whole) > len(plain) and whole[-1] in opened.tokenizer.special_ids:
        return
    raise CheckpointError(
        f"{opened.where}: tokenizer.json ends a text with {opened.tokenizer.decode(whole[-1:])!r}, expected a special "
        "token such as <|endoftext|>, whose output is the embedding; take the tokenizer.json of the released embedding "
        "model, whose post-processor appends it, or set model.tokenizer to its location"
    )


def _knows_the_rerankers_words(opened: Opened) -> None:
    """A reranker is asked in words of its own and answers with one of two tokens."""
    if opened.spec.model.task != "reranker" or opened.template is None:
        return
    words = ("yes", "no", "<|im_start|>", "<|im_end|>", "<think>", "</think>")
    missing = [word for word in words if opened.tokenizer.token_id(word) is None]
    if missing:
        raise CheckpointError(
            f"{opened.where}: the tokenizer has no token {', '.join(missing)}, which a reranker is asked with; this is "
            "another model's tokenizer"
        )


_CHECKS: tuple[Callable[[Opened], None], ...] = (
    _has_template,
    _template_renders,
    _pools_an_end,
    _knows_the_rerankers_words,
)
