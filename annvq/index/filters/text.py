"""Filters as text: ``lang == "de" and year >= 2000``.

    comparison   path OP value, value OP path, value OP path OP value, path OP path; OP: == != < <= > >=
    membership   path in [value, ...]        path not in [value, ...]
    lists, text  value in path               value not in path
    text         path.startswith("a")        .endswith("a")    .contains("a")    .like("a%")
    missing      path is None                path is not None
    logic        and, or, not, parentheses; a column of booleans stands for itself

A path is a column, or by dots a field in its structs or in the JSON of its text: ``payload.page``. A value is a number,
a string in quotes, True or False. A column whose name is no word is ``column("a b")``.
"""

from __future__ import annotations

import ast

from annvq.errors import FilterError
from annvq.index.filters.conditions import (
    MOST_DEPTH,
    And,
    ColumnComparison,
    Comparison,
    Condition,
    Not,
    Operator,
    Or,
    Order,
    Place,
)

_LONGEST = 10_000  # characters
_COMPARISONS: dict[type[ast.cmpop], Order] = {
    ast.Eq: "eq",
    ast.NotEq: "eq",
    ast.Lt: "lt",
    ast.LtE: "le",
    ast.Gt: "gt",
    ast.GtE: "ge",
}
_TURNED: dict[Order, Order] = {"eq": "eq", "lt": "gt", "le": "ge", "gt": "lt", "ge": "le"}
_METHODS: dict[str, Operator] = {
    "startswith": "starts_with",
    "endswith": "ends_with",
    "contains": "contains",
    "like": "like",
}


def read(text: str) -> Condition:
    """Return the condition that a text stands for.

    The text is read by Python's parser and never evaluated: only what the module's page lists is accepted.

    Raises
    ------
    FilterError
        Anything else; the message marks the place with >>> <<<.

    """
    if len(text) > _LONGEST:
        raise FilterError(f"a filter of {len(text):,} characters, expected at most {_LONGEST:,}")
    source = " ".join(text.split("\n")).lstrip()  # in one line, so that places are those in it
    try:
        tree = ast.parse(source, mode="eval")
    except SyntaxError as error:
        start = max(0, (error.offset or 1) - 1)
        raise Place(source, start, (error.end_offset or start + 2) - 1).error(error.msg) from None
    except (ValueError, MemoryError, RecursionError) as error:
        raise FilterError(f"filter {text[:60]!r}: cannot be read ({error})") from None
    return _Reader(source).condition(tree.body, MOST_DEPTH)


class _Reader:
    """Turns a syntax tree into a condition."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._line = text.encode()  # the parser counts bytes

    def condition(self, node: ast.expr, depth: int) -> Condition:
        """Return what is true or false for a row."""
        if depth == 0:
            raise FilterError(f"filter {self._text[:60]!r}: nested more than {MOST_DEPTH} levels deep")
        if isinstance(node, ast.BoolOp):
            parts = tuple(self.condition(part, depth - 1) for part in node.values)
            return And(parts) if isinstance(node.op, ast.And) else Or(parts)
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
            return Not(self.condition(node.operand, depth - 1))
        if isinstance(node, ast.Compare):
            return self._comparisons(node)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in _METHODS:
            return self._method(node, node.func)
        if self._is_path(node):
            return Comparison(self._path(node), "eq", True, self._place(node))
        raise self._error(node, "expected a condition, such as year >= 2000")

    def _comparisons(self, node: ast.Compare) -> Condition:
        parts, left = [], node.left
        for operator, right in zip(node.ops, node.comparators, strict=True):
            parts.append(self._comparison(node, left, operator, right))
            left = right
        return parts[0] if len(parts) == 1 else And(tuple(parts))

    def _comparison(self, node: ast.Compare, left: ast.expr, operator: ast.cmpop, right: ast.expr) -> Condition:
        place = self._place(node)
        if isinstance(operator, ast.In | ast.NotIn):
            inside = self._membership(left, right, place)
            return inside if isinstance(operator, ast.In) else Not(inside)
        if isinstance(operator, ast.Is | ast.IsNot):
            if not (isinstance(right, ast.Constant) and right.value is None):
                raise self._error(right, "expected None after 'is'; values are compared with ==")
            exists = Comparison(self._path(left), "exists", None, place)
            return Not(exists) if isinstance(operator, ast.Is) else exists
        if not (self._is_path(left) or self._is_path(right)):
            raise self._error(left, "expected a column on one side of the comparison; strings stand in quotes")
        made = self._compared(left, _COMPARISONS[type(operator)], right, place)
        return Not(made) if isinstance(operator, ast.NotEq) else made

    def _compared(self, left: ast.expr, operator: Order, right: ast.expr, place: Place) -> Condition:
        if not self._is_path(left):
            return Comparison(self._path(right), _TURNED[operator], self._value(left), place)
        if not self._is_path(right):
            return Comparison(self._path(left), operator, self._value(right), place)
        return ColumnComparison(self._path(left), operator, self._path(right), place)

    def _membership(self, left: ast.expr, right: ast.expr, place: Place) -> Condition:
        if isinstance(right, ast.List | ast.Tuple):
            return Comparison(self._path(left), "in", [self._value(item) for item in right.elts], place)
        if not self._is_path(right):
            raise self._error(right, "expected a list of values in brackets, or a column")
        return Comparison(self._path(right), "contains", self._value(left), place)

    def _method(self, node: ast.Call, method: ast.Attribute) -> Condition:
        if len(node.args) != 1 or node.keywords:
            raise self._error(node, f"expected one value, as in title.{method.attr}('a')")
        path = self._path(method.value)
        return Comparison(path, _METHODS[method.attr], self._value(node.args[0]), self._place(node))

    @staticmethod
    def _is_path(node: ast.expr) -> bool:
        return isinstance(node, ast.Name | ast.Call | ast.Attribute)

    def _path(self, node: ast.expr) -> str:
        fields = []
        inner = node
        while isinstance(inner, ast.Attribute):
            fields.append(inner.attr)
            inner = inner.value
        return ".".join([self._column(inner), *reversed(fields)])

    def _column(self, node: ast.expr) -> str:
        if isinstance(node, ast.Name):
            return node.id
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "column":
            given = [argument.value for argument in node.args if isinstance(argument, ast.Constant)]
            if len(given) == len(node.args) == 1 and isinstance(given[0], str) and not node.keywords:
                return given[0]
        raise self._error(node, 'expected a column: a word, or column("a b")')

    def _value(self, node: ast.expr) -> bool | int | float | str:
        is_negative = isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub)
        constant = node.operand if isinstance(node, ast.UnaryOp) and is_negative else node
        value = constant.value if isinstance(constant, ast.Constant) else None
        if isinstance(value, int | float) and not (is_negative and isinstance(value, bool)):
            return -value if is_negative else value
        if isinstance(value, str) and not is_negative:
            return value
        if isinstance(constant, ast.Name):
            raise self._error(node, "expected a value; a string stands in quotes")
        raise self._error(node, "expected a number, a string in quotes, True or False (None: 'is None')")

    def _place(self, node: ast.expr) -> Place:
        ends = (node.col_offset, node.end_col_offset or node.col_offset)
        start, end = (len(self._line[:at].decode(errors="replace")) for at in ends)
        return Place(self._text, start, end)

    def _error(self, node: ast.expr, reason: str) -> FilterError:
        return self._place(node).error(reason)
