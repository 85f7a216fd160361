"""What a rendering may cost, and what the meter charges for values.

Reference: the lengths of what Python makes
"""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jinja2.exceptions import SecurityError
from jinja2.utils import Namespace

from qwen3_runtime.text.meter import (
    CHARACTERS,
    CHARACTERS_A_CHARACTER,
    MAX_BITS,
    MAX_DEPTH,
    MAX_WIDTH,
    STEPS,
    STEPS_A_VALUE,
    Meter,
    breadth,
    check_widths,
)


def charged(meter: Meter, work: object, *given: object) -> tuple[int, int]:
    """Steps and characters that a call of a meter's method costs."""
    steps, characters = meter._steps, meter._characters
    work(*given)  # type: ignore[operator]
    return steps - meter._steps, characters - meter._characters


def nested(depth: int) -> list:
    value: list = []
    for _ in range(depth - 1):
        value = [value]
    return value


def test_all_of_an_allowance_can_be_spent_and_no_more():
    steps, characters = Meter(), Meter()
    steps.spend(STEPS)
    with pytest.raises(SecurityError, match=f"it takes more than {STEPS} steps"):
        steps.spend(1)
    characters.spend(0, CHARACTERS)
    with pytest.raises(SecurityError, match=f"it makes or reads more than {CHARACTERS} characters"):
        characters.spend(0, 1)


def test_what_fits_exactly_is_not_refused_before_it_is_made():
    meter = Meter()
    assert charged(meter, meter.expect, CHARACTERS) == (0, 0)
    with pytest.raises(SecurityError, match=f"it makes or reads more than {CHARACTERS} characters"):
        meter.expect(CHARACTERS + 1)
    meter.spend(0, 1000)
    meter.expect(CHARACTERS - 1000)
    with pytest.raises(SecurityError):
        meter.expect(CHARACTERS - 999)


def test_an_allowance_grows_with_what_is_given():
    bare = Meter([["x"]])
    longer, more = Meter([["x" * 101]]), Meter([["x"], [], {}])
    assert longer._steps == bare._steps == STEPS + 2 * STEPS_A_VALUE
    assert longer._characters - bare._characters == 100 * CHARACTERS_A_CHARACTER
    assert more._steps - bare._steps == 2 * STEPS_A_VALUE
    assert Meter()._characters == CHARACTERS


def test_what_is_given_is_looked_through_once():
    """Reading it again takes a step, however much it holds; what a template made of the same is looked through."""
    messages = [{"role": "user", "content": "x" * 100, "calls": [{"a": [1] * 50}]}]
    meter = Meter(messages)
    for value in (messages, messages[0], messages[0]["calls"][0]["a"]):
        assert charged(meter, meter.read, value)[0] == 1
    assert charged(meter, meter.read, [1] * 50)[0] > 50
    assert charged(meter, meter.read, messages)[1] > 100 + 50


@pytest.mark.parametrize("value", ["x" * 500, [1] * 500, dict.fromkeys(range(500), 1), b"x" * 500, range(500)])
def test_looking_at_a_value_takes_a_step_for_each_64_characters_or_values(value):
    meter = Meter()
    assert charged(meter, meter.look_at, value) == (1 + 500 // 64, 0)
    assert charged(meter, meter.look_at, 5) == (1, 0)


@given(st.integers() | st.integers(-(1 << 2000), 1 << 2000))
def test_an_integer_weighs_about_as_much_as_it_has_digits(value):
    digits = len(str(abs(value)))
    assert digits <= Meter().weigh(value) <= 1.2 * digits + 1


def test_what_a_value_weighs_grows_with_all_that_it_holds():
    meter = Meter()
    assert meter.weigh("x" * 100) == 100
    assert meter.weigh(["x" * 100, "y" * 10]) - meter.weigh(["x", "y" * 10]) == 99
    assert meter.weigh({"x" * 100: 1}) - meter.weigh({"x": 1}) == 99
    assert meter.weigh({1: "x" * 100}) - meter.weigh({1: "x"}) == 99
    assert meter.weigh({1: ["x"] * 2}.values()) - meter.weigh({1: ["x"]}.values()) == 1
    assert meter.weigh(Namespace(a="x" * 100)) - meter.weigh(Namespace(a="x")) == 99
    inner = ["x" * 100]
    assert meter.weigh([inner, inner]) - meter.weigh([inner]) >= 100  # as often as it is reached
    for bare in (1.5, None, [], ()):
        assert 0 < meter.weigh(bare) < 30


def test_a_text_costs_its_characters_where_it_is_made_and_a_list_only_the_look_through_it():
    meter = Meter()
    assert charged(meter, meter.weigh, "x" * 100) == (1, 100)
    steps, characters = charged(meter, meter.weigh, [["x" * 100] * 9])
    assert characters == 0
    assert steps >= 1 + 9
    assert charged(meter, meter.read, ["x" * 100] * 9)[1] >= 900


def test_what_is_longer_than_what_is_left_is_refused_where_it_is_made():
    meter = Meter()
    text = "x" * (CHARACTERS // 4)
    meter.weigh([text] * 3)
    with pytest.raises(SecurityError, match="it makes or reads more than"):
        meter.weigh([text] * 4)


def test_lists_and_mappings_nest_to_the_depth_that_is_allowed():
    for method in ("weigh", "read"):
        getattr(Meter(), method)(nested(MAX_DEPTH))
        with pytest.raises(SecurityError, match=f"it nests lists deeper than {MAX_DEPTH} levels"):
            getattr(Meter(), method)(nested(MAX_DEPTH + 1))
    Meter(nested(MAX_DEPTH))
    value: dict = {}
    for _ in range(MAX_DEPTH - 1):
        value = {"a": value}
    Meter().weigh(value)
    value = {"a": value}
    with pytest.raises(SecurityError, match="it nests lists deeper"):
        Meter().weigh(value)
    key: tuple = ()
    for _ in range(MAX_DEPTH):
        key = (key,)
    with pytest.raises(SecurityError, match="it nests lists deeper"):
        Meter().weigh({key: 1})


def test_integers_have_the_bits_that_are_allowed():
    Meter().weigh((1 << MAX_BITS) - 1)
    for value in (1 << MAX_BITS, -(1 << MAX_BITS), [1 << MAX_BITS]):
        with pytest.raises(SecurityError, match=f"an integer of more than {MAX_BITS} bits"):
            Meter().weigh(value)


def test_widths_are_bounded_either_way():
    check_widths(MAX_WIDTH, -MAX_WIDTH, "x" * 2 * MAX_WIDTH, None, 1e9)
    for value in (MAX_WIDTH + 1, -MAX_WIDTH - 1):
        with pytest.raises(SecurityError, match=f"it pads or splits by more than {MAX_WIDTH}"):
            check_widths("", value)


_TEXTS = st.lists(st.text(max_size=5), max_size=5)


@given(_TEXTS, st.text(max_size=5), st.text(max_size=5), st.integers(-20, 20))
def test_breadth_bounds_what_another_text_is_stretched_to(texts, text, other, width):
    def bound(own, *others):
        return (1 + breadth(own)) * (1 + sum(map(breadth, others)))

    assert len(text.join(texts)) <= bound(text, texts) == bound(text, tuple(texts))
    assert len(text.join(other)) <= bound(text, other)
    assert len(text.join(dict.fromkeys(texts))) <= bound(text, texts)
    assert len(text.replace(other, "".join(texts))) <= bound(text, other, "".join(texts))
    for padded in (text.center(width), text.ljust(width), text.rjust(width), text.zfill(width)):
        assert len(padded) <= bound(text, width)
    assert len(("\t" + text).expandtabs(width)) <= bound("\t" + text, width)
    assert breadth(dict(enumerate(texts))) == sum(map(len, texts))
    assert breadth(1.5) == breadth(None) == 0
    assert breadth(-width) == breadth(width) == abs(width)
    assert breadth(10 * MAX_WIDTH) == MAX_WIDTH
