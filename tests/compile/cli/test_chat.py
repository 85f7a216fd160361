"""The terminal conversation: slash commands, history, and what is sent to the engine."""

import io
import json

import pytest

from qwen3_compile.cli import main
from qwen3_compile.cli.conversation import Command, Conversation, apply, read_turn
from qwen3_compile.cli.requests import bind
from qwen3_runtime import engine as engine_module
from qwen3_runtime.backends.ort.packed import PackedSessionBackend


def carry_out(talk, *lines):
    return [apply(talk, read_turn(lambda _, line=line: line)) for line in lines]


def test_commands_set_what_the_next_answer_uses(capsys):
    talk = Conversation(generation={})
    assert all(carry_out(talk, "/budget 500", "/no_think", "/system be brief"))
    out, err = capsys.readouterr()
    assert out == ""
    assert err.splitlines() == ["at most 500 tokens of thinking", "thinking off", "system message: be brief"]
    assert talk.generation == {"thinking_budget": 500, "thinking": False}
    assert talk.rendered() == [{"role": "system", "content": "be brief"}]
    assert all(carry_out(talk, "/think", "/system"))
    assert talk.generation["thinking"] is True
    assert talk.rendered() == []


@pytest.mark.parametrize(
    ("word", "budget"), [("off", None), ("none", None), ("default", "default"), ("7", 7), ("0", 0)]
)
def test_a_budget_is_a_number_or_none_or_the_engines(word, budget, capsys):
    talk = Conversation(generation={"thinking_budget": 3})
    carry_out(talk, f"/budget {word}")
    assert bind(talk.generation)["thinking_budget"] == budget
    assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.parametrize(
    ("generation", "shown"),
    [
        ({}, "the engine's default thinking budget\n"),
        ({"thinking_budget": None}, "no limit on thinking\n"),
        ({"thinking_budget": 7}, "at most 7 tokens of thinking\n"),
    ],
)
def test_budget_alone_shows_what_it_is(generation, shown, capsys):
    talk = Conversation(generation=dict(generation))
    assert carry_out(talk, "/budget") == [True]
    assert capsys.readouterr().err == shown
    assert talk.generation == generation


def test_thinking_that_a_budget_of_zero_switched_off_can_be_switched_on(capsys):
    talk = Conversation(generation={})
    carry_out(talk, "/budget 0", "/think")
    assert bind(talk.generation) == {"thinking_budget": "default", "thinking": True}
    carry_out(talk, "/no_think", "/budget 5")
    assert "once /think switches thinking on" in capsys.readouterr().err


def test_clear_forgets_and_history_shows(capsys):
    talk = Conversation(generation={}, messages=[{"role": "user", "content": "[bold]hi :x:\t\u200d"}])
    carry_out(talk, "/history")
    assert capsys.readouterr().out == "user: [bold]hi :x:\t\u200d\n"
    carry_out(talk, "/clear")
    assert talk.messages == []


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("/budget many", "expected a number of tokens, none or default, found 'many'"),
        ("/budget -1", "found '-1'"),
        ("/nonsense", "/say /nonsense sends it as text"),
        ("/budegt 5", "did you mean /budget?"),
        ("/no_think what is 1+1?", "/no_think takes no text, found 'what is 1+1?'"),
        ("/exit now", "/exit takes no text"),
        ("/say", "expects the text"),
    ],
)
def test_a_wrong_command_says_so_and_changes_nothing(line, message, capsys):
    talk = Conversation(generation={"thinking_budget": 3})
    assert carry_out(talk, line) == [True]
    assert talk == Conversation(generation={"thinking_budget": 3})
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("error: ")
    assert message in err


@pytest.mark.parametrize("line", ["/exit", "/quit", "/bye"])
def test_leaving(line):
    assert carry_out(Conversation(generation={}), line) == [False]


@pytest.mark.parametrize(
    ("lines", "turn"),
    [
        (["/usr/bin is what?"], "/usr/bin is what?"),
        (["// a comment"], "// a comment"),
        (["/* a comment */"], "/* a comment */"),
        (["/ alone"], "/ alone"),
        (["/say /no_think, what is it?"], "/no_think, what is it?"),
        (["/say   indented\t"], "  indented\t"),
        (["/budget 5\nof a paste"], "/budget 5\nof a paste"),
        (['"""', "/exit", "", "  b", '"""'], "/exit\n\n  b"),
        (['"""one line"""'], "one line"),
        (['"""first', 'last""" '], "first\nlast"),
        (['"""pasted\nat once\n"""'], "pasted\nat once"),
        ([" /exit with a space before"], " /exit with a space before"),
        (["/think"], Command("/think", "")),
        (["/?"], Command("/?", "")),
        (['"""', "never ended"], None),
        ([], None),
    ],
)  # fmt: skip
def test_a_line_is_a_command_only_if_its_first_word_is_a_slash_and_letters(lines, turn):
    waiting = iter(lines)
    assert read_turn(lambda _: next(waiting, None)) == turn


def test_a_message_that_is_not_closed_says_that_it_was_not_sent(capsys):
    waiting = iter(['"""', "never ended"])
    assert read_turn(lambda _: next(waiting, None)) is None
    assert "was not sent" in capsys.readouterr().err


def test_a_conversation_from_standard_input_gives_its_answers_alone(engine, capsys, monkeypatch):
    lines = ["What is 37+45?", "/no_think", "What is 12+13?", "", "/nonsense"]
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO("\r\n".join(lines).encode())))
    assert main(["chat", str(engine), "--temperature", "0"]) == 0
    out, err = capsys.readouterr()
    first, second = out.splitlines()
    assert first == "The sum is 82."
    assert second
    assert "37+45=82" in err
    assert "unknown command /nonsense" in err


class Terminal(io.TextIOWrapper):
    def isatty(self):
        return True


@pytest.mark.parametrize("out_too", [True, False])
def test_in_a_terminal_line_editing_knows_the_prompt_and_a_pipe_never_gets_it(engine, capsys, monkeypatch, out_too):
    """A prompt printed before `input` would vanish when a line is edited or called back from the history."""
    prompts = []

    def answer(prompt=""):
        prompts.append(prompt)
        raise EOFError

    monkeypatch.setattr("sys.stdin", Terminal(io.BytesIO()))
    monkeypatch.setattr("builtins.input", answer)
    if out_too:
        monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    assert main(["chat", str(engine)]) == 0
    out, err = capsys.readouterr()
    assert prompts == (["> "] if out_too else [])
    assert "> " not in out
    assert ("> " in err) is not out_too


def test_an_interrupted_answer_takes_the_question_back_and_the_talk_goes_on(engine, capsys, monkeypatch):
    steps, step = [], PackedSessionBackend.run

    def interrupted(self, batch):
        steps.append(batch)
        if len(steps) == 4:
            raise KeyboardInterrupt
        return step(self, batch)

    monkeypatch.setattr(PackedSessionBackend, "run", interrupted)
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"What is 12+13?\nWhat is 37+45?\n/history\n")))
    assert main(["chat", str(engine), "--temperature", "0"]) == 0
    out, err = capsys.readouterr()
    assert "interrupted: the question was removed" in err
    assert "assistant: The sum is 82." in out
    assert "user: What is 12+13?" not in out


def test_a_sampling_option_keeps_the_other_defaults_of_the_mode_of_each_answer(engine, monkeypatch):
    seen = []
    choose = engine_module.choose_sampling
    monkeypatch.setattr(engine_module, "choose_sampling", lambda *given: seen.append(choose(*given)) or seen[-1])
    option = ["--temperature", "0.1", "--max-tokens", "1"]
    for prompt, thinking in (("hi", []), ("hi", ["--no-thinking"]), ("hi", ["--budget", "0"]), ("hi /no_think", [])):
        assert main(["run", str(engine), prompt, *option, *thinking]) == 0
    modes = json.loads((engine / "manifest.json").read_text())["chat"]["sampling"]
    assert [sampling.temperature for sampling in seen] == [0.1] * 4
    expected = [modes["thinking"]["top_p"]] + [modes["non_thinking"]["top_p"]] * 3
    assert [sampling.top_p for sampling in seen] == expected
    assert expected[0] != expected[1]


def test_no_think_in_a_conversation_leaves_the_other_defaults_of_its_mode(engine, capsys, monkeypatch):
    seen = []
    choose = engine_module.choose_sampling
    monkeypatch.setattr(engine_module, "choose_sampling", lambda *given: seen.append(choose(*given)) or seen[-1])
    lines = b"hi\n/no_think\nhi\n/think\nhi\n/say hi /no_think\n"
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(lines)))
    assert main(["chat", str(engine), "--temperature", "0.1", "--max-tokens", "1"]) == 0
    capsys.readouterr()
    modes = json.loads((engine / "manifest.json").read_text())["chat"]["sampling"]
    expected = [modes[mode] | {"temperature": 0.1} for mode in ("thinking", "non_thinking", "thinking", "non_thinking")]
    assert [{name: getattr(sampling, name) for name in modes["thinking"]} for sampling in seen] == expected


@pytest.mark.parametrize(
    ("given", "budget"), [([], "default"), (["--budget", "none"], None), (["--budget", "default"], "default"),
                          (["--budget", "9"], 9)]
)  # fmt: skip
def test_the_budget_option_reaches_the_engine(engine, capsys, monkeypatch, given, budget):
    seen = []
    plan = engine_module.prepare_turn
    monkeypatch.setattr(
        engine_module, "prepare_turn", lambda request, model: seen.append(request) or plan(request, model)
    )
    assert main(["run", str(engine), "hi", "--max-tokens", "100", *given]) == 0
    capsys.readouterr()
    assert [request.thinking_budget for request in seen] == [budget]


def test_a_budget_that_is_none_of_them_is_wrong_usage(engine, capsys):
    assert main(["run", str(engine), "hi", "--budget", "much"]) == 2
    assert "expected a number of tokens, none or default, found 'much'" in capsys.readouterr().err
