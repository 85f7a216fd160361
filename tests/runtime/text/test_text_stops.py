"""Stop strings in a stream, against a search over the whole text.

Reference: a search over the whole text
"""

from __future__ import annotations

from itertools import pairwise, product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qwen3_runtime.errors import RequestError
from qwen3_runtime.text import StopStrings


def naive(text, stops):
    """The text before the stop that completes first (the longest if several do), and that stop."""
    for end in range(1, len(text) + 1):
        complete = [stop for stop in stops if text[:end].endswith(stop)]
        if complete:
            stop = max(complete, key=len)
            return text[: end - len(stop)], stop
    return text, None


def cut(text, places):
    edges = [0, *sorted(place % (len(text) + 1) for place in places), len(text)]
    return [text[a:b] for a, b in pairwise(edges)]


SHORT = st.text(alphabet="abc", max_size=30)
STOPS = st.lists(st.text(alphabet="abc", min_size=1, max_size=5), max_size=4)


@settings(max_examples=1500, deadline=None)
@given(text=SHORT, stops=STOPS, places=st.lists(st.integers(0, 30), max_size=8))
def test_equals_a_search_over_the_whole_text(text, stops, places):
    stream = StopStrings(stops)
    shown = "".join([stream.push(piece) for piece in cut(text, places)] + [stream.flush()])
    assert (shown, stream.matched) == naive(text, stops)


@settings(max_examples=500, deadline=None)
@given(text=SHORT, stops=STOPS)
def test_holds_back_only_what_may_become_a_stop(text, stops):
    stream = StopStrings(stops)
    shown = ""
    for end, character in enumerate(text, start=1):
        shown += stream.push(character)
        if stream.matched:
            return
        prefixes = [k for stop in stops for k in range(len(stop)) if text[:end].endswith(stop[:k])]
        assert len(shown) == end - max(prefixes, default=0)


def test_every_pattern_of_two_letters_is_found_in_every_text():
    """Patterns that repeat themselves, of which random ones are seldom."""
    for length in range(1, 6):
        for stop in map("".join, product("ab", repeat=length)):
            for text in map("".join, product("ab", repeat=8)):
                stream = StopStrings([stop])
                shown = stream.push(text)
                assert (shown + stream.flush(), stream.matched) == naive(text, [stop])


def test_no_stops_end_nothing_and_a_bare_text_is_one_stop():
    for none in (None, (), []):
        assert StopStrings(none).push("abc") == "abc"
    assert StopStrings("bc").push("abcd") == "a"


def test_text_after_the_stop_is_never_shown():
    stream = StopStrings(["\n\n"])
    assert stream.push("one\n") == "one"
    assert stream.push("\ntwo") == ""
    assert stream.push("three") == ""
    assert stream.flush() == ""
    assert stream.matched == "\n\n"


@pytest.mark.parametrize("stops", [5, b"abc", {"a"}, [""], [1], ["a" * 1025], ["a"] * 65])
def test_refuses_what_is_not_a_list_of_strings(stops):
    with pytest.raises(RequestError, match="stop: expected"):
        StopStrings(stops)
