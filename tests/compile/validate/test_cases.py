"""What an engine is asked: known tokens that fit its context, whatever its limits."""

import pytest

from qwen3_compile.validate.cases import MAX_TEXT_TOKENS, MAX_TOKENS, collect_cases


class Letters:
    def encode(self, text):
        return [ord(letter) % 100 for letter in text]


@pytest.mark.parametrize("tokenizer", [Letters(), None], ids=["text", "no tokenizer"])
@pytest.mark.parametrize("max_context", [2, 3, 17, 100, 40_960])
def test_there_are_cases_at_every_context_and_they_fit(tokenizer, max_context):
    cases = collect_cases(
        tokenizer, None, prompts=["Hello there"], text="x", tokenizer_vocab=100, max_context=max_context
    )
    assert cases
    assert len({case.name for case in cases}) == len(cases)
    for case in cases:
        assert 2 <= case.ids.size <= min(max_context, MAX_TEXT_TOKENS if case.kind == "text" else MAX_TOKENS)
        assert 0 <= case.ids.min() <= case.ids.max() < 100


def test_prompts_are_those_of_the_spec_as_a_user_would_send_them():
    class Template:
        def render(self, messages):
            return f"<{messages[0]['role']}>{messages[0]['content']}"

    case, *_ = collect_cases(Letters(), Template(), prompts=["ab"], text=None, tokenizer_vocab=100, max_context=100)
    assert case.ids.tolist() == Letters().encode("<user>ab")


def test_cases_leave_room_for_a_continuation_and_the_text_is_last():
    asked = {"prompts": ["a" * 300, "b"], "text": "c" * 400, "tokenizer_vocab": 100}
    sizes = [
        (case.name, case.kind, case.ids.size) for case in collect_cases(Letters(), None, max_context=40_960, **asked)
    ]
    assert sizes == [
        ("prompt 1", "prompt", 192),
        ("random 33", "random", 33),
        ("random 64", "random", 64),
        ("text", "text", 320),
    ]  # a prompt of one token has no next one to compare
    sizes = [(case.name, case.ids.size) for case in collect_cases(Letters(), None, max_context=40, **asked)]
    assert sizes == [("prompt 1", 30), ("random 33", 30), ("random 64", 30), ("text", 40)]


def test_without_a_tokenizer_random_tokens_are_the_text():
    cases = collect_cases(None, None, prompts=None, text=None, tokenizer_vocab=50, max_context=1000)
    assert [(case.name, case.kind, case.ids.size) for case in cases] == [
        ("random 33", "random", 33),
        ("random 64", "random", 64),
        ("random text", "text", 128),
    ]
    assert max(case.ids.max() for case in cases) == 49
    assert min(case.ids.min() for case in cases) == 0


def test_the_same_engine_is_asked_the_same_each_time():
    first, second = (
        collect_cases(Letters(), None, prompts=None, text=None, tokenizer_vocab=50, max_context=1000) for _ in range(2)
    )
    for one, other in zip(first, second, strict=True):
        assert (one.name, one.kind, one.ids.tolist()) == (other.name, other.kind, other.ids.tolist())
    assert [case.name for case in first] == ["prompt 1", "prompt 2", "prompt 3", "random 33", "random 64", "text"]
