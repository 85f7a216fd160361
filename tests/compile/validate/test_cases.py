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
