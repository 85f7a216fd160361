"""The terminal conversation: slash commands, history, and what is sent to the engine."""

import io

import pytest
from rich.console import Console

from qwen3_compile.cli import main
from qwen3_compile.cli.chat import Conversation, apply


@pytest.fixture
def screen():
    return Console(file=io.StringIO(), width=200)


def test_commands_set_what_the_next_answer_uses(screen):
    talk = Conversation(arguments={})
    for line in ("/budget 500", "/no_think", "/system be brief"):
        assert apply(talk, line, screen)
    assert talk.arguments == {"thinking_budget": 500, "thinking": False}
    assert talk.rendered() == [{"role": "system", "content": "be brief"}]
    for line in ("/budget off", "/think", "/system"):
        assert apply(talk, line, screen)
    assert talk.arguments == {"thinking": True}
    assert talk.rendered() == []


def test_clear_forgets_and_history_shows(screen):
    talk = Conversation(arguments={}, messages=[{"role": "user", "content": "[bold]hi"}])
    apply(talk, "/history", screen)
    assert "user: [bold]hi" in screen.file.getvalue()
    apply(talk, "/clear", screen)
    assert talk.messages == []


@pytest.mark.parametrize("line", ["/budget many", "/budget -1", "/nonsense"])
def test_a_wrong_command_says_so_and_changes_nothing(screen, line):
    talk = Conversation(arguments={"thinking_budget": 3})
    assert apply(talk, line, screen)
    assert talk == Conversation(arguments={"thinking_budget": 3})
    assert screen.file.getvalue().strip()


@pytest.mark.parametrize("line", ["/exit", "/quit"])
def test_leaving(screen, line):
    assert not apply(Conversation(arguments={}), line, screen)


def test_a_conversation_from_standard_input(engine, capsys, monkeypatch):
    lines = iter(["What is 37+45?", "/no_think", "What is 12+13?", "", "/history"])

    def answer(*_):
        try:
            return next(lines)
        except StopIteration:
            raise EOFError from None

    monkeypatch.setattr("builtins.input", answer)
    assert main(["chat", str(engine), "--temperature", "0"]) == 0
    out = capsys.readouterr().out
    assert "The sum is 82." in out
    assert "user: What is 12+13?" in out
    assert "assistant: The sum is 82." in out
