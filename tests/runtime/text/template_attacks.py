"""Chat templates that want to exhaust stack, memory or time.

`python template_attacks.py NAME...` renders them one after the other and prints a line of JSON about each.
"""
# ruff: noqa: E501 - one attack a line

from __future__ import annotations

import json
import resource
import sys
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

LOOP = "{% for i in range(90000) %}"
LONG = "{% set a = ['x' * 1000000] * 20 %}{% set b = ['x' * 1000000] * 20 %}"
CODE = {
    "chained lazy filters": "{% set ns = namespace(x=[1]) %}" + LOOP + "{% set ns.x = ns.x | batch(1) %}{% endfor %}{{ ns.x | list }}",
    "chained map": "{% set ns = namespace(x=[1]) %}" + LOOP + "{% set ns.x = ns.x | map('int') %}{% endfor %}{{ ns.x | list }}{{ 1 / 0 }}",
    "nested lists": "{% set ns = namespace(x=[1]) %}" + LOOP + "{% set ns.x = [ns.x] %}{% endfor %}{{ ns.x }}",
    "nested tuples as a key": "{% set ns = namespace(x=1) %}" + LOOP + "{% set ns.x = (ns.x,) %}{% endfor %}{{ {ns.x: 1} }}",
    "nested mappings": "{% set ns = namespace(x=1) %}" + LOOP + "{% set ns.x = dict(a=ns.x) %}{% endfor %}{{ ns.x | tojson }}",
    "nested namespaces": "{% set ns = namespace(x=1) %}" + LOOP + "{% set ns.x = namespace(x=ns.x) %}{% endfor %}{{ ns.x }}",
    "doubling lists": "{% set a = [1] %}" + "{% set a = [a, a] %}" * 60 + "{{ a | tojson }}",
    "doubling lists compared": "{% set a = [1] %}{% set b = [1] %}" + "{% set a = [a, a] %}{% set b = [b, b] %}" * 60 + "{{ a == b }}",
    "doubling lists as text": "{% set a = [1] %}" + "{% set a = [a, a] %}" * 60 + "{{ a | string | length }}",
    "doubling text": "{% set a = 'x' %}" + "{% set a = a ~ a %}" * 60 + "{{ a }}",
    "doubling text by sum": "{% set a = 'x' %}" + "{% set a = a + a %}" * 60 + "{{ a }}",
    "doubling text by join": "{% set a = 'x' %}" + "{% set a = [a, a] | join %}" * 60 + "{{ a }}",
    "doubling text by method": "{% set a = 'xx' %}" + "{% set a = a.replace('x', a) %}" * 60 + "{{ a }}",
    "doubling text by block": "{% set a = 'x' %}" + "{% set a %}{{ a }}{{ a }}{% endset %}" * 60 + "{{ a }}",
    "doubling macros": "".join(
        f"{{% macro m{i + 1}() %}}{{{{ m{i}() }}}}{{{{ m{i}() }}}}{{% endmacro %}}" for i in range(60)
    ).join(("{% macro m0() %}x{% endmacro %}", "{{ m60() }}")),
    "nested loops": LOOP * 5 + "{% endfor %}" * 5,
    "nested loops that print": LOOP * 5 + "x" * 1000 + "{% endfor %}" * 5,
    "nested loops without a pass": LOOP * 3 + "{% for j in range(90000) if false %}{% endfor %}" + "{% endfor %}" * 3,
    "one loop with a long body": LOOP + "{{ i }}" * 7000 + "{% endfor %}",
    "one loop with a long text": LOOP + "x" * 60_000 + "{% endfor %}",
    "loop over a long text": "{% set a = 'x' * 50000000 %}{% for x in a %}{% endfor %}",
    "recursive loop": "{% for x in [[1, 2]] recursive %}{{ loop(range(90000)) }}{% endfor %}",
    "recursive loop that never ends": "{% for x in [1] recursive %}{{ loop([1]) }}{% endfor %}",
    "recursive macro": "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
    "branching macro": "{% macro f(n) %}{% if n %}{{ f(n - 1) }}{{ f(n - 1) }}{% endif %}{% endmacro %}{{ f(60) }}",
    "branching block": "{% set ns = namespace(n=0) %}{% block b %}{% set ns.n = ns.n + 1 %}{% if ns.n % 50 %}{{ self.b() }}{{ self.b() }}{% endif %}{% endblock %}",
    "caller that calls": "{% macro f(n) %}{% if n %}{% call f(n - 1) %}{{ caller() }}{% endcall %}{{ caller() }}{{ caller() }}{% endif %}{% endmacro %}{% call f(80) %}x{% endcall %}",
    "text times number": "{{ 'x' * 10 ** 11 }}",
    "number times text": "{{ 10 ** 11 * 'x' }}",
    "list times number": "{{ [1] * 10 ** 9 }}",
    "negative but long": "{{ ('x' * 1000000) * 1000000 }}",
    "power": "{{ 9 ** (9 ** 9) }}",
    "power of a power": "{% set ns = namespace(x=3) %}{% for i in range(60) %}{% set ns.x = ns.x * ns.x %}{% endfor %}{{ ns.x }}",
    "center": "{{ 'x'.center(10 ** 10) }}",
    "ljust": "{{ 'x'.ljust(10 ** 10) }}",
    "zfill": "{{ 'x'.zfill(10 ** 10) }}",
    "expandtabs": "{{ '\\t'.expandtabs(2000000000) }}",
    "center filter": "{{ 'x' | center(10 ** 10) }}",
    "center filter of constants": "{{ 'x' | center(10000000000) }}",
    "indent filter": "{{ 'a\\nb' | indent(10000000000) }}",
    "indent with text": "{{ ('a\\n' * 1000000) | indent('x' * 1000000) }}",
    "batch filled": "{{ [1] | batch(10000000000, 'x') | list }}",
    "slice": "{{ [1] | slice(10000000000) | list }}",
    "round": "{{ 1.5 | round(1000000000, 'floor') }}",
    "tojson indent": "{{ messages | tojson(indent=1000000000) }}",
    "join method": "{{ ('x' * 1000000).join('y' * 1000000) }}",
    "join filter": "{{ ('y' * 1000000) | join('x' * 1000000) }}",
    "replace filter": "{{ ('y' * 1000000) | replace('y', 'x' * 1000000) }}",
    "replace of nothing": "{{ ('y' * 1000000).replace('', 'x' * 1000000) }}",
    "translate": "{{ ('y' * 1000000).translate({121: 'x' * 1000000}) }}",
    "percent": "{{ '%1000000000d' % 5 }}",
    "percent star": "{{ '%*d' % (1000000000, 5) }}",
    "percent precision": "{{ '%.1000000000f' % 5 }}",
    "percent of a mapping": "{{ ('%(a)s' * 10000) % {'a': 'x' * 1000000} }}",
    "format filter": "{{ '%1000000000d' | format(5) }}",
    "format method": "{{ '{:1000000000}'.format(5) }}",
    "format method, computed": "{{ '{:{}}'.format(5, 1000000000) }}",
    "format method, repeated": "{{ ('{0}' * 10000).format('x' * 1000000) }}",
    "format_map": "{{ '{a:1000000000}'.format_map({'a': 5}) }}",
    "format mapped": "{{ ['{:1000000000}'.format] | map('string') | list }}{{ '{:1000000000}'.format(1) }}",
    "bytes": "{{ (5).to_bytes(10000000000, 'big') }}",
    "lipsum": "{{ lipsum(n=1000000) }}",
    "range": "{{ range(10 ** 9) | list }}",
    "printed list of long texts": "{{ ['x' * 1000000] * 1000 }}",
    "joined lists of long texts": "{{ ([['x' * 1000000]] * 1000) | join }}",
    "list of long texts beside a text": "{{ ['x' * 1000000] * 1000 ~ '' }}",
    "upper case of a list of long texts": "{{ (['x' * 1000000] * 1000) | upper }}",
    "list of long texts counted by words": "{% set a = ['x' * 1000000] * 50 %}" + LOOP + "{% if a | wordcount %}{% endif %}{% endfor %}",
    "printed messages": LOOP + "{{ messages }}" * 10 + "{% endfor %}",
    "printed view of a mapping": "{% set a = {1: ['x' * 1000000] * 30} %}" + LOOP + "{{ a.values() }}{% endfor %}",
    "printed namespace": "{% set ns = namespace(a=['x' * 1000000] * 30) %}" + LOOP + "{{ ns }}{% endfor %}",
    "comparisons of lists of long texts": LONG + LOOP + "{% if a == b %}{% endif %}{% endfor %}",
    "tests of lists of long texts": LONG + LOOP + "{% if a is eq b %}{% endif %}{% endfor %}",
    "counts in lists of long texts": LONG + LOOP + "{% if a.count(b[0]) %}{% endif %}{% endfor %}",
    "changes of lists of long texts": LONG + LOOP + "{% if loop.changed([a, b][i % 2]) %}{% endif %}{% endfor %}",
    "sorted lists of long texts": LONG + LOOP + "{% set c = a | sort %}{% endfor %}",
    "long keys": "{% set k = 'x' * 9000000 %}{% set l = k ~ '' %}{% set a = {k: 1} %}" + LOOP + "{% if a[l] %}{% endif %}{% endfor %}",
    "sum of lists": "{{ ([[1] * 1000] * 5000) | sum(start=[]) | length }}",
    "growing list": "{% set ns = namespace(x=[]) %}" + LOOP + "{% set ns.x = ns.x + [i] %}{% endfor %}",
    "growing text": "{% set ns = namespace(x='') %}" + LOOP + "{% set ns.x = ns.x ~ 'xxxxxxxx' %}{% endfor %}{% for i in range(9000) %}{{ ns.x }}{% endfor %}",
    "searches in a long text": "{% set a = 'x' * 9000000 %}" + LOOP + "{% if 'y' in a %}{% endif %}{% endfor %}",
    "method searches in a long text": "{% set a = 'x' * 9000000 %}" + LOOP + "{{ a.find('y') }}{% endfor %}",
    "comparisons of long texts": "{% set a = 'x' * 9000000 %}{% set b = a ~ '' %}" + LOOP + "{% if a == b %}{% endif %}{% endfor %}",
    "test of long texts": "{% set a = 'x' * 9000000 %}" + LOOP + "{% if 'y' is in a %}{% endif %}{% endfor %}",
    "slices of a long text": "{% set a = 'x' * 9000000 %}" + LOOP + "{% if a[1:] %}{% endif %}{% endfor %}",
    "upper of a long text": "{% set a = 'x' * 9000000 %}" + LOOP + "{% if a | upper %}{% endif %}{% endfor %}",
    "split of a long text": "{% set a = 'x ' * 9000000 %}{{ a.split() | length }}",
    "list of a long text": "{{ ('x' * 50000000) | list | length }}",
    "sort of a long text": "{{ ('xy' * 25000000) | sort | length }}",
    "strftime": "{{ strftime_now('%1000000000d' * 1000) | length / 0 }}",
    "striptags": "{{ ('<!--' * 1000000) | striptags }}",
    "wordwrap": "{{ ('x' * 10000000) | wordwrap(1) }}",
    "urlize": "{{ ('http://' * 1000000) | urlize }}",
    "fromkeys": "{% set a = dict.fromkeys(range(90000)) %}" + LOOP + "{% set b = dict.fromkeys(a) %}{% endfor %}",
    "changed": "{% set a = ['x'] * 90000 %}" + LOOP + "{{ loop.changed(a + []) }}{% endfor %}",
    "nested parentheses": "{{ " + "(" * 20_000 + "1" + ")" * 20_000 + " }}",
    "nested lists in the source": "{{ " + "[" * 20_000 + "]" * 20_000 + " }}",
    "nested ifs": "{% if 1 %}" * 6_000,
    "nested ifs, closed": "{% if 1 %}" * 2_000 + "{% endif %}" * 2_000,
    "nested fors, closed": "{% for i in [1] %}" * 1_000 + "{% endfor %}" * 1_000,
    "nested sets, closed": "{% set a %}" * 1_500 + "{% endset %}" * 1_500,
    "nots": "{{ " + "not " * 15_000 + "1 }}",
    "minuses": "{{ " + "-" * 60_000 + "1 }}",
    "long sum": "{{ 1" + " + 1" * 15_000 + " }}",
    "long filter chain": "{{ [1]" + " | list" * 9_000 + " }}",
    "long attribute chain": "{{ a" + ".a" * 30_000 + " }}",
    "long comparison": "{{ 1" + " < 2" * 15_000 + " }}{{ 1 / 0 }}",
    "long condition": "{{ 1" + " if 1 else 1" * 5_000 + " }}",
    "long number": "{{ " + "9" * 60_000 + " }}",
    "many elifs": "{% if 0 %}" + "{% elif 0 %}" * 5_000 + "{% endif %}{{ 1 / 0 }}",
    "many outputs": "{{ a }}" * 9_000 + "{{ 1 / 0 }}",
    "many macros": "{% macro a() %}{% endmacro %}" * 2_000 + "{{ 1 / 0 }}",
    "unclosed comment": "{#" * 30_000,
    "unclosed text": "{{ '" + "\\'" * 30_000,
}  # fmt: skip


MOST_SECONDS = 60  # of processor time; the system ends the process then


def processor_seconds(work: Callable[[], object]) -> float:
    started = time.process_time()
    work()
    return time.process_time() - started


def main(name: str) -> None:
    from qwen3_runtime.errors import EngineError, RequestError
    from qwen3_runtime.text import ChatTemplate

    resource.setrlimit(resource.RLIMIT_CPU, (int(time.process_time()) + MOST_SECONDS, resource.RLIM_INFINITY))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    unit = processor_seconds(lambda: sum(i * i for i in range(1_000_000)))
    started = time.process_time()
    try:
        ChatTemplate({"default": CODE[name]}).render([{"role": "user", "content": "hi"}])
        ended = "rendered"
    except (EngineError, RequestError) as error:
        ended = f"{type(error).__name__}: {error}"
    seconds = time.process_time() - started
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    print(json.dumps({"name": name, "ended": ended, "work": seconds / unit, "megabytes": memory / 1024}), flush=True)


if __name__ == "__main__":
    for wanted in sys.argv[1:]:
        main(wanted)
