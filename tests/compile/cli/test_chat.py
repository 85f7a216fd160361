"""The terminal conversation: slash commands, history, and what is sent to the engine."""

import io
import json

import pytest
from rich.console import Console

from qwen3_compile.cli import main
from qwen3_compile.cli.chat import Conversation, apply
from qwen3_runtime import engine as engine_module
from qwen3_runtime.backends.ort_cpu import OrtCpuBackend


@pytest.fixture
def screen():
    return Console(file=io.StringIO(), width=200)


def test_commands_set_what_the_next_answer_uses(screen):
    talk = Conversation(generation={})
    for line in ("/budget 500", "/no_think", "/system be brief"):
        assert apply(talk, line, screen)
    assert screen.file.getvalue().splitlines() == [
        "at most 500 tokens of thinking",
        "thinking off",
        "system message: be brief",
    ]
    assert talk.generation == {"thinking_budget": 500, "thinking": False}
    assert talk.rendered() == [{"role": "system", "content": "be brief"}]
    for line in ("/budget off", "/think", "/system"):
        assert apply(talk, line, screen)
    assert talk.generation == {"thinking": True, "thinking_budget": None}
    assert talk.rendered() == []


def test_clear_forgets_and_history_shows(screen):
    talk = Conversation(generation={}, messages=[{"role": "user", "content": "[bold]hi"}])
    apply(talk, "/history", screen)
    assert "user: [bold]hi" in screen.file.getvalue()
    apply(talk, "/clear", screen)
    assert talk.messages == []


@pytest.mark.parametrize("line", ["/budget many", "/budget -1", "/nonsense"])
def test_a_wrong_command_says_so_and_changes_nothing(screen, line):
    talk = Conversation(generation={"thinking_budget": 3})
    assert apply(talk, line, screen)
    assert talk == Conversation(generation={"thinking_budget": 3})
    assert screen.file.getvalue().strip()


@pytest.mark.parametrize("line", ["/exit", "/quit"])
def test_leaving(screen, line):
    assert not apply(Conversation(generation={}), line, screen)


def test_a_conversation_from_standard_input(engine, capsys, monkeypatch):
    lines = ["What is 37+45?", "/no_think", "What is 12+13?", "", "/history"]
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO("\r\n".join(lines).encode())))
    assert main(["chat", str(engine), "--temperature", "0"]) == 0
    out = capsys.readouterr().out
    assert "The sum is 82." in out
    assert "user: What is 12+13?" in out
    assert "assistant: The sum is 82." in out


class Terminal(io.TextIOWrapper):
    def isatty(self):
        return True


def test_in_a_terminal_line_editing_knows_the_prompt(engine, capsys, monkeypatch):
    """A prompt printed before `input` would vanish when a line is edited or called back from the history."""
    prompts = []

    def answer(prompt=""):
        prompts.append(prompt)
        raise EOFError

    monkeypatch.setattr("sys.stdin", Terminal(io.BytesIO()))
    monkeypatch.setattr("builtins.input", answer)
    assert main(["chat", str(engine)]) == 0
    assert prompts == ["> "]
    assert "> " not in capsys.readouterr().out


def test_an_interrupted_answer_takes_the_question_back_and_the_talk_goes_on(engine, capsys, monkeypatch):
    steps, step = [], OrtCpuBackend.run

    def interrupted(self, batch):
        steps.append(batch)
        if len(steps) == 4:
            raise KeyboardInterrupt
        return step(self, batch)

    monkeypatch.setattr(OrtCpuBackend, "run", interrupted)
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"What is 12+13?\nWhat is 37+45?\n/history\n")))
    assert main(["chat", str(engine), "--temperature", "0"]) == 0
    out = capsys.readouterr().out
    assert "interrupted: the question was taken back" in out
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
