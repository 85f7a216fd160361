"""The thinking budget: how many tokens of reasoning a turn may hold, and what happens when they are used up.

Reasoning is what lies between the think tags of the current turn. When it has grown to the budget and the model would
go on, the stop sentence of the Qwen3 technical report (section 4.7) closes it and the model answers with what it has.

Decisions, where the report leaves room:

* Only tokens strictly between the tags count: neither the tags, nor the prompt, nor the stop sentence. A second
  opening tag inside the reasoning does count, because it lies between the tags.
* Once the budget is spent, the next token is sampled as any other. A closing tag is taken: a thought of just the
  budget's length is finished and not cut. Any other token is thrown away, before a penalty counts it, and the stop
  sentence comes in its place. It has used up its random number. So a turn whose one thought fits the budget is the
  same, token for token, as without a budget.
* The newline that Qwen3 writes before the closing tag is a token of the reasoning. A budget that has no room for it
  cuts, even if the tag would have followed.
* The cut falls right after the last token that the budget allows, whatever that token is. A character that is cut
  in half shows as U+FFFD at the end of the reasoning, before the stop sentence.
* An end-of-turn token inside the reasoning ends the turn, without an answer, as it does without a budget.
* A `<tool_call>` inside the reasoning is reasoning: a call that the model only considered must not be run.
* A closing tag outside the reasoning, such as a second one after the stop sentence, never reaches the text.
* A re-opened tag continues the same count. Once the budget is spent the opening tag is no longer sampled, so a
  turn is cut at most once.
* A cut for which no room is left (a late re-opened tag) ends the turn at its cap instead.
* Budget 0 is the switch `enable_thinking=False` of hybrid models; a model that always thinks (its prompt ends
  inside the tags) gets the stop sentence at once, in the same prefill as the prompt.
"""

from __future__ import annotations

from qwen3_runtime.errors import RequestError
from qwen3_runtime.text.reasoning import Part

STOP_SENTENCE = (
    "\n\nConsidering the limited time by the user, I have to give the solution based on the thinking directly now."
    "\n</think>\n\n"
)


class ThinkingBudget:
    """Counts the reasoning of one turn and says when it has to end.

    Args:
        limit: maximum number of tokens of reasoning; None for no limit but the other caps.
        inside: whether the prompt ends inside the reasoning.

    Attributes:
        reasoning_tokens: tokens between the tags so far.
        forced_tokens: tokens of the stop sentence, once it was used.
    """

    def __init__(self, limit: int | None, *, inside: bool) -> None:
        self._limit = limit
        self._inside = inside
        self.reasoning_tokens = 0
        self.forced_tokens = 0

    @property
    def hit(self) -> bool:
        """Whether the stop sentence closed the reasoning."""
        return self.forced_tokens > 0

    @property
    def spent(self) -> bool:
        """Whether the turn may not reason any further."""
        return self.hit or (self._limit is not None and self.reasoning_tokens >= self._limit)

    @property
    def cut_due(self) -> bool:
        """Whether nothing but the end of the reasoning may come next: the model's own, or the stop sentence."""
        return self._inside and self.spent

    def observe(self, part: Part, *, thinking: bool) -> None:
        """Account for one sampled token.

        Args:
            part: what the token belongs to.
            thinking: whether the token after it will be reasoning.
        """
        nested_tag = part is Part.TAG and self._inside and thinking
        if part is Part.REASONING or nested_tag:
            self.reasoning_tokens += 1
        self._inside = thinking

    def cut(self, stop_sentence_tokens: int) -> None:
        """The stop sentence was put behind the reasoning, unsampled."""
        self.forced_tokens += stop_sentence_tokens
        self._inside = False


def fit_budget(budget: int | None, *, requested: bool, room: int, stop_sentence: int, reserve: int) -> int | None:
    """Hold a budget to the room there is, so that the stop sentence and an answer always fit behind it.

    Args:
        budget: tokens of reasoning; None for no budget.
        requested: whether the request named it. A request's own budget is refused when it does not fit; an engine's
            default is lowered, and dropped where not one token of it fits: asking for few tokens is no error, they
            come, and `max_tokens` ends them.
        room: tokens that may follow the prompt: the lesser of `max_tokens` and the context left.
        stop_sentence: tokens of the stop sentence.
        reserve: tokens kept for the think tag and the answer.

    Raises:
        RequestError: with the numbers, when the budget does not fit.
    """
    if budget is None:
        return None
    fitting = room - stop_sentence - reserve
    if budget <= fitting:
        return budget
    if not requested:
        return fitting if fitting >= 1 else None
    raise RequestError(
        f"thinking_budget {budget} + {stop_sentence} tokens of stop sentence + {reserve} reserved for the answer "
        f"= {budget + stop_sentence + reserve}, but only {room} tokens may follow the prompt; "
        f"lower the budget{f' to {fitting}' if fitting >= 0 else ' (none fits)'}, raise max_tokens, shorten the prompt "
        "or switch thinking off",
        field="thinking_budget",
    )
