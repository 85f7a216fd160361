"""Chat templates render byte for byte as in transformers, and cannot do harm.

Reference: `transformers` with the released Qwen3 template
"""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from template_conversations import CONVERSATIONS, TOOLS, assistant, call, system, tool, user
from template_shapes import ALWAYS_THINKS, ENVIRONMENT, NEVER_THINKS, TAGGED_CALLS

from qwen3_runtime.errors import EngineError, RequestError
from qwen3_runtime.text import ChatTemplate, ThinkingStart, thinking_start
from qwen3_runtime.text.template import MAX_TEMPLATE_CHARACTERS

NAMED = {"eos_token": "<|im_end|>", "pad_token": "<|endoftext|>"}


def expected(reference, messages, source=None, enable_thinking=None, **options):
    if enable_thinking is not None:
        options["enable_thinking"] = enable_thinking
    return reference.apply_chat_template(messages, chat_template=source, tokenize=False, **options)


@pytest.mark.parametrize("name", CONVERSATIONS)
@pytest.mark.parametrize("tools", [None, [], TOOLS], ids=["no tools", "empty tools", "tools"])
def test_renders_as_transformers(name, tools, template, tokenizer, reference):
    messages = CONVERSATIONS[name]
    for enable_thinking in (None, True, False):
        for add_generation_prompt in (True, False):
            options = {
                "tools": tools,
                "enable_thinking": enable_thinking,
                "add_generation_prompt": add_generation_prompt,
            }
            text = template.render(messages, **options)
            assert text == expected(reference, messages, **options)
    ids = reference.apply_chat_template(messages, tools=tools, return_dict=False)
    assert tokenizer.encode(template.render(messages, tools=tools, add_generation_prompt=False)) == ids


_TEXT = st.text(max_size=8) | st.sampled_from(["<think>", "</think>", "<tool_response>", "</tool_response>", "\n"])
_CONTENT = st.lists(_TEXT, max_size=4).map("".join)
_ARGUMENTS = st.dictionaries(st.text(max_size=4), st.integers() | st.text(max_size=4) | st.none(), max_size=2)
_MESSAGE = st.one_of(
    _CONTENT.map(user),
    _CONTENT.map(system),
    _CONTENT.map(tool),
    st.builds(assistant, _CONTENT, reasoning_content=st.none() | _CONTENT),
    st.builds(assistant, _CONTENT, tool_calls=st.lists(st.builds(call, st.text(max_size=4), _ARGUMENTS), max_size=2)),
)


@settings(max_examples=300, deadline=None)
@given(
    messages=st.lists(_MESSAGE, min_size=1, max_size=6),
    enable_thinking=st.sampled_from([None, True, False]),
    tools=st.sampled_from([None, TOOLS]),
    add_generation_prompt=st.booleans(),
)
def test_renders_any_conversation_as_transformers(messages, template, reference, **options):
    assert template.render(messages, **options) == expected(reference, messages, **options)


@pytest.mark.parametrize("source", [ALWAYS_THINKS, NEVER_THINKS, ENVIRONMENT, TAGGED_CALLS])
@pytest.mark.parametrize("tools", [None, TOOLS])
def test_templates_of_other_shapes_render_as_transformers(source, tools, reference):
    template = ChatTemplate({"default": source}, NAMED)
    for name in ("unicode", "tool call", "multi-step tools", "history with reasoning", "whitespace"):
        messages = CONVERSATIONS[name]
        for add_generation_prompt in (True, False):
            options = {"tools": tools, "add_generation_prompt": add_generation_prompt}
            assert template.render(messages, **options) == expected(reference, messages, source, **options)
    variables = {"color": "blue"}
    rendered = template.render(messages, variables=variables)
    assert rendered == expected(reference, messages, source, add_generation_prompt=True, **variables)


def test_the_prompt_of_each_family_says_how_thinking_starts(template):
    starts = {
        "hybrid": thinking_start(template.render([user("hi")])),
        "hybrid, thinking off": thinking_start(template.render([user("hi")], enable_thinking=False)),
        "thinking": thinking_start(ChatTemplate({"default": ALWAYS_THINKS}).render([user("hi")])),
        "instruct": thinking_start(ChatTemplate({"default": NEVER_THINKS}).render([user("hi")])),
    }
    assert starts == {
        "hybrid": ThinkingStart.MAY_OPEN,
        "hybrid, thinking off": ThinkingStart.OFF,
        "thinking": ThinkingStart.INSIDE,
        "instruct": ThinkingStart.MAY_OPEN,
    }


def test_arguments_as_json_text_reach_a_template_that_walks_over_them(reference):
    template = ChatTemplate({"default": TAGGED_CALLS})
    as_text = [user("?"), assistant("", tool_calls=[call("f", '{"a": {"b": 1}, "c": "d"}')])]
    as_object = [user("?"), assistant("", tool_calls=[call("f", {"a": {"b": 1}, "c": "d"})])]
    prompt = expected(reference, as_object, TAGGED_CALLS, add_generation_prompt=True)
    assert template.render(as_text) == prompt
    with pytest.raises(RequestError, match=r"messages\[1\]\.tool_calls\[0\]\.arguments: expected a JSON object"):
        template.render([user("?"), assistant("", tool_calls=[call("f", "[1]")])])


@pytest.mark.parametrize("missing", [{"arguments": ""}, {"arguments": " "}, {"arguments": None}, {}])
@pytest.mark.parametrize("source", [None, TAGGED_CALLS], ids=["released", "coder"])
def test_a_tool_call_without_arguments_has_empty_ones(missing, source, template, reference):
    """Servers send "" or null for a function without parameters."""
    rendering = template if source is None else ChatTemplate({"default": source})
    for made in ({"function": {"name": "clock", **missing}}, {"name": "clock", **missing}):
        messages = [user("?"), assistant("", tool_calls=[made])]
        empty = [user("?"), assistant("", tool_calls=[call("clock", {})])]
        assert rendering.render(messages) == expected(reference, empty, source, add_generation_prompt=True)


def test_arguments_of_the_json_text_null_are_empty_where_a_template_walks_over_them(reference):
    messages, empty = ([user("?"), assistant("", tool_calls=[call("clock", given)])] for given in ("null", {}))
    prompt = expected(reference, empty, TAGGED_CALLS, add_generation_prompt=True)
    assert ChatTemplate({"default": TAGGED_CALLS}).render(messages) == prompt


def test_an_assistant_may_leave_out_the_content_beside_a_tool_call(template, reference):
    calls = [call("clock", {})]
    for missing in ({"content": None}, {}):
        message = {"role": "assistant", **missing, "tool_calls": calls}
        assert template.render([user("?"), message]) == expected(
            reference, [user("?"), assistant("", tool_calls=calls)], add_generation_prompt=True
        )


def test_text_parts_are_joined(template):
    parts = [{"type": "text", "text": "one"}, {"type": "text", "text": "two"}]
    assert template.render([{"role": "user", "content": parts}]) == template.render([user("one\ntwo")])


def test_the_callers_messages_stay_as_they_are(template):
    messages = [user("?"), assistant("", reasoning="x", tool_calls=[call("f", "{}")])]
    before = json.dumps(messages)
    template.render(messages)
    ChatTemplate({"default": TAGGED_CALLS}).render(messages)
    assert json.dumps(messages) == before


@pytest.mark.parametrize(
    ("messages", "complaint"),
    [
        ([], "at least one message"),
        ("hi", "expected a list of messages, found str"),
        (["hi"], r"messages\[0\]: expected an object"),
        ([{"content": "hi"}], r"messages\[0\]\.role: expected one of system, user, assistant, tool, found None"),
        ([user("a"), {"role": "developer", "content": "b"}], r"messages\[1\]\.role: .* found 'developer'"),
        ([{"role": "user"}], r"messages\[0\]\.content: expected text, found nothing"),
        ([user(5)], r"messages\[0\]\.content: expected text, found int"),
        ([user([{"type": "image_url", "image_url": {}}])], "expected a part of type text, found image_url"),
        ([user(b"hi")], r"messages\[0\]\.content: expected a JSON value, found bytes"),
        ([{**user("a"), 1: 2}], r"messages\[0\]: expected text as a key"),
        ([{**user("a"), "tool_calls": []}], "only an assistant calls tools, found them in a user message"),
        ([assistant("", tool_calls={})], r"messages\[0\]\.tool_calls: expected a list"),
        ([assistant("", tool_calls=[{"function": {}}])], "expected a function with a name"),
        ([assistant("", tool_calls=[call("f", 5)])], "arguments: expected an object or its JSON text, found int"),
        ([assistant("", reasoning_content=["x"])], "reasoning_content: expected text, found list"),
    ],
)
def test_malformed_messages_are_named(messages, complaint, template):
    with pytest.raises(RequestError, match=complaint) as caught:
        template.render(messages)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("tools", ["f", [1], {"name": "f"}, [{"name": {1}}]])
def test_malformed_tools_are_named(tools, template):
    with pytest.raises(RequestError, match=r"^tools"):
        template.render([user("hi")], tools=tools)


def test_deep_nesting_is_refused(template):
    nested: dict = {}
    for _ in range(500):
        nested = {"a": nested}
    with pytest.raises(RequestError, match="nested deeper"):
        template.render([user("hi")], tools=[nested])


@pytest.mark.parametrize(
    "attack",
    [
        "{{ ''.__class__.__mro__ }}",
        "{{ messages.append(1) }}",
        "{{ messages[0].update(role='x') }}",
        "{{ ().__class__.__base__.__subclasses__() }}",
        "{{ namespace(__class__=1) }}",
        "{{ range(10000000) | list }}",
        "{{ messages[0].content * 10 ** 18 }}",
        "{{ messages[0].content.ljust(10 ** 18) }}",
        "{{ cycler.__init__.__globals__ }}",
        "{{ strftime_now.__globals__['os'] }}",
        "{{ '{0.__class__.__mro__}'.format(messages) | length / 0 }}",
        "{{ raise_exception('no\nway') }}",
        "{% include 'tokenizer_config.json' %}",
        "{{ 1 / 0 }}",
        "{{ messages[0].content.missing.field }}",
        "{{ messages[9].content + 1 }}",
        "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
    ],
)
def test_a_hostile_or_broken_template_ends_in_one_line(attack):
    with pytest.raises(RequestError, match="the chat template cannot render") as caught:
        ChatTemplate({"default": attack}).render([user("hi")])
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "source", ["{% if %}", "{{ a", "{% generation %}", "x" * (MAX_TEMPLATE_CHARACTERS + 1), "{{" + "(" * 5000]
)
def test_a_template_that_cannot_be_compiled_is_an_engine_error(source):
    with pytest.raises(EngineError, match="chat template default"):
        ChatTemplate({"default": source})


def test_reads_every_place_where_a_checkpoint_keeps_its_template(tmp_path):
    def opened(config, jinja=None):
        (tmp_path / "tokenizer_config.json").write_text(json.dumps(config))
        (tmp_path / "chat_template.jinja").unlink(missing_ok=True)
        if jinja is not None:
            (tmp_path / "chat_template.jinja").write_text(jinja)
        return ChatTemplate.open(tmp_path)

    named = [{"name": "default", "template": "plain"}, {"name": "tool_use", "template": "with tools"}]
    assert opened({}) is None
    assert opened({"chat_template": "text"}).render([user("hi")]) == "text"
    assert opened({"chat_template": named}).render([user("hi")]) == "plain"
    assert opened({"chat_template": named}).render([user("hi")], tools=TOOLS) == "with tools"
    assert opened({"chat_template": "text"}, jinja="file").render([user("hi")]) == "file"
    for broken in (5, [5], [{"name": "default"}], [{"name": "rag", "template": "x"}]):
        with pytest.raises(EngineError, match=r"chat.template"):
            opened({"chat_template": broken})
