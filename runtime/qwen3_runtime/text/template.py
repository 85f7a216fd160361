"""The checkpoint's own chat template, rendered as transformers renders it, in a sandbox."""

from __future__ import annotations

import datetime as dt
import json
from typing import TYPE_CHECKING, Any

import jinja2
import jinja2.ext
import jinja2.nodes
import jinja2.utils

from qwen3_runtime.errors import DamagedEngineError, RequestError
from qwen3_runtime.text.messages import checked_messages, checked_tools, plain_object
from qwen3_runtime.text.meter import METER, Meter
from qwen3_runtime.text.sandbox import ChatSandbox
from qwen3_runtime.text.tokenizer import CONFIG, read_config

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence
    from pathlib import Path

    from jinja2.parser import Parser

TEMPLATE = "chat_template.jinja"

# The released templates have 2 to 10 kB; a template is code from a checkpoint that somebody else made.
MAX_TEMPLATE_CHARACTERS = 65_536
MAX_TEMPLATES = 4  # transformers knows default, tool_use and rag

# What a template may raise while it renders messages of the right shape that it was not written for.
_RENDER_ERRORS = (
    jinja2.TemplateError,
    ArithmeticError,
    AttributeError,
    LookupError,
    MemoryError,
    OverflowError,
    RecursionError,
    TypeError,
    ValueError,
)


class ChatTemplate:
    """A compiled chat template. Rendering the same messages gives the same bytes as transformers'.

    Attributes:
        source: the text of the default template, for example to look for what it supports.
    """

    def __init__(self, sources: Mapping[str, str], named_tokens: Mapping[str, str] | None = None) -> None:
        if "default" not in sources:
            raise DamagedEngineError(f"chat template: expected one named default, found {sorted(sources) or 'none'}")
        if len(sources) > MAX_TEMPLATES:
            raise DamagedEngineError(f"chat template: {len(sources)} templates, at most {MAX_TEMPLATES} are read")
        environment = _environment()
        self.source: str = sources["default"]
        self._named_tokens = dict(named_tokens or {})
        self._templates = {name: _compile(environment, name, source) for name, source in sources.items()}
        # Templates that cannot print arguments given as JSON text (Coder's XML form) iterate over them.
        self._parse_arguments = {name: "arguments is string" not in source for name, source in sources.items()}

    @classmethod
    def open(
        cls,
        directory: Path,
        named_tokens: Mapping[str, str] | None = None,
        *,
        files: Collection[str] | None = None,
    ) -> ChatTemplate | None:
        """The template of an engine or checkpoint directory, or None if it has none (a base model).

        `chat_template.jinja` goes before `chat_template` in `tokenizer_config.json`, which is a string or a list
        of named templates.

        Args:
            directory: holds `tokenizer_config.json` and perhaps `chat_template.jinja`.
            named_tokens: `Tokenizer.named_tokens`, which templates may print.
            files: names of those that count; None for all that are there.

        Raises:
            DamagedEngineError: the template is damaged or too large.
        """
        counts = files is None or TEMPLATE in files
        sources = _sources(directory, has_file=counts)
        if not sources:
            return None
        try:
            return cls(sources, named_tokens)
        except DamagedEngineError as error:
            file = TEMPLATE if counts and (directory / TEMPLATE).is_file() else CONFIG
            raise DamagedEngineError(f"{directory / file}: {error}") from error

    def render(
        self,
        messages: Sequence[Mapping[str, Any]],
        *,
        tools: Sequence[Mapping[str, Any]] | None = None,
        enable_thinking: bool | None = None,
        add_generation_prompt: bool = True,
        variables: Mapping[str, Any] | None = None,
    ) -> str:
        """The prompt's text.

        Args:
            messages: see `messages.checked_messages`.
            tools: JSON schemas of the functions that the model may call.
            enable_thinking: False is the hard switch (an empty think block); None leaves it to the template.
            add_generation_prompt: end with the opening of the assistant's turn.
            variables: further names that the template can read.

        Raises:
            RequestError: the messages or tools are malformed, or the template refuses them.
        """
        name = "tool_use" if tools is not None and "tool_use" in self._templates else "default"
        names: dict[str, Any] = {**self._named_tokens, **plain_object(variables or {}, "variables")}
        if enable_thinking is not None:
            names["enable_thinking"] = enable_thinking
        names["messages"] = checked_messages(messages, parse_arguments=self._parse_arguments[name])
        names["tools"] = checked_tools(tools)
        names["documents"] = names.get("documents")
        names["add_generation_prompt"] = add_generation_prompt
        running = METER.set(Meter(names["messages"], names["tools"], names))
        try:
            return self._templates[name].render(names)
        except _RENDER_ERRORS as error:
            reason = (str(error) or type(error).__name__).splitlines()[0]
            problem = f"the chat template cannot render these messages: {reason[:400]}"
            raise RequestError(problem, field="messages") from error
        finally:
            METER.reset(running)


def _sources(directory: Path, *, has_file: bool) -> dict[str, str]:
    file = directory / TEMPLATE
    if has_file and file.is_file():
        try:
            return {"default": file.read_text(encoding="utf-8")}
        except (OSError, ValueError) as error:
            raise DamagedEngineError(f"{file}: expected UTF-8 text, found {error}") from error
    where = directory / CONFIG
    declared = read_config(directory).get("chat_template")
    if declared is None:
        return {}
    if isinstance(declared, str):
        return {"default": declared}
    if not isinstance(declared, list):
        raise DamagedEngineError(f"{where}: chat_template: expected text or a list, found {type(declared).__name__}")
    sources = {}
    for entry in declared:
        name, source = (entry.get("name"), entry.get("template")) if isinstance(entry, dict) else (None, None)
        if not isinstance(name, str) or not isinstance(source, str):
            raise DamagedEngineError(f"{where}: chat_template: expected entries with name and template, both text")
        sources[name] = source
    return sources


def _compile(environment: jinja2.Environment, name: str, source: str) -> jinja2.Template:
    if len(source) > MAX_TEMPLATE_CHARACTERS:
        raise DamagedEngineError(
            f"chat template {name}: {len(source)} characters, at most {MAX_TEMPLATE_CHARACTERS} are read"
        )
    try:
        return environment.from_string(source)
    except jinja2.TemplateSyntaxError as error:
        raise DamagedEngineError(f"chat template {name}, line {error.lineno}: {error.message}") from error
    except (RecursionError, MemoryError, SyntaxError, ValueError) as error:
        raise DamagedEngineError(f"chat template {name}: cannot be compiled ({type(error).__name__})") from error


def _environment() -> jinja2.Environment:
    environment = ChatSandbox(
        trim_blocks=True, lstrip_blocks=True, extensions=[_GenerationBlocks, jinja2.ext.loopcontrols]
    )
    environment.filters["tojson"] = _tojson
    environment.globals["raise_exception"] = _raise_exception
    environment.globals["strftime_now"] = _strftime_now
    environment.globals["dict"] = _DictCalls()
    environment.globals["namespace"] = _Namespace
    environment.count_everything()
    return environment


class _GenerationBlocks(jinja2.ext.Extension):
    """`{% generation %}...{% endgeneration %}`, which marks trained text in some templates and renders as its body."""

    tags = {"generation"}  # noqa: RUF012 - declared so by jinja2

    def parse(self, parser: Parser) -> jinja2.nodes.Node:
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return jinja2.nodes.Scope(body, lineno=line)


class _DictCalls:
    """`dict(...)` and `dict.fromkeys(...)` in a template, without the type itself."""

    def __call__(self, *pairs: Iterable[tuple[str, object]], **named: object) -> dict[str, object]:
        return dict(*pairs, **named)

    def fromkeys(self, keys: Iterable[object], value: object = None) -> dict[object, object]:
        return dict.fromkeys(keys, value)


class _Namespace(jinja2.utils.Namespace):
    """`namespace(...)` that refuses names with a leading underscore, through which a template could reach internals."""

    def __init__(self, /, *pairs: Iterable[tuple[str, object]], **named: object) -> None:
        values = dict(*pairs, **named)
        for name in values:
            _check_attribute(name)
        super().__init__(values)

    def __setitem__(self, name: str, value: object) -> None:
        _check_attribute(name)
        super().__setitem__(name, value)


def _check_attribute(name: object) -> None:
    if isinstance(name, str) and name.startswith("_"):
        raise jinja2.exceptions.SecurityError(f"a namespace cannot hold the attribute {name!r}")


def _tojson(
    value: object,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def _raise_exception(message: str) -> None:
    raise jinja2.TemplateError(message)


def _strftime_now(layout: str) -> str:
    return dt.datetime.now().strftime(layout)  # noqa: DTZ005 - local time, as transformers gives it
