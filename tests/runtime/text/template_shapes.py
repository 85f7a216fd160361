"""Templates of our own with the structure of the other released variants.

The checkpoints' templates are not in reach of the tests, so these are not theirs: each keeps only the one feature that
sets its family apart.
"""
# ruff: noqa: E501 - lines of templates

_TURNS = """\
{%- for message in messages %}
    {{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>\\n' }}
{%- endfor %}
"""

# Thinking-2507: the prompt itself opens the think block, and enable_thinking is not looked at.
ALWAYS_THINKS = _TURNS + "{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n<think>\\n' }}{%- endif %}"

# Instruct-2507: no think block at all.
NEVER_THINKS = _TURNS + "{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}{%- endif %}"

# Coder: tool calls as tags, walking over the arguments, which must therefore be an object; a macro, `safe`.
TAGGED_CALLS = """\
{% macro shown(value) %}
    {%- if value is mapping or (value is iterable and value is not string) %}
        {{- value | tojson | safe }}
    {%- else %}
        {{- value | string }}
    {%- endif %}
{%- endmacro %}
{%- if tools is iterable and tools | length > 0 %}
    {{- '<tools>' }}
    {%- for tool in tools %}
        {%- set tool = tool.function if tool.function is defined else tool %}
        {{- '\\n<name>' ~ tool.name ~ '</name>' }}
        {%- for name, field in tool.parameters.properties | items %}
            {{- '\\n<' ~ name ~ '>' ~ (field.type | string) ~ '</' ~ name ~ '>' }}
        {%- endfor %}
    {%- endfor %}
    {{- '\\n</tools>\\n' }}
{%- endif %}
{%- for message in messages %}
    {{- '<|im_start|>' ~ message.role ~ '\\n' }}
    {%- if message.content is string and message.content | trim | length > 0 %}
        {{- message.content | trim }}
    {%- endif %}
    {%- for call in message.tool_calls or [] %}
        {%- set call = call.function if call.function is defined else call %}
        {{- '\\n<function=' ~ call.name ~ '>\\n' }}
        {%- for name, value in call.arguments | items %}
            {{- '<parameter=' ~ name ~ '>\\n' ~ shown(value) ~ '\\n</parameter>\\n' }}
        {%- endfor %}
        {{- '</function>' }}
    {%- endfor %}
    {{- '<|im_end|>\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}{%- endif %}
"""

# What the environment offers beyond plain jinja2: loop controls, generation blocks, namespace, dict, special tokens.
ENVIRONMENT = """\
{%- set seen = namespace(count=0, last=none) %}
    {% set table = dict(a=1, b='é<>') %}
{%- for message in messages %}
    {%- if message.role == 'system' %}{% continue %}{% endif %}
    {%- set seen.count = seen.count + 1 %}
    {%- if seen.count > 3 %}{% break %}{% endif %}
    {%- if message.role == 'assistant' %}
        {%- generation %}
        {{- message.content }}{% set seen.last = 'inner' %}
        {%- endgeneration %}
    {%- else %}
  {{ message.content }}
    {%- endif %}
{%- endfor %}
{{ seen.count }}{{ seen.last }}{{ eos_token }}{{ pad_token }}{{ bos_token is defined }}{{ table | tojson }}
{{ table | tojson(indent=2, sort_keys=true) }}{{ tools is none }}{{ documents is none }}{{ dict.fromkeys('ab', 1) }}
    {# a comment #}
{{ messages | length }}{{ color | default('none') }}
"""

# What legitimate templates of other families use.
CONSTRUCTS = """\
{%- set ns = namespace(a='', l=[], n=0) -%}
{%- for m in messages | selectattr('role', 'in', ['user', 'assistant']) -%}
{%- set ns.n = ns.n + loop.index * 2 % 7 -%}{%- set ns.a = ns.a ~ m.role[0] ~ loop.last -%}
{%- set ns.l = ns.l + [m.content | length, (1, 2)] -%}
{{ loop.index0 }}/{{ loop.length }}{{ loop.cycle('a', 'b') }}{{ loop.previtem is defined }}{{ loop.changed(m.role) }}
{%- endfor %}{{ ns.a }}{{ ns.l }}{{ ns.n }}
{%- macro show(x, y=3) %}<{{ x }}{{ y }}{{ caller() if caller else '' }}>{% endmacro %}
{{ show(1) }}{{ show(messages[0].role, y='z') }}{% call show(2) %}in{% endcall %}
{%- for k, v in {'b': 1, 'a': [2, 3]} | dictsort %}{{ k }}{{ v }}{% endfor %}
{%- for group in messages | groupby('role') %}{{ group.grouper }}{{ group.list | length }}{% endfor %}
{%- for x in [[1, [2]], [3]] recursive %}{{ loop.depth }}{% if x is iterable %}{{ loop(x) }}{% else %}{{ x }}{% endif %}{% endfor %}
{{ messages | map(attribute='role') | unique | join(', ') | upper }}{{ [3, 1, 2] | sort(reverse=true) | first }}
{{ [1, 2, 3, 4, 5] | batch(2, 0) | list }}{{ [1, 2, 3] | slice(2) | list }}{{ range(3) | sum }}{{ [1, 2] | reverse | list }}
{{ 'a b  c'.split() }}{{ 'abc'[::-1] }}{{ '%s-%03d' % ('x', 7) }}{{ '{}:{b}'.format(1, b='<') }}{{ '-' * 3 }}{{ 'x' | center(9) }}
{{ 'l1\nl2' | indent(2) }}{{ 2 ** 10 }}{{ 7 // 2 }}{{ -3 | abs }}{{ 1.25 | round(1) }}{{ 'a' in 'abc' }}{{ 1 < 2 < 3 }}
{{ 'x' ~ 1 ~ none ~ true ~ [1] ~ missing }}{{ missing | default('d') }}{{ 'A' if messages else 'B' }}{{ '<' | e }}{{ '<b>' | safe ~ '<' }}
{% filter upper %}filtered {{ 1 }}{% endfilter %}{% set block %}in {{ 2 }}{% endset %}{{ block }}{% block b %}{{ 3 }}{% endblock %}
{{ messages[1:] | length }}{{ messages[-1]['content'] | replace('e', 'E') | truncate(9) | trim }}{{ {'k': [1, 'é']} | tojson }}{{ ('a', 'b') | last }}
{% with z = 5 %}{{ z }}{% endwith %}{% set p, q = 1, 'two' %}{{ p }}{{ q }}{{ 5 is odd }}{{ 'x' is string and 1 is number }}{{ joiner('|')() }}
"""
