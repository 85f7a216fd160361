"""A template cannot exhaust stack, memory or time, and nothing that counts it shows in what it renders."""

import json
import subprocess
import sys

import pytest
import template_attacks
from template_conversations import CONVERSATIONS, PARIS, TOOLS, assistant, call, tool, user
from template_shapes import ALWAYS_THINKS, CONSTRUCTS, NEVER_THINKS, TAGGED_CALLS
from test_text_template import expected

from qwen3_runtime.errors import EngineError, RequestError
from qwen3_runtime.text import ChatTemplate


@pytest.fixture(scope="module")
def attacked():
    """How each attack ended, by its name; those that took their process with them, or too long, are missing."""
    ended, left = {}, list(template_attacks.CODE)
    while left:
        command = [sys.executable, template_attacks.__file__, *left]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        lines = [json.loads(line) for line in done.stdout.splitlines()]
        ended |= {line["name"]: line for line in lines}
        left = left[len(lines) + 1 :]
    return ended


@pytest.mark.parametrize("name", template_attacks.CODE)
def test_an_attack_ends_soon_in_one_line_and_takes_little_memory(name, attacked):
    assert name in attacked, f"the process was killed, perhaps after {template_attacks.MOST_SECONDS} seconds"
    outcome = attacked[name]
    assert outcome["ended"].startswith(
        ("RequestError: the chat template cannot", "DamagedEngineError: chat template default")
    )
    assert "MemoryError" not in outcome["ended"]  # it was refused, not just too much for this machine
    assert outcome["ended"].isprintable()
    assert len(outcome["ended"]) < 500
    assert outcome["work"] < 100  # in passes of a million steps: a busy machine slows both
    assert outcome["megabytes"] < 400


def test_attacks_do_not_wear_out_the_engine(template, reference):
    """The allowance is that of one rendering."""
    hungry = ChatTemplate({"default": "{% for i in range(60000) %}{{ i }}{% endfor %}"})
    lengths = {len(hungry.render([user("hi")])) for _ in range(3)}
    assert len(lengths) == 1
    with pytest.raises(RequestError, match="it takes more than"):
        ChatTemplate({"default": template_attacks.CODE["nested loops"]}).render([user("hi")])
    assert template.render([user("hi")]) == expected(reference, [user("hi")], add_generation_prompt=True)


@pytest.mark.parametrize("source", [None, ALWAYS_THINKS, NEVER_THINKS, TAGGED_CALLS])
def test_a_thousand_messages_and_two_hundred_tools_render_as_transformers(source, template, reference):
    turns = [
        lambda i: user(f"question {i} " * 20),
        lambda i: assistant("", reasoning_content=f"hm {i} " * 50, tool_calls=[PARIS, call("clock", {"n": i})]),
        lambda i: tool(f"rain {i} " * 30),
        lambda i: assistant(f"<think>\nso {i}\n</think>\n\nok " * 3),
    ]
    messages = [turns[i % 4](i) for i in range(1000)]
    rendering = template if source is None else ChatTemplate({"default": source})
    for tools in (None, TOOLS * 100):
        text = rendering.render(messages, tools=tools)
        assert text == expected(reference, messages, source, tools=tools, add_generation_prompt=True)
    long = [user("long " * 400_000), assistant("</think>" + "x" * 2_000_000), user("?")]
    assert rendering.render(long) == expected(reference, long, source, add_generation_prompt=True)


@pytest.mark.parametrize("name", ["unicode", "tool call", "multi-step tools", "whitespace", "two tool results"])
def test_counting_changes_nothing_that_a_template_can_see(name, reference):
    messages = CONVERSATIONS[name]
    text = ChatTemplate({"default": CONSTRUCTS}).render(messages)
    assert text == expected(reference, messages, CONSTRUCTS, add_generation_prompt=True)


def test_more_templates_than_anybody_has_are_refused():
    with pytest.raises(EngineError, match="chat template: 5 templates, at most 4 are read"):
        ChatTemplate({"default": "", **{str(number): "" for number in range(4)}})
