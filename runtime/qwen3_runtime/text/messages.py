"""Chat messages and tools as a request brings them: checked, and rebuilt from plain JSON values."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

from qwen3_runtime.arguments import kind
from qwen3_runtime.errors import RequestError
from qwen3_runtime.text.meter import MAX_BITS

ROLES = ("system", "user", "assistant", "tool")
_REASONING_FIELDS = ("reasoning_content", "thinking", "reasoning")
_MAX_DEPTH = 64

_Json: TypeAlias = "bool | int | float | str | list[_Json] | dict[str, Any] | None"


def checked_messages(messages: object, *, parse_arguments: bool = False) -> list[dict[str, Any]]:
    """Messages that a chat template can render without surprise, as a fresh copy.

    A template of Qwen3 silently drops a role that it does not know, so roles are checked here. Text parts
    (`[{"type": "text", "text": ...}]`) are joined with a newline, since these templates know only strings; an
    assistant's missing content is the empty text. Reasoning may be named `reasoning_content`, `reasoning` or
    `thinking`, and is offered to the template under the names that transformers offers. A tool call whose arguments
    are missing, null or empty text has none: `{}`. A field of a message that is null is as one that is missing.

    Args:
        messages: a list of mappings with `role`, `content`, and for an assistant `reasoning_content`, `tool_calls`.
        parse_arguments: turn tool-call arguments given as a JSON string into the object, for templates that
            iterate over them.

    Raises:
        RequestError: naming the message, what was expected and what was found.
    """
    if isinstance(messages, str) or not isinstance(messages, Sequence):
        raise RequestError.at("messages", f"expected a list of messages, found {kind(messages)}")
    if not messages:
        raise RequestError.at("messages", "expected at least one message, found none")
    return [_checked_message(message, f"messages[{i}]", parse_arguments) for i, message in enumerate(messages)]


def checked_tools(tools: object) -> list[dict[str, Any]] | None:
    """Tool schemas as plain JSON objects, or None.

    Raises:
        RequestError: the tools are not a list of JSON objects.
    """
    if tools is None:
        return None
    if isinstance(tools, str) or not isinstance(tools, Sequence):
        raise RequestError.at("tools", f"expected a list of JSON schemas, found {kind(tools)}")
    for i, tool in enumerate(tools):
        if not isinstance(tool, Mapping):
            raise RequestError.at(f"tools[{i}]", f"expected a JSON object, found {kind(tool)}")
    return [plain_object(tool, f"tools[{i}]") for i, tool in enumerate(tools)]


def plain_object(value: Mapping[Any, Any], where: str) -> dict[str, Any]:
    """A copy of `value` in exact JSON types, so that a template never meets an object with methods of its own.

    Raises:
        RequestError: a key or value that JSON does not have, one nested too deep, or an integer that is too long.
    """
    return _plain_object(value, where, _MAX_DEPTH)


def _plain_object(value: Mapping[Any, Any], where: str, depth: int) -> dict[str, Any]:
    for key in value:
        if not isinstance(key, str):
            raise RequestError.at(where, f"expected text as a key, found {kind(key)}")
    return {str.__str__(key): _plain(item, f"{where}.{key}", depth - 1) for key, item in value.items()}


def _plain(value: object, where: str, depth: int) -> _Json:
    if depth < 0:
        raise RequestError.at(where[:120], f"nested deeper than {_MAX_DEPTH} levels")
    if value is None or isinstance(value, bool):
        return value
    # Subclasses (enumerations, numpy scalars) may carry methods: strip them to the exact type.
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, int):
        if value.bit_length() > MAX_BITS:
            raise RequestError.at(where, f"expected an integer of at most {MAX_BITS} bits, found {value.bit_length()}")
        return int.__int__(value)
    if isinstance(value, float):
        return float.__float__(value)
    if isinstance(value, Mapping):
        return _plain_object(value, where, depth)
    if isinstance(value, list | tuple):
        return [_plain(item, f"{where}[{i}]", depth - 1) for i, item in enumerate(value)]
    raise RequestError.at(where, f"expected a JSON value, found {kind(value)}")


def _checked_message(message: object, where: str, parse_arguments: bool) -> dict[str, Any]:
    if not isinstance(message, Mapping):
        raise RequestError.at(where, f"expected an object with a role and content, found {kind(message)}")
    plain = {name: value for name, value in plain_object(message, where).items() if value is not None}
    role = plain.get("role")
    if role not in ROLES:
        raise RequestError.at(f"{where}.role", f"expected one of {', '.join(ROLES)}, found {role!r}")
    plain["content"] = _content(plain.get("content"), role, f"{where}.content")
    reasoning = next((plain[field] for field in _REASONING_FIELDS if field in plain), None)
    if reasoning is not None:
        if not isinstance(reasoning, str):
            raise RequestError.at(f"{where}.reasoning_content", f"expected text, found {kind(reasoning)}")
        plain = {"thinking": reasoning, **plain, "reasoning_content": reasoning}
    if "tool_calls" in plain:
        plain["tool_calls"] = _tool_calls(plain["tool_calls"], role, f"{where}.tool_calls", parse_arguments)
    return plain


def _content(content: object, role: str, where: str) -> str:
    if isinstance(content, str):
        return content
    if content is None and role == "assistant":
        return ""
    if not isinstance(content, list):
        raise RequestError.at(where, f"expected text, found {kind(content)}")
    texts = []
    for i, part in enumerate(content):
        sort = part.get("type") if isinstance(part, dict) else None
        text = part.get("text") if sort == "text" else None
        if not isinstance(text, str):
            raise RequestError.at(f"{where}[{i}]", f"expected a part of type text, found {sort or kind(part)}")
        texts.append(text)
    return "\n".join(texts)


def _tool_calls(calls: object, role: str, where: str, parse_arguments: bool) -> list[dict[str, Any]]:
    if role != "assistant":
        raise RequestError.at(where, f"only an assistant calls tools, found them in a {role} message")
    if not isinstance(calls, list):
        raise RequestError.at(where, f"expected a list, found {kind(calls)}")
    for i, call in enumerate(calls):
        function = call.get("function", call) if isinstance(call, dict) else None
        if not isinstance(function, dict) or not isinstance(function.get("name"), str):
            raise RequestError.at(f"{where}[{i}]", "expected a function with a name and arguments")
        arguments = function.get("arguments")
        if arguments is None or (
            isinstance(arguments, str) and not arguments.strip()
        ):  # what servers send for a function without parameters
            function["arguments"] = arguments = {}
        if not isinstance(arguments, str | dict):
            found = kind(arguments)
            raise RequestError.at(f"{where}[{i}].arguments", f"expected an object or its JSON text, found {found}")
        if parse_arguments and isinstance(arguments, str):
            function["arguments"] = _parsed_arguments(arguments, f"{where}[{i}].arguments")
    return calls


def _parsed_arguments(text: str, where: str) -> dict[str, Any]:
    try:
        arguments = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise RequestError.at(where, f"expected a JSON object, found text that is not JSON ({error})") from error
    if arguments is not None and not isinstance(arguments, dict):
        raise RequestError.at(where, f"expected a JSON object, found {kind(arguments)}")
    return plain_object(arguments or {}, where)
