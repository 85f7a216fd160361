"""Puts calls of the meter into the syntax of a chat template, before it is compiled."""
# ruff: noqa: N802, N815 - jinja2 looks the methods of a visitor up by these names

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from jinja2 import nodes
from jinja2.exceptions import TemplateAssertionError
from jinja2.visitor import NodeTransformer

if TYPE_CHECKING:
    from jinja2 import Environment

MAX_NESTING = 100
"""Nodes of a template's syntax within each other; released templates have up to 20."""

COUNT, WEIGH, READ, ITEMS = "count these", "weigh this", "read this", "items of this"
"""Names of the meter's filters, which a template cannot spell."""


def check_nesting(source: nodes.Template) -> None:
    """Refuse a template whose syntax nests so deep that compilers would run out of stack.

    Raises:
        TemplateAssertionError: it does.
    """
    level: list[nodes.Node] = [source]
    for _ in range(MAX_NESTING):
        level = [child for node in level for child in node.iter_child_nodes()]
        if not level:
            return
    raise TemplateAssertionError(f"nested deeper than {MAX_NESTING} levels", level[0].lineno)


def count_syntax(source: nodes.Template, environment: Environment) -> nodes.Template:
    """Put calls of the meter into a template, in place."""
    counting: nodes.Template = _Counting().visit(source)
    counting.set_environment(environment)
    return counting


class _Counting(NodeTransformer):
    """Every place where something runs again, or is made, stored, compared or printed."""

    def visit_For(self, node: nodes.For) -> nodes.Node:
        steps = 0 if node.test is None else _size([node.test])[0]
        self._count_body(node)
        node.iter = _filter(node.iter, ITEMS, steps)
        return node

    def visit_Macro(self, node: nodes.Macro) -> nodes.Node:
        return self._count_body(node)

    def visit_CallBlock(self, node: nodes.CallBlock) -> nodes.Node:
        return self._count_body(node)

    def visit_Block(self, node: nodes.Block) -> nodes.Node:
        return self._count_body(node)

    def visit_Output(self, node: nodes.Output) -> nodes.Node:
        self.generic_visit(node)
        node.nodes = [
            child if isinstance(child, nodes.TemplateData | nodes.Const) else _filter(child, READ)
            for child in node.nodes
        ]
        return node

    def visit_Assign(self, node: nodes.Assign) -> nodes.Node:
        self.generic_visit(node)
        node.node = _filter(node.node, WEIGH)
        return node

    def visit_Compare(self, node: nodes.Compare) -> nodes.Node:
        self.generic_visit(node)
        sides: list[Any] = [node, *node.ops]
        for side in sides:
            if not isinstance(side.expr, nodes.Const):
                side.expr = _filter(side.expr, READ)
        return node

    def visit_Concat(self, node: nodes.Concat) -> nodes.Node:
        self.generic_visit(node)
        parts = [_filter(part, WEIGH) for part in node.nodes]
        while len(parts) > 1:  # two by two, so that what is counted is never much longer than what is allowed
            pairs = [nodes.Concat(parts[i : i + 2], lineno=node.lineno) for i in range(0, len(parts) - 1, 2)]
            parts = [*(_filter(pair, WEIGH) for pair in pairs), *(parts[-1:] if len(parts) % 2 else [])]
        return parts[0]

    def visit_List(self, node: nodes.Expr) -> nodes.Node:
        return _filter(self.generic_visit(node), WEIGH)

    visit_Dict = visit_List

    def visit_Tuple(self, node: nodes.Tuple) -> nodes.Node:
        self.generic_visit(node)
        return _filter(node, WEIGH) if node.ctx == "load" else node

    def visit_Getitem(self, node: nodes.Getitem) -> nodes.Node:
        self.generic_visit(node)
        return _filter(node, WEIGH) if isinstance(node.arg, nodes.Slice) else node

    def _count_body(self, node: Any) -> nodes.Node:  # noqa: ANN401 - whatever has a body
        steps, characters = _size(node.body)
        self.generic_visit(node)
        counting = _filter(nodes.Const(steps, lineno=node.lineno), COUNT, characters)
        node.body.insert(0, nodes.ExprStmt(counting, lineno=node.lineno))
        counted: nodes.Node = node
        return counted


def _size(body: list[Any]) -> tuple[int, int]:
    """Nodes and characters of text in a part of a template."""
    steps = characters = 0
    stack = list(body)
    while stack:
        node = stack.pop()
        steps += 1
        characters += len(node.data) if isinstance(node, nodes.TemplateData) else 0
        stack.extend(node.iter_child_nodes())
    return steps, characters


def _filter(node: Any, name: str, *arguments: int) -> nodes.Filter:  # noqa: ANN401 - any expression
    line = node.lineno
    given = [nodes.Const(argument, lineno=line) for argument in arguments]
    return nodes.Filter(node, name, given, [], None, None, lineno=line)
