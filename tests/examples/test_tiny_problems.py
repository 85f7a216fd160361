"""The tiny models' problems: worked out right, checked strictly, and held out by a hash."""

import re
from itertools import islice

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from other_questions import other_question
from problems import COUNTS, Problem, is_correct, is_held_out, problems

numbers = st.lists(st.integers(10, 99), min_size=2, max_size=10, unique=True).map(tuple)


def test_a_problem_is_worked_as_by_hand():
    problem = Problem((37, 45, 16))
    assert problem.question == "What is 37+45+16?"
    assert problem.thinking == "37+45=82\n82+16=98"
    assert problem.answer == "The sum is 98."


@given(numbers)
def test_each_line_of_thinking_is_true_and_carries_on_from_the_last(drawn):
    total = drawn[0]
    lines = Problem(drawn).thinking.split("\n")
    assert len(lines) == len(drawn) - 1
    for line, number in zip(lines, drawn[1:], strict=True):
        left, right, result = map(int, re.fullmatch(r"(\d+)\+(\d+)=(\d+)", line).groups())
        assert (left, right, result) == (total, number, total + number)
        total = result


@given(numbers)
def test_the_own_answer_is_correct_with_and_without_thinking(drawn):
    problem = Problem(drawn)
    assert is_correct(problem, problem.answer)
    assert is_correct(problem, f"<think>\n{problem.thinking}\n</think>\n\n{problem.answer}")


@pytest.mark.parametrize(
    "reply",
    [
        "The sum is 97.",
        "The sum is 980.",
        "The sum is 98 or 99.",
        "",
        "<think>\n82+16=98\n</think>\n\n",
        "98</think>97",
    ],
)
def test_a_wrong_hedged_or_missing_answer_is_not_correct(reply):
    assert not is_correct(Problem((37, 45, 16)), reply)


@given(numbers, st.randoms())
def test_the_order_of_the_numbers_does_not_decide_the_side_of_the_split(drawn, random):
    shuffled = list(drawn)
    random.shuffle(shuffled)
    assert is_held_out(Problem(drawn)) == is_held_out(Problem(tuple(shuffled)))


def test_another_question_is_never_a_sum_of_two_digit_numbers():
    rng = np.random.default_rng(5)
    for _ in range(3_000):
        question = other_question(rng)
        assert question.strip()
        assert not re.fullmatch(r"\D*[1-9]\d(\+[1-9]\d){1,9}\D*", question)


def test_training_and_evaluation_share_no_problem():
    trained = {frozenset(p.numbers) for p in islice(problems(np.random.default_rng(0), held_out=False), 20_000)}
    evaluated = {frozenset(p.numbers) for p in islice(problems(np.random.default_rng(1), held_out=True), 1_000)}
    assert not trained & evaluated


def test_drawn_problems_have_distinct_two_digit_numbers_of_every_count():
    drawn = list(islice(problems(np.random.default_rng(0), held_out=True), 1_000))
    assert {len(problem.numbers) for problem in drawn} == set(COUNTS)
    for problem in drawn:
        assert len(set(problem.numbers)) == len(problem.numbers)
        assert all(10 <= number <= 99 for number in problem.numbers)


def test_short_problems_come_in_proportion_to_their_sums_left_to_do():
    drawn = list(islice(problems(np.random.default_rng(0), held_out=False, short=True), 4_000))
    share = {count: sum(len(problem.numbers) == count for problem in drawn) / len(drawn) for count in COUNTS}
    weights = {count: 1 / (count - 1) for count in COUNTS}
    for count in COUNTS:
        assert share[count] == pytest.approx(weights[count] / sum(weights.values()), abs=0.03)
