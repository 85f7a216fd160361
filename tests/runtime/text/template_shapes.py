"""Templates of our own with the structure of the other released variants.

The checkpoints' templates are not in reach of the tests, so these are not theirs: each keeps only the one feature that
sets its family apart.
"""

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
{{ messages | length }}{{ colour | default('none') }}
"""
