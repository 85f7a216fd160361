"""What each construct of a template is charged, and which are refused.

Reference: the lengths of what Python and jinja2 make, and the number of nodes that jinja2's parser finds
"""

from __future__ import annotations

import jinja2
import jinja2.sandbox
import pytest
from jinja2 import nodes

from qwen3_runtime.errors import EngineError, RequestError
from qwen3_runtime.text import ChatTemplate
from qwen3_runtime.text.counting import MAX_NESTING
from qwen3_runtime.text.meter import MAX_BITS, MAX_WIDTH, Meter

HELLO = [{"role": "user", "content": "hi"}]


def size(body: str) -> int:
    """Nodes that jinja2 finds in a part of a template."""
    environment = jinja2.Environment(extensions=["jinja2.ext.loopcontrols"])  # noqa: S701 - parses only
    return sum(1 for _ in environment.parse(body).find_all(nodes.Node))


BODIES = ["", "x", "{{ 1 }}{{ 2 }}{{ 3 }}", "{% if 1 %}{% if 2 %}{{ 3 }}{% endif %}{% endif %}", "text" * 50]
PASSES = {
    "loop": "{% for i in range(COUNT) %}BODY{% endfor %}",
    "loop with a test": "{% for i in range(COUNT) if true %}BODY{% endfor %}",
    "macro": "{% macro f() %}BODY{% endmacro %}{% for i in range(COUNT) %}{{ f() }}{% endfor %}",
    "block": "{% block b %}BODY{% endblock %}{% for i in range(COUNT) %}{{ self.b() }}{% endfor %}",
    "caller": "{% macro f() %}{% for i in range(COUNT) %}{{ caller() }}{% endfor %}{% endmacro %}"
    "{% call f() %}BODY{% endcall %}",
    "recursion": "{% for i in [COUNT] recursive %}BODY{% if i %}{{ loop([i - 1]) }}{% endif %}{% endfor %}",
}


@pytest.mark.parametrize("body", BODIES)
@pytest.mark.parametrize("kind", PASSES)
def test_a_pass_costs_as_many_steps_as_it_has_nodes(kind, body, spent):
    def cost(source):
        few, many = (spent(source.replace("COUNT", str(count))) for count in (2, 12))
        return [more - less for less, more in zip(few, many, strict=True)]

    steps, characters = cost(PASSES[kind].replace("BODY", body))
    empty_steps, empty_characters = cost(PASSES[kind].replace("BODY", ""))
    plain = 0 if "{" in body else len(body)
    assert steps - empty_steps >= 10 * (size(body) - size(""))
    assert characters - empty_characters >= 10 * plain
    assert empty_steps >= 10
    assert steps <= 10 * (3 * size(body) + 40)


def test_a_pass_that_is_left_early_costs_as_much(spent):
    left = "{% for i in range(COUNT) %}{% if true %}{% continue %}{% endif %}" + "{{ i }}" * 50 + "{% endfor %}"
    few, many = (spent(left.replace("COUNT", str(count)))[0] for count in (2, 12))
    assert many - few >= 10 * size("{{ i }}" * 50)


def test_an_item_that_a_loops_test_refuses_costs_the_nodes_of_the_test(spent):
    def steps(test, count):
        return spent(f"{{% for i in range({count}) if {test} %}}{{% endfor %}}")[0]

    for test in ("false", "(i and i and i and i and i) is none"):
        assert steps(test, 1010) - steps(test, 10) >= 1000 * (size(f"{{{{ {test} }}}}") - 2)


LONG, SHORT = "'x' * 9000", "'x' * 1000"
READERS = {
    "printed": "{{ VALUE }}",
    "compared": "{% if VALUE == 1 %}{% endif %}",
    "compared on the right": "{% if 1 == VALUE %}{% endif %}",
    "looked for": "{% if VALUE in [1] %}{% endif %}",
    "tested": "{% if [VALUE] is eq 1 %}{% endif %}",
    "filtered": "{% set x = [VALUE] | sort %}",
    "joined": "{% set x = VALUE ~ '' %}",
    "joined by three": "{% set x = '' ~ '' ~ VALUE %}",
    "sliced": "{% set x = VALUE[1:] %}",
    "added": "{% set x = VALUE + '' %}",
    "changed": "{% for i in [1] %}{% if loop.changed([VALUE]) %}{% endif %}{% endfor %}",
    "counted in a list": "{% set x = [1, VALUE].count(1) %}",
    "searched in a list": "{% set x = [1, VALUE].index(1) %}",
    "counted in a tuple": "{% set x = (1, VALUE).count(1) %}",
    "returned by a method": "{% set x = VALUE.upper() %}",
    "returned by a macro": "{% macro f() %}{{ VALUE }}{% endmacro %}{% set x = f() %}",
    "returned by a filter": "{% set x = VALUE | upper %}",
    "set by a block": "{% set x %}{{ VALUE }}{% endset %}",
}


@pytest.mark.parametrize("way", READERS)
def test_what_is_made_or_read_costs_its_characters(way, spent):
    """The text is made before; what is left is what the way costs."""

    def characters(length):
        made = f"{{% set a = {length} %}}"
        return spent(made + READERS[way].replace("VALUE", "a"))[1] - spent(made)[1]

    assert 8000 <= characters(LONG) - characters(SHORT) <= 6 * 8000


PLACES = {
    "assigned": "{% set x = MADE %}",
    "in a condition": "{% if MADE %}{% endif %}",
    "in a conditional": "{% set x = 1 if MADE else 2 %}",
    "printed": "{{ MADE and '' }}",
    "iterated over": "{% for i in [MADE] %}{% endfor %}",
    "in the body of a loop": "{% for i in [1] %}{% set x = MADE %}{% endfor %}",
    "in the body of an empty loop": "{% for i in [] %}{% else %}{% set x = MADE %}{% endfor %}",
    "in the test of a loop": "{% for i in [1] if MADE %}{% endfor %}",
    "in a macro": "{% macro f() %}{% set x = MADE %}{% endmacro %}{% set x = f() %}",
    "as a default of a macro": "{% macro f(x=MADE) %}{% endmacro %}{% set x = f() %}",
    "in a block": "{% block b %}{% set x = MADE %}{% endblock %}",
    "in a caller": "{% macro f() %}{{ caller() }}{% endmacro %}{% call f() %}{% set x = MADE %}{% endcall %}",
    "given to a macro": "{% macro f(x) %}{{ caller() }}{% endmacro %}{% call f(MADE) %}{% endcall %}",
    "in a list": "{% set x = [MADE] %}",
    "in a tuple": "{% set x = (MADE, 1) %}",
    "in a mapping": "{% set x = {1: MADE} %}",
    "compared": "{% if MADE == 1 %}{% endif %}",
    "compared on the right": "{% if 1 == MADE %}{% endif %}",
    "joined": "{% set x = 1 ~ MADE %}",
    "as a key": "{% set x = {}[MADE] %}",
    "sliced": "{% set x = MADE[:1] %}",
    "as a bound of a slice": "{% set x = [1][:MADE | length] %}",
    "given to a filter": "{% set x = 1 | default(MADE) %}",
    "given to a test": "{% if 1 is sameas(MADE) %}{% endif %}",
    "given to a method": "{% set x = [].count(MADE) %}",
    "in a scope": "{% with x = MADE %}{% endwith %}",
    "in a block that is set": "{% set x %}{% set y = MADE %}{% endset %}",
    "in a block that is filtered": "{% filter upper %}{% set x = MADE %}{% endfilter %}",
}


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("made", ["(a ~ '')", "(a[0:])", "({1: a[:]}[1])", "([a[:]][0])", "((a[:], 1)[0])"])
def test_what_is_made_is_counted_wherever_it_stands(place, made, spent):
    def characters(expression):
        return spent("{% set a = 'x' * 9000 %}" + PLACES[place].replace("MADE", expression))[1]

    assert characters(made) - characters("a") >= 9000


@pytest.mark.parametrize("place", PLACES)
def test_a_list_that_is_made_is_looked_through_wherever_it_stands(place, spent):
    def steps(expression):
        return spent("{% set a = [1] * 1000 %}" + PLACES[place].replace("MADE", expression))[0]

    assert steps("[a]") - steps("[1]") >= 1000


LOOKERS = {
    "argument of a function": "{% set x = joiner(a) %}",
    "argument of a method": "{% set x = 'x'.startswith(a) %}",
    "owner of a method": "{% set x = a.startswith('y') %}",
    "given to a filter": "{% set x = a | first %}",
    "second argument of a filter": "{% set x = 1 | default(a) %}",
    "given to a test": "{% if a is string %}{% endif %}",
    "key of an item": "{% set x = {}[a] %}",
}


@pytest.mark.parametrize("way", LOOKERS)
def test_what_is_looked_at_costs_a_step_for_each_64_characters(way, spent):
    def steps(length):
        made = f"{{% set a = {length} %}}"
        return spent(made + LOOKERS[way])[0] - spent(made)[0]

    assert 120 <= steps(LONG) - steps(SHORT) <= 8 * 125


LAZY = ["map('int')", "select", "reject", "selectattr('x')", "rejectattr('x')", "batch(1)", "slice(3)", "unique"]
EAGER = ["list", "sort", "reverse", "sum", "min", "max", "join", "groupby(0, default=1)"]


@pytest.mark.parametrize("name", [*LAZY, *EAGER])
def test_a_filter_costs_a_step_for_each_item(name, spent):
    def steps(count):
        return spent(f"{{% set x = ['1'] * {count} | {name} %}}".replace(" | ", ") | ").replace("= [", "= (["))[0]

    if name == "sum":
        assert spent("{% set x = ([1] * 1010) | sum %}")[0] - spent("{% set x = ([1] * 10) | sum %}")[0] >= 1000
    else:
        assert steps(1010) - steps(10) >= 1000


def test_a_chain_of_lazy_filters_costs_a_step_for_each_item_of_each(spent):
    def steps(count, filters):
        return spent(f"{{% set x = ([1] * {count}) {filters} %}}")[0]

    one, three = (steps(1010, filters) - steps(10, filters) for filters in ("| map('abs')", "| map('abs')" * 3))
    assert one >= 1000
    assert three >= one + 2 * 1000


def test_every_operator_and_every_call_costs_a_step(spent):
    for work in ("1 + 1", "2 * 2", "3 - 1", "4 / 2", "5 // 2", "6 % 4", "2 ** 3", "'x'.upper()", "range(3)"):
        assert spent(f"{{% if {work} %}}{{% endif %}}" * 20)[0] - spent("{% if 1 %}{% endif %}" * 20)[0] >= 20
    cycler = "{% set next = cycler(1).next %}"
    assert spent(cycler + "{% if next() %}{% endif %}" * 20)[0] - spent(cycler)[0] >= 20


@pytest.mark.parametrize(
    "name", ["length", "first", "last", "list", "reverse", "batch(1)", "map", "select", "default(1)"]
)
def test_a_filter_that_looks_not_into_a_list_costs_nothing_of_what_it_holds(name, spent):
    """Or else templates that ask for the number of messages in a loop over them were refused."""
    made = "{% set a = ['x' * 9000] * 9 %}"
    name = name.replace("map", "map(attribute='y')")
    assert spent(made + f"{{% set b = a | {name} %}}")[1] - spent(made)[1] < 3 * 9000  # of one that it gives
    assert spent(made + "{% if a is iterable %}{% endif %}")[1] == spent(made)[1]


STRETCHERS = [
    *("'x' * 5000", "5000 * 'x'", "[1] * 5000", "5000 * [1]", "(1,) * 5000", "'x' * true"),
    *("('x' * 5000) + ('y' * 5000)", "([1] * 5000) + ([1] * 5000)", "((1,) * 5000) + ((1,) * 5000)", "(1,) + (2, 3)"),
    *("'x'.center(5000)", "'x'.ljust(5000)", "'x'.rjust(5000)", "'x'.zfill(5000)", "'\\t\\t'.expandtabs(5000)"),
    *("('x' * 50).join('y' * 50)", "('x' * 50).join(['y' * 50] * 50)", "('y' * 99).replace('y', 'x' * 99)"),
    *("('y' * 99).replace('', 'x' * 99)", "'x' | center(5000)", "'x' | indent(5000)", "('a\\n' * 99) | indent(99)"),
    *("('a\\n' * 99) | indent('x' * 99, true)", "('y' * 99) | join('x' * 99)", "('y' * 99) | join(d='x' * 99)"),
    *(
        "(['y' * 99] * 9) | join('x')",
        "'x'.join((['y' * 99] * 9, 1)[0])",
        "'x'.join(('y' * 99, 'z' * 99))",
        "('y' * 99) | replace('y', 'x' * 99)",
        "1.5 | round(9) | string",
    ),
    *("[1, 2] | tojson(indent=5000)", "[1] | batch(5000, 'x') | list", "'%5000d' % 5", "'%.5000f' % 5"),
    *("('%s' * 99) % ((('x' * 99),) * 99)", "('%(a)s' * 99) % {'a': 'x' * 99}", "('%s' * 9) | format(*([9] * 9))"),
    *("'%9999d' | format(5)", "'{:5000}'.format(5)", "('{0}' * 99).format('x' * 99)", "'{a:9999}'.format(a=5)"),
    *("('%(a)s' * 99) | format(a='x' * 99)", "('{a}' * 99).format(a='x' * 99)"),
]


@pytest.mark.parametrize("expression", STRETCHERS)
def test_what_may_make_more_than_it_is_given_asks_first_for_all_that_it_makes(expression, monkeypatch):
    asked, made = [0], []
    expect, weigh = Meter.expect, Meter.weigh

    def asking(meter, characters):
        asked.append(characters)
        expect(meter, characters)

    def weighing(meter, value):
        if isinstance(value, str | list | tuple):
            made.append(len(value))
            assert len(value) <= max(9, *asked)  # literals are shorter, and nobody asks for them
        return weigh(meter, value)

    monkeypatch.setattr(Meter, "expect", asking)
    monkeypatch.setattr(Meter, "weigh", weighing)
    length = ChatTemplate({"default": f"{{{{ ({expression}) | length }}}}"}).render(HELLO)
    assert int(length) <= max(made)


REFUSED = {
    "'x' * 10 ** 9": "makes or reads more",
    "10 ** 9 * 'x'": "makes or reads more",
    "[1] * 10 ** 9": "makes or reads more",
    "(1,) * 10 ** 9": "makes or reads more",
    f"2 ** {MAX_BITS}": f"more than {MAX_BITS} bits",
    f"(2 ** {MAX_BITS // 2}) * (2 ** {MAX_BITS // 2})": f"more than {MAX_BITS} bits",
    "'%10000d' % 5": "a width that is computed or above 9999",
    "'%.10000d' % 5": "a width that is computed or above 9999",
    "'%*d' % (3, 5)": "a width that is computed or above 9999",
    "'%10000d' | format(5)": "a width that is computed or above 9999",
    "'{:10000}'.format(5)": "a width that is computed or above 9999",
    "'{:{}}'.format(5, 3)": "a width that is computed or above 9999",
    "'{:.10000f}'.format(5)": "a width that is computed or above 9999",
    f"'x'.center({MAX_WIDTH + 1})": f"pads or splits by more than {MAX_WIDTH}",
    f"'x' | center({MAX_WIDTH + 1})": f"pads or splits by more than {MAX_WIDTH}",
    f"'x' | center(width={MAX_WIDTH + 1})": f"pads or splits by more than {MAX_WIDTH}",
    f"[1] | batch({MAX_WIDTH + 1}, 0)": f"pads or splits by more than {MAX_WIDTH}",
    "[[1]] | sum(start=[])": "it sums lists",
    "[(1,)] | sum(start=())": "it sums lists",
    "'x'.encode()": "the method encode of str is not allowed in chat templates",
    "(5).to_bytes(3)": "the method to_bytes of int is not allowed in chat templates",
    "'x'.translate({})": "the method translate of str is not allowed in chat templates",
    "'x' | wordwrap": "No filter named 'wordwrap'",
    "lipsum()": "'lipsum' is undefined",
}


@pytest.mark.parametrize("expression", REFUSED)
def test_what_a_template_may_not_do_is_said(expression):
    with pytest.raises((RequestError, EngineError)) as caught:
        ChatTemplate({"default": f"{{{{ ({expression}) | string | length }}}}"}).render(HELLO)
    assert REFUSED[expression] in str(caught.value)


@pytest.mark.parametrize(
    ("source", "operators"),
    [
        *(("{{ 'x' * 1000000000 }}", ""), ("{{ 1000000000 * 'x' }}", ""), ("{{ [1] * 1000000000 }}", "")),
        *((f"{{{{ 2 ** {MAX_BITS} }}}}", ""), ("{{ '%10000d' % 5 }}", ""), ("{{ 3 ** 10000 ** 2 }}", "")),
        (f"{{% set a = 2 ** {MAX_BITS // 2} %}}{{{{ a * a }}}}", "**"),
        ("{% set a = 'x' * 16000000 %}{% set b = a + '' %}{{ b + b }}", "*+"),
    ],
)
def test_an_operator_that_is_refused_was_not_carried_out(source, operators, monkeypatch):
    done = []
    call_binop = jinja2.sandbox.SandboxedEnvironment.call_binop

    def recorded(environment, context, operator, left, right):
        done.append(operator)
        return call_binop(environment, context, operator, left, right)

    monkeypatch.setattr(jinja2.sandbox.SandboxedEnvironment, "call_binop", recorded)
    with pytest.raises(RequestError, match=r"it (makes|formats)"):
        ChatTemplate({"default": source}).render(HELLO)
    assert "".join(done) == operators


@pytest.mark.parametrize(
    ("expression", "length"),
    [
        *(("'%9999d' % 5", 9999), ("'{:9999}'.format(5)", 9999), ("'x'.center(10000)", 10000)),
        *((f"2 ** {MAX_BITS // 2}", 2467), ("'%d%%' % 5", 2), ("'%s12345' % 5", 6), ("'{{}}12345'.format(1)", 7)),
        *(
            ("2.5 ** 2", 4),
            ("'{}{}'.format(1, 'x')", 2),
            ("[1.5, 2] | sum(start=1)", 3),
            (f"(2 ** {MAX_BITS // 2 - 1}) * 2", 2467),
        ),
    ],
)
def test_what_is_just_allowed_is_done(expression, length):
    assert ChatTemplate({"default": f"{{{{ ({expression}) | string | length }}}}"}).render(HELLO) == str(length)


def test_a_source_nests_as_deep_as_is_allowed():
    def opened(depth):
        return ChatTemplate({"default": "\n" + "{% if 1 %}" * depth + "x" + "{% endif %}" * depth})

    most = MAX_NESTING - 3  # the template itself, and below the innermost condition its output and the text in it
    assert opened(most).render(HELLO).strip() == "x"
    with pytest.raises(EngineError, match=f"default, line 2: nested deeper than {MAX_NESTING} levels"):
        opened(most + 1)


def test_what_a_tuple_searches_through_is_counted_as_for_a_list(spent):
    """A search compares with all that the tuple holds."""
    text = "'x' * 9000"
    for search in ("count('y')", "index(1)"):
        _, bare = spent("{% set t = (TEXT, 1) %}".replace("TEXT", text))
        _, searched = spent(f"{{% set t = ({text}, 1) %}}{{{{ t.{search} }}}}")
        assert searched - bare >= 9000


def test_items_that_a_recursive_loop_passes_over_are_counted(spent):
    """Its body never runs for them."""

    def steps(items):
        loop = "{% for x in [-1] if x < 0 recursive %}{{ loop(range(COUNT)) }}{% endfor %}"
        return spent(loop.replace("COUNT", str(items)))[0]

    assert steps(5000) - steps(10) >= 2 * 4990  # as an item, and for the test that it fails
