"""Arguments come out as Python's own values, or are refused in one line that names them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qwen3_runtime import RequestError, UnknownOptionError
from qwen3_runtime.arguments import (
    integer,
    items,
    kind,
    names_unknown_options,
    number,
    refuse_unknown,
    shown,
    switch,
    text,
    texts,
)

if TYPE_CHECKING:
    from collections.abc import Callable


def refused(check: Callable[..., object], *arguments: object, **options: object) -> str:
    """What an argument is refused with; always one line of printable text."""
    with pytest.raises(RequestError) as caught:
        check(*arguments, **options)
    assert str(caught.value).isprintable()
    assert caught.value.field == "a"
    return str(caught.value)


@given(value=st.integers(-5, 5), low=st.integers(-5, 5), high=st.integers(-5, 5) | st.none())
def test_an_integer_is_taken_from_the_lowest_to_the_highest(value: int, low: int, high: int | None) -> None:
    for given_value in (value, np.int8(value)):
        if value >= low and (high is None or value <= high):
            found = integer("a", given_value, low, high)
            assert (type(found), found) == (int, value)
        else:
            between = f"from {low}" if high is None else f"from {low} to {high}"
            assert refused(integer, "a", given_value, low, high).startswith(f"a: expected an integer {between}, found ")


@pytest.mark.parametrize("value", [True, np.bool_(True), 1.0, "1", None, [1], np.array([1, 2])])
def test_what_is_no_integer_is_refused(value: object) -> None:
    assert refused(integer, "a", value, 0, expected="a count") == f"a: expected a count, found {shown(value)}"


@given(
    value=st.integers(-4, 4) | st.floats(-4, 4, width=16),
    low=st.integers(-4, 4),
    high=st.integers(-4, 4),
    above_low=st.booleans(),
)
def test_a_number_is_taken_within_its_interval(value: float, low: int, high: int, above_low: bool) -> None:
    for given_value in (value, np.float16(value), np.int8(value) if isinstance(value, int) else value):
        if (value > low or (value == low and not above_low)) and value <= high:
            found = number("a", given_value, low, high, above_low=above_low)
            assert (type(found), found) == (float, value)
        else:
            interval = f"above {low} and at most {high}" if above_low else f"from {low} to {high}"
            message = refused(number, "a", given_value, low, high, above_low=above_low)
            assert message.startswith(f"a: expected a number {interval}, found ")


@pytest.mark.parametrize("value", [math.nan, True, False, np.bool_(True), "1", None, 1j, np.array([1.0])])
def test_what_is_no_number_is_refused(value: object) -> None:
    assert (
        refused(number, "a", value, -math.inf, math.inf)
        == f"a: expected a number from -inf to inf, found {shown(value)}"
    )
    assert refused(number, "a", value, 0, 1, expected="seconds").startswith("a: expected seconds, found ")


def test_an_integer_beyond_floats_is_as_infinite() -> None:
    assert number("a", 10**400, 0, math.inf) == math.inf
    assert number("a", -(10**400), -math.inf, 0) == -math.inf
    refused(number, "a", 10**400, 0, 1e308)
    refused(number, "a", -(10**400), -1e308, 0)


def test_a_switch_is_a_truth_value() -> None:
    for value in (True, False, np.bool_(True), np.bool_(False)):
        assert switch("a", value) is bool(value)
    for other in (0, 1, "yes", None):
        assert refused(switch, "a", other) == f"a: expected True or False, found {other!r}"
    assert refused(switch, "a", 0, expected="a switch") == "a: expected a switch, found 0"


class Name(str):
    """A text with a method of its own."""

    __slots__ = ()


def test_text_comes_out_as_pythons_own() -> None:
    assert (type(text("a", Name("b"))), text("a", Name("b"))) == (str, "b")
    assert [type(each) for each in texts("a", [Name("b")])] == [str]
    assert refused(text, "a", b"b") == "a: expected text, found bytes"
    assert refused(text, "a", None) == "a: expected text, found nothing"


def test_a_bare_text_is_one_text() -> None:
    assert texts("a", "bc") == ["bc"]
    assert texts("a", ("b", "c")) == texts("a", iter(["b", "c"])) == texts("a", np.array(["b", "c"])) == ["b", "c"]
    assert refused(texts, "a", ["b", 5]) == "a[1]: expected text, found int"
    assert refused(texts, "a", 5) == "a: expected text or a list of texts, found int"


@pytest.mark.parametrize(
    "value", ["bc", b"bc", bytearray(b"b"), memoryview(b"b"), {"b": 1}, {"b"}, 5, None, np.array(5)]
)
def test_what_has_no_order_is_no_list(value: object) -> None:
    assert refused(items, "a", value, "ids") == f"a: expected ids, found {kind(value)}"


def test_what_has_an_order_is_a_list() -> None:
    for value in ([1, 2], (1, 2), range(1, 3), np.array([1, 2]), iter([1, 2])):
        assert items("a", value, "ids") == [1, 2]


def test_an_unknown_option_is_answered_with_the_nearest_or_all() -> None:
    refuse_unknown(["stop", "seed"], ["seed", "stop"])
    for unknown, advice in (("stopp", "'stopp'; did you mean 'stop'?"), (5, "5; expected one of seed, stop")):
        with pytest.raises(UnknownOptionError) as caught:
            refuse_unknown(["seed", unknown], ["seed", "stop"])
        assert str(caught.value) == f"unknown option {advice}"
        assert caught.value.field == str(unknown)


def test_a_dataclass_refuses_a_keyword_with_the_nearest_and_takes_the_others() -> None:
    @names_unknown_options
    @dataclass
    class Options:
        stop: str = ""
        seed: int = 0

    made: Any = Options
    assert (made("x", seed=3).stop, made("x", seed=3).seed) == ("x", 3)
    with pytest.raises(UnknownOptionError, match="unknown option 'sed'; did you mean 'seed'"):
        made(sed=3)


class Unprintable:
    def __repr__(self) -> str:
        raise RuntimeError("no")


@pytest.mark.parametrize(
    ("value", "found"),
    [
        *((5, "5"), ("b", "'b'"), (None, "None"), (Unprintable(), "Unprintable")),
        pytest.param(10**5000, "int", id="an integer that Python does not write"),
        *(("x" * 58, f"'{'x' * 58}'"), ("x" * 59, f"'{'x' * 56}..."), ("x" * 100, f"'{'x' * 56}...")),
        ([1] * 20, f"[{', '.join('1' * 20)}]"),
        ([1] * 21, f"[{'1, ' * 18}1,..."),
        (np.array([1, 2]), "array([1, 2])"),
    ],
)
def test_a_found_value_is_shown_in_sixty_characters(value: object, found: str) -> None:
    assert shown(value) == found
    assert len(shown(value)) <= 60


@given(st.text() | st.lists(st.text()) | st.binary(), st.integers(4, 80))
def test_whatever_is_found_is_shown_on_one_line(value: object, most: int) -> None:
    assert shown(value, most).isprintable()
    assert len(shown(value, most)) <= most
    assert len(repr(value)) > most or shown(value, most) == repr(value)


class Lines:
    def __repr__(self) -> str:
        return "two\nlines"


def test_what_cannot_be_printed_is_replaced() -> None:
    assert shown(Lines()) == "two\N{REPLACEMENT CHARACTER}lines"
