"""A sandbox for chat templates in which everything that could run for long, or grow, is counted by a `Meter`.

Jinja2's own sandbox keeps a template away from the interpreter, but not from time and memory. Here

* each pass through a loop, a macro or a block counts as many steps as it has nodes;
* filters and methods count what they are given and what they make; those that pad, repeat or join are asked before
  they start, and lazy ones are carried out at once, so that no chain of them is left to unwind;
* operators are asked before they make something longer than both sides;
* texts, lists and mappings are counted where they are made or stored, and all that they hold where they are compared
  or printed, or given to a filter or a test that may look at everything;
* a source that nests too deep for the compilers behind it is refused before they see it.
"""

from __future__ import annotations

import re
import string
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import jinja2.sandbox
from jinja2 import pass_context
from jinja2.exceptions import SecurityError
from jinja2.runtime import LoopContext
from jinja2.utils import _PassArg

from qwen3_runtime.text.counting import COUNT, ITEMS, READ, WEIGH, check_nesting, count_syntax
from qwen3_runtime.text.meter import MAX_BITS, METER, breadth, check_widths

if TYPE_CHECKING:
    from collections.abc import Callable

    from jinja2 import nodes
    from jinja2.runtime import Context

# Without a use in chats, and slow or endless on some texts.
_NO_FILTERS = ("striptags", "urlize", "wordwrap")
_NO_GLOBALS = ("lipsum",)

_STRETCHING_FILTERS = frozenset(["batch", "center", "format", "indent", "join", "replace", "round", "slice", "tojson"])
_ITERATING_FILTERS = frozenset(
    [
        *("batch", "dictsort", "groupby", "join", "list", "map", "max", "min", "reject", "rejectattr", "reverse"),
        *("select", "selectattr", "slice", "sort", "sum", "unique"),
    ]
)
# These look at a list or a mapping, but not into what it holds.
_SHALLOW = frozenset(
    [
        *("attr", "batch", "count", "d", "default", "first", "items", "last", "length", "list", "map", "random"),
        *("reject", "rejectattr", "reverse", "select", "selectattr", "slice"),
        *("boolean", "callable", "defined", "false", "float", "integer", "iterable", "mapping", "none", "number"),
        *("sameas", "sequence", "string", "true", "undefined"),
    ]
)
_STRETCHING_METHODS = frozenset(["center", "expandtabs", "join", "ljust", "replace", "rjust", "zfill"])
_METHODS: dict[type, frozenset[str]] = {
    str: _STRETCHING_METHODS
    | frozenset(
        [
            *("capitalize", "casefold", "count", "endswith", "find", "format", "format_map", "index", "isalnum"),
            *("isalpha", "isascii", "isdecimal", "isdigit", "isidentifier", "islower", "isnumeric", "isprintable"),
            *("isspace", "istitle", "isupper", "lower", "lstrip", "partition", "removeprefix", "removesuffix"),
            *("rfind", "rindex", "rpartition", "rsplit", "rstrip", "split", "splitlines", "startswith", "strip"),
            *("swapcase", "title", "unescape", "upper"),
        ]
    ),
    dict: frozenset(["copy", "get", "items", "keys", "values"]),
    list: frozenset(["copy", "count", "index"]),
    tuple: frozenset(["count", "index"]),
    float: frozenset(["is_integer"]),
}
_WIDE = re.compile(r"\d{5}|\*|\{")
_WIDE_PERCENT = re.compile(r"%[^%a-zA-Z]*?(?:\d{5}|\*)")


class ChatSandbox(jinja2.sandbox.ImmutableSandboxedEnvironment):
    """The environment; render its templates with a `Meter` in `METER`."""

    intercepted_binops = frozenset(["+", "-", "*", "/", "//", "%", "**"])

    def __init__(self, **options: Any) -> None:  # noqa: ANN401 - jinja2's
        super().__init__(**options)
        for name in _NO_GLOBALS:
            del self.globals[name]
        for name in _NO_FILTERS:
            del self.filters[name]

    def count_everything(self) -> None:
        """Put the meter into filters and tests. Call once, after the last of them was added."""
        for name, function in [*self.filters.items()]:
            self.filters[name] = _counted(name, function)
        for name, function in [*self.tests.items()]:
            self.tests[name] = _counted(name, function)
        self.filters |= {COUNT: _count, WEIGH: _weigh, READ: _read, ITEMS: _items}

    def _generate(self, source: nodes.Template, *arguments: Any, **options: Any) -> str:  # noqa: ANN401 - jinja2's
        check_nesting(source)
        return super()._generate(count_syntax(source, self), *arguments, **options)

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:  # noqa: ANN401 - any value
        """Carry out an operator."""
        meter = METER.get()
        meter.spend(1)
        if operator == "*":
            _expect_product(left, right)
        elif operator == "**" and isinstance(left, int) and isinstance(right, int):
            if left.bit_length() * right > MAX_BITS:
                raise SecurityError(f"it makes an integer of more than {MAX_BITS} bits")
        elif operator == "%" and isinstance(left, str):
            _expect_formatted(left, right)
        elif operator == "+" and isinstance(left, str | list | tuple) and isinstance(right, str | list | tuple):
            meter.expect(len(left) + len(right))
        made = super().call_binop(context, operator, left, right)
        meter.weigh(made)
        return made

    def getitem(self, obj: Any, argument: Any) -> Any:  # noqa: ANN401 - any value
        """An item of a list, or of a mapping, which compares a key with its own."""
        if isinstance(argument, str):
            METER.get().look_at(argument)
        return super().getitem(obj, argument)

    def call(self, context: Context, called: Any, /, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - any value
        """Call a function, a method or a macro."""
        meter = METER.get()
        meter.spend(1)
        for value in args:
            meter.look_at(value)
        if isinstance(called, LoopContext):  # a recursive loop, whose items nobody else counts
            args = (_items_of(args[0], 0), *args[1:]) if args else args
        owner = getattr(called, "__self__", None)
        if isinstance(owner, LoopContext):  # `changed` compares
            meter.read(args)
        if owner is not None and type(owner).__module__ in ("builtins", "markupsafe"):
            _check_method(owner, called.__name__, args, kwargs)
        made = _carried_out(super().call(context, called, *args, **kwargs))
        meter.weigh(made)
        return made

    def wrap_str_format(self, value: Any) -> Callable[..., str] | None:  # noqa: ANN401 - any attribute
        """The method `format` of a text, if that is what the attribute is."""
        formatting = super().wrap_str_format(value)
        if formatting is None:
            return None

        def formatted(*args: Any, **kwargs: Any) -> str:  # noqa: ANN401 - any value
            fields = [spec for _, name, spec, _ in string.Formatter().parse(value.__self__) if name is not None]
            if any(_WIDE.search(spec or "") for spec in fields):
                raise SecurityError("it formats with a width that is computed or above 9999")
            given = METER.get()._weigh([*args, *kwargs.values()], 80)
            METER.get().expect(len(value.__self__) + len(fields) * (given + 10_000))
            return formatting(*args, **kwargs)

        return formatted


def _check_method(owner: Any, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:  # noqa: ANN401
    meter = METER.get()
    allowed = next((names for kind, names in _METHODS.items() if isinstance(owner, kind)), frozenset[str]())
    if name not in allowed:
        raise SecurityError(f"the method {name} of {type(owner).__name__} is not allowed in chat templates")
    meter.look_at(owner)
    if isinstance(owner, list | tuple) and name in ("count", "index"):
        meter.read(owner)
    if isinstance(owner, str) and name in _STRETCHING_METHODS:
        _expect_stretched(owner, (*args, *kwargs.values()))


def _expect_stretched(value: Any, others: tuple[Any, ...]) -> None:  # noqa: ANN401 - any value
    check_widths(*others)
    own = 0 if isinstance(value, int) else breadth(value)
    METER.get().expect((1 + own) * (1 + sum(map(breadth, others))))


def _expect_product(left: Any, right: Any) -> None:  # noqa: ANN401 - any value
    for value, times in ((left, right), (right, left)):
        if isinstance(value, str | list | tuple) and isinstance(times, int):
            METER.get().expect(len(value) * times)
    if isinstance(left, int) and isinstance(right, int) and left.bit_length() + right.bit_length() > MAX_BITS:
        raise SecurityError(f"it makes an integer of more than {MAX_BITS} bits")


def _expect_formatted(layout: str, values: Any) -> None:  # noqa: ANN401 - any value
    if _WIDE_PERCENT.search(layout):
        raise SecurityError("it formats with a width that is computed or above 9999")
    meter = METER.get()
    meter.expect(len(layout) + layout.count("%") * (meter._weigh(values, 80) + 10_000))


def _counted(name: str, function: Any) -> Callable[..., Any]:  # noqa: ANN401 - jinja2 types them as functions
    """The filter or test with a meter; it takes the context, so that the compiler does not carry it out already."""
    passed = _PassArg.from_obj(function)

    @pass_context
    def counted(context: Context, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - any value
        meter = METER.get()
        for value in args:
            meter.look_at(value)
            if name not in _SHALLOW and not isinstance(value, str):
                meter.read(value)
        if name in _ITERATING_FILTERS and args and hasattr(args[0], "__len__"):
            meter.spend(len(args[0]))
        others = (*args[1:], *kwargs.values())
        if name == "format":
            _expect_formatted(str(args[0]), kwargs or args[1:])
        elif name in _STRETCHING_FILTERS:
            _expect_stretched(args[0] if args else None, others)
        elif name == "sum" and any(isinstance(value, list | tuple) for value in others):
            raise SecurityError("it sums lists")
        if passed is _PassArg.context:
            args = (context, *args)
        elif passed is _PassArg.eval_context:
            args = (context.eval_ctx, *args)
        elif passed is _PassArg.environment:
            args = (context.environment, *args)
        made = _carried_out(function(*args, **kwargs))
        meter.weigh(made)
        return made

    return counted


def _carried_out(made: Any) -> Any:  # noqa: ANN401 - any value
    """A lazy result as an iterator over its items: unlike a chain of lazy ones, it is not left to the C stack."""
    if not isinstance(made, Iterator) or isinstance(made, LoopContext):
        return made
    return iter(_items_of(made, 0))


def _items_of(iterable: Any, steps: int) -> list[Any]:  # noqa: ANN401 - any value
    meter, found = METER.get(), []
    for item in iterable:
        meter.spend(1 + steps)
        found.append(item)
    return found


@pass_context
def _count(_: Context, steps: int, characters: int) -> None:
    METER.get().spend(steps, characters)


@pass_context
def _weigh(_: Context, value: Any) -> Any:  # noqa: ANN401 - any value
    METER.get().weigh(value)
    return value


@pass_context
def _read(_: Context, value: Any) -> Any:  # noqa: ANN401 - any value
    METER.get().read(value)
    return value


@pass_context
def _items(_: Context, iterable: Any, steps: int) -> list[Any]:  # noqa: ANN401 - any value
    return _items_of(iterable, steps)
