"""Filters as text: ``lang == "de" and year >= 2000``.

    comparison   column OP value, value OP column, value OP column OP value; OP: == != < <= > >=
    membership   column in [value, ...]      column not in [value, ...]
    missing      column is None              column is not None
    logic        and, or, not, parentheses; a column of booleans stands for itself

A value is a number, a string in quotes, True or False. A column whose name is no word is ``column("a b")``.
"""

from __future__ import annotations

import ast
from typing import Any

from annvq.errors import FilterError

_LONGEST = 10_000  # characters; deeper nesting than Python's parser takes is an error of its own
_COMPARISONS = {
    ast.Eq: lambda a, b: a == b,
    ast.NotEq: lambda a, b: a != b,
    ast.Lt: lambda a, b: a < b,
    ast.LtE: lambda a, b: a <= b,
    ast.Gt: lambda a, b: a > b,
    ast.GtE: lambda a, b: a >= b,
}


def parse(text: str) -> Any:
    """Return the `pyarrow.compute` expression that a text stands for.

    The text is read by Python's parser and never evaluated: only what the module's page lists is accepted.

    Raises
    ------
    FilterError
        Anything else; the message marks the place with >>> <<<.

    """
    if len(text) > _LONGEST:
        raise FilterError(f"a filter of {len(text):,} characters, expected at most {_LONGEST:,}")
    source = " ".join(text.split("\n"))  # of the same length: places stay
    try:
        tree = ast.parse(source.lstrip(), mode="eval")
    except SyntaxError as error:
        start = max(0, (error.offset or 1) - 1)
        raise _at(source.lstrip(), start, (error.end_offset or start + 2) - 1, error.msg) from None
    except (ValueError, MemoryError, RecursionError) as error:
        raise FilterError(f"filter {text[:60]!r}: cannot be read ({error})") from None
    try:
        return _Reader(source.lstrip()).condition(tree.body)
    except RecursionError:
        raise FilterError(f"filter {text[:60]!r}: nested too deeply") from None


class _Reader:
    """Turns a syntax tree into an expression."""

    def __init__(self, text: str) -> None:
        self._text = text

    def condition(self, node: ast.expr) -> Any:
        """Return what is true or false for a row."""
        if isinstance(node, ast.BoolOp):
            parts = [self.condition(part) for part in node.values]
            made = parts[0]
            for part in parts[1:]:
                made = made & part if isinstance(node.op, ast.And) else made | part
            return made
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
            return ~self.condition(node.operand)
        if isinstance(node, ast.Compare):
            return self._comparison(node)
        if self._is_column(node):
            return self._column(node)
        raise self._error(node, "expected a condition, such as year >= 2000")

    def _comparison(self, node: ast.Compare) -> Any:
        made, left = None, node.left
        for operator, right in zip(node.ops, node.comparators):
            part = self._compared(node, left, operator, right)
            made, left = part if made is None else made & part, right
        return made

    def _compared(self, node: ast.Compare, left: ast.expr, operator: ast.cmpop, right: ast.expr) -> Any:
        if isinstance(operator, ast.In | ast.NotIn):
            if not isinstance(right, ast.List | ast.Tuple):
                raise self._error(right, "expected a list of values in brackets")
            inside = self._column(left).isin([self._value(item) for item in right.elts])
            return inside if isinstance(operator, ast.In) else ~inside
        if isinstance(operator, ast.Is | ast.IsNot):
            if not (isinstance(right, ast.Constant) and right.value is None):
                raise self._error(right, "expected None after 'is'; values are compared with ==")
            missing = self._column(left).is_null()
            return missing if isinstance(operator, ast.Is) else ~missing
        if not (self._is_column(left) or self._is_column(right)):
            raise self._error(left, "expected a column on one side of the comparison; strings stand in quotes")
        return _COMPARISONS[type(operator)](self._operand(left), self._operand(right))

    def _operand(self, node: ast.expr) -> Any:
        import pyarrow.compute as pc

        return self._column(node) if self._is_column(node) else pc.scalar(self._value(node))

    @staticmethod
    def _is_column(node: ast.expr) -> bool:
        return isinstance(node, ast.Name | ast.Call)

    def _column(self, node: ast.expr) -> Any:
        import pyarrow.compute as pc

        if isinstance(node, ast.Name):
            return pc.field(node.id)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "column":
            given = [argument.value for argument in node.args if isinstance(argument, ast.Constant)]
            if len(given) == len(node.args) == 1 and isinstance(given[0], str) and not node.keywords:
                return pc.field(given[0])
        raise self._error(node, 'expected a column: a word, or column("a b")')

    def _value(self, node: ast.expr) -> Any:
        is_negative = isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub)
        constant = node.operand if isinstance(node, ast.UnaryOp) and is_negative else node
        value = constant.value if isinstance(constant, ast.Constant) else None
        if isinstance(value, int | float) and not (is_negative and isinstance(value, bool)):
            if isinstance(value, int) and value >= 1 << 63:
                raise self._error(node, "an integer above 2^63 - 1")
            return -value if is_negative else value
        if isinstance(value, str) and not is_negative:
            return value
        if isinstance(constant, ast.Name):
            raise self._error(node, "expected a value; a string stands in quotes")
        raise self._error(node, "expected a number, a string in quotes, True or False (None: 'is None')")

    def _error(self, node: ast.expr, reason: str) -> FilterError:
        line = self._text.encode()  # the parser counts bytes
        start = len(line[: node.col_offset].decode(errors="replace"))
        end = len(line[: node.end_col_offset or node.col_offset].decode(errors="replace"))
        return _at(self._text, start, end, reason)


def _at(text: str, start: int, end: int, reason: str) -> FilterError:
    """Return an error that marks some characters of the text."""
    end = max(end, start)
    shown = f"{text[:start]}>>>{text[start:end]}<<<{text[end:]}"
    return FilterError(f"{reason}, at character {start + 1}: {shown}")
