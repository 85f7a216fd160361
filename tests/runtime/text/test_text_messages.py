"""Messages and tools are rebuilt from plain JSON values, or refused in one line that says where and why.

Reference: what `transformers` gives a template; the json module, for what is a JSON value
"""

from __future__ import annotations

import enum
import json
from types import MappingProxyType

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from template_conversations import assistant, call, system, tool, user

from qwen3_runtime.errors import RequestError
from qwen3_runtime.text import ChatTemplate
from qwen3_runtime.text.messages import checked_messages, checked_tools, plain_object
from qwen3_runtime.text.meter import MAX_BITS

MAX_DEPTH = 64
SHOWN = "{% for message in messages %}{{ message | dictsort }}{% endfor %}"


def refusal(check, *arguments, **options):
    with pytest.raises(RequestError) as caught:
        check(*arguments, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def nested(depth, value=None):
    for _ in range(depth):
        value = {"a": value}
    return value


def listed(depth):
    value = None
    for _ in range(depth):
        value = [value]
    return {"a": value}


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=10,
)


@given(st.dictionaries(st.text(max_size=3), _JSON, max_size=4))
def test_a_json_object_is_itself_and_a_copy(value):
    before = json.dumps(value)
    copy = plain_object(value, "x")
    assert json.dumps(copy) == before
    for key, item in copy.items():
        if isinstance(item, list | dict):
            assert item is not value[key]
            item.clear()
    assert json.dumps(value) == before


class Color(enum.StrEnum):
    RED = "red"


class Size(enum.IntEnum):
    BIG = 3


class Name(str):
    __slots__ = ()

    def __str__(self):
        return "another"


def test_objects_with_methods_of_their_own_are_stripped_to_the_type_that_json_has():
    given_values = {
        "enumeration": Color.RED,
        "number": Size.BIG,
        "text": Name("b"),
        "float": np.float64(0.5),
        "tuple": (1, (2,)),
        "mapping": MappingProxyType({Name("k"): True}),
    }
    copy = plain_object(given_values, "x")
    assert list(copy.values()) == ["red", 3, "b", 0.5, [1, [2]], {"k": True}]
    assert [type(value) for value in copy.values()] == [str, int, str, float, list, dict]
    assert [type(key) for key in copy["mapping"]] == [str]
    assert type(copy["mapping"]["k"]) is bool
    assert type(copy["tuple"][1]) is list


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"a": {1}}, "x.a: expected a JSON value, found set"),
        ({"a": [0, b"b"]}, "x.a[1]: expected a JSON value, found bytes"),
        ({"a": {"b": {"c": np.int64(1)}}}, "x.a.b.c: expected a JSON value, found int64"),
        ({"a": {5: 1}}, "x.a: expected text as a key, found int"),
        ({None: 1}, "x: expected text as a key, found nothing"),
        ({"a": 1 << MAX_BITS}, f"x.a: expected an integer of at most {MAX_BITS} bits, found {MAX_BITS + 1}"),
    ],
)
def test_what_json_does_not_have_is_named(value, message):
    assert refusal(plain_object, value, "x") == message


@pytest.mark.parametrize("make", [nested, listed])
def test_objects_nest_to_the_depth_that_is_allowed(make):
    """The object itself is the first level; so is a list in it the second."""
    deepest = make(MAX_DEPTH if make is nested else MAX_DEPTH - 1)
    assert plain_object(deepest, "x") == deepest
    message = refusal(plain_object, make(MAX_DEPTH + 1 if make is nested else MAX_DEPTH), "x")
    assert message.endswith(f": nested deeper than {MAX_DEPTH} levels")
    assert message.startswith("x.a")
    assert len(message) < 160


def test_whatever_is_accepted_can_be_rendered(template):
    """What bounds a template is wider than what bounds messages, or its errors would name the template."""
    coder = ChatTemplate({"default": "{{ messages }}{{ tools }}"})
    deep = nested(MAX_DEPTH - 3)
    long = (1 << MAX_BITS) - 1
    for rendering in (template, coder):
        rendering.render([user("hi") | {"x": deep}], tools=[nested(MAX_DEPTH - 1)], variables={"y": deep})
    assert "tools" in template.render([user("hi")], tools=[{"most": 1 << 999}])
    coder.render([assistant("", tool_calls=[call("f", json.dumps(nested(MAX_DEPTH)))])], variables={"z": {"v": long}})


def test_a_number_or_a_depth_that_no_template_may_have_is_the_requests_fault(template):
    long = 1 << MAX_BITS
    place = "expected an integer of at most"
    assert refusal(template.render, [user("hi")], tools=[{"a": [long]}]).startswith(f"tools[0].a[0]: {place}")
    assert refusal(template.render, [user("hi") | {"x": -long}]).startswith(f"messages[0].x: {place}")
    assert refusal(template.render, [user("hi")], variables={"x": long}).startswith(f"variables.x: {place}")


def test_arguments_as_json_text_are_checked_as_others_are():
    def given_as_text(arguments):
        return [user("?"), assistant("", tool_calls=[call("f", arguments)])]

    where = "messages[1].tool_calls[0].arguments"
    deep = refusal(checked_messages, given_as_text(json.dumps(nested(MAX_DEPTH + 1))), parse_arguments=True)
    assert deep.startswith(f"{where}.a")
    assert deep.endswith("nested deeper than 64 levels")
    for text, message in (
        ("[" * 100_000, "expected a JSON object, found text that is not JSON (maximum recursion"),
        ("{", "expected a JSON object, found text that is not JSON (Expecting property name"),
        ("[1]", "expected a JSON object, found list"),
        ("0", "expected a JSON object, found int"),
        ('""', "expected a JSON object, found str"),
        ("false", "expected a JSON object, found bool"),
    ):
        assert refusal(checked_messages, given_as_text(text), parse_arguments=True).startswith(f"{where}: {message}")
        assert checked_messages(given_as_text(text))[1]["tool_calls"][0]["function"]["arguments"] == text


@pytest.mark.parametrize("fields", [(), ("reasoning_content",), ("thinking",), ("reasoning",)])
@pytest.mark.parametrize("others", [(), ("reasoning_content", "thinking", "reasoning")])
def test_reasoning_has_the_names_that_transformers_gives_it(fields, others, reference):
    conversation = [user("a"), assistant("b", **{field: f"as {field}" for field in dict.fromkeys((*fields, *others))})]
    rendered = reference.apply_chat_template(conversation, chat_template=SHOWN, tokenize=False)
    assert ChatTemplate({"default": SHOWN}).render(conversation) == rendered


def test_reasoning_under_another_name_fills_a_name_that_is_empty(reference):
    for made in ({"reasoning_content": None, "reasoning": "x"}, {"thinking": "x", "reasoning": None}):
        conversation = [user("a"), assistant("b", **made)]
        rendered = reference.apply_chat_template(conversation, chat_template=SHOWN, tokenize=False)
        assert ChatTemplate({"default": SHOWN}).render(conversation) == rendered
    for field in ("reasoning_content", "thinking", "reasoning"):
        message = refusal(checked_messages, [assistant("b", **{field: ["x"]})])
        assert message == "messages[0].reasoning_content: expected text, found list"


def test_a_field_that_is_null_is_missing_as_in_transformers(reference):
    conversation = [user("a") | {"name": None}, assistant("b", tool_calls=None, reasoning=None, extra={"x": None})]
    rendered = reference.apply_chat_template(conversation, chat_template=SHOWN, tokenize=False)
    assert ChatTemplate({"default": SHOWN}).render(conversation) == rendered
    assert "None" in rendered  # below the fields of a message it is a value like others


@pytest.mark.parametrize("parts", [[], ["one"], ["one", "two", ""]])
def test_text_parts_are_joined_with_a_newline(parts):
    content = [{"type": "text", "text": part} for part in parts]
    for make in (user, system, tool, assistant):
        assert checked_messages([make(content)])[0]["content"] == "\n".join(parts)
    assert checked_messages([user(tuple(content))])[0]["content"] == "\n".join(parts)


@pytest.mark.parametrize(
    ("part", "found"),
    [
        *(("one", "str"), ({}, "dict"), ({"text": "one"}, "dict"), ({"type": "image", "text": "one"}, "image")),
        *(({"type": "text"}, "text"), ({"type": "text", "text": 5}, "text"), (None, "nothing")),
    ],
)
def test_a_part_that_is_no_text_is_named(part, found):
    content = [{"type": "text", "text": "one"}, part]
    assert refusal(checked_messages, [user("?"), user(content)]) == (
        f"messages[1].content[1]: expected a part of type text, found {found}"
    )


@pytest.mark.parametrize("role", ["system", "user", "tool"])
def test_only_an_assistant_may_leave_out_content_or_call_tools(role):
    for message in ({"role": role}, {"role": role, "content": None}):
        assert refusal(checked_messages, [message]) == "messages[0].content: expected text, found nothing"
    calling = {"role": role, "content": "", "tool_calls": [call("f", {})]}
    assert refusal(checked_messages, [calling]) == (
        f"messages[0].tool_calls: only an assistant calls tools, found them in a {role} message"
    )
    assert checked_messages([{"role": role, "content": "", "tool_calls": None}]) == [{"role": role, "content": ""}]
    assert checked_messages([{"role": "assistant"}])[0]["content"] == ""


@pytest.mark.parametrize(
    ("made", "message"),
    [
        ("f", "[1]: expected a function with a name and arguments"),
        ({"function": "f"}, "[1]: expected a function with a name and arguments"),
        ({"function": {"name": 5}}, "[1]: expected a function with a name and arguments"),
        ({"arguments": {}}, "[1]: expected a function with a name and arguments"),
        (call("f", ["x"]), "[1].arguments: expected an object or its JSON text, found list"),
    ],
)
def test_a_call_that_is_none_is_named(made, message):
    conversation = [user("?"), assistant("", tool_calls=[call("f", {}), made])]
    assert refusal(checked_messages, conversation) == f"messages[1].tool_calls{message}"


def test_messages_and_tools_are_lists_of_mappings():
    assert checked_messages((user("a"),)) == [user("a")]
    assert checked_messages([MappingProxyType(user("a"))]) == [user("a")]
    for other in ("hi", b"hi", None, 5, {}, iter([user("a")])):
        assert refusal(checked_messages, other).startswith("messages")
    assert refusal(checked_messages, []) == "messages: expected at least one message, found none"
    assert refusal(checked_messages, [user("a"), 5]) == (
        "messages[1]: expected an object with a role and content, found int"
    )
    assert checked_tools(None) is None
    assert checked_tools([]) == []
    assert checked_tools(({"a": 1}, MappingProxyType({"b": (2,)}))) == [{"a": 1}, {"b": [2]}]
    for other in ("hi", 5, {"a": 1}):
        assert refusal(checked_tools, other).startswith("tools: expected a list of JSON schemas, found ")
    assert refusal(checked_tools, [{}, "f"]) == "tools[1]: expected a JSON object, found str"
