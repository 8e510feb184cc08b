"""Filters as text."""

import re

import pyarrow as pa
import pytest

from annvq.cli.expression import parse
from annvq.errors import FilterError

ROWS = pa.table(
    {
        "lang": ["de", "en", None, "fr"],
        "year": [1999, 2000, 2001, None],
        "good": [True, False, True, None],
        "a b": [-1.5, 2, 3, 4],
    }
)


@pytest.mark.parametrize(
    ("text", "rows"),
    [
        ('lang == "de"', [0]),
        ("lang != 'de'", [1, 3]),
        ("year >= 2000", [1, 2]),
        ("2000 <= year", [1, 2]),
        ("1999 < year <= 2001", [1, 2]),
        ('lang in ["de", "fr"]', [0, 3]),
        ('lang not in ("de", "fr")', [1, 2]),
        ("lang is None", [2]),
        ("lang is not None and year is not None", [0, 1]),
        ("good", [0, 2]),
        ("not good", [1]),
        ("good == True or year == 2000", [0, 1, 2]),
        ('(lang == "de" or lang == "en") and not year < 2000', [1]),
        ('column("a b") > -2 and column("a b") < 2.5', [0, 1]),
        ('lang == "de"\nor year == 2001', [0, 2]),
        ("year < year", []),
    ],
)
def test_texts_are_expressions(text, rows):
    numbered = ROWS.append_column("row", pa.array(range(4)))
    assert numbered.filter(parse(text))["row"].to_pylist() == rows


@pytest.mark.parametrize(
    ("text", "marked", "reason"),
    [
        ('lang == "de" an year > 3', None, "syntax"),
        ("", None, "syntax"),
        ("lang = 'de'", None, "syntax"),
        ('lang == "ä" and (1 + 2)', "1 + 2", "expected a condition"),
        ("3 == 4", "3", "expected a column"),
        ("year", None, None),
        ("year == None", "None", "is None"),
        ("year in 5", "5", "list of values"),
        ("lang in [de]", "de", "in quotes"),
        ("lang is 5", "5", "None after"),
        ("__import__('os').system('x')", None, "expected a"),
        ("open('x') == 1", "open('x')", "expected a column"),
        ("column(5) == 1", "column(5)", "expected a column"),
        ("year == 99999999999999999999", "99999999999999999999", "2^63"),
        ("[x for x in y]", "[x for x in y]", "expected a condition"),
        ("(lambda: 1)()", "(lambda: 1)()", "expected a column"),
        ("year == -True", "-True", "expected a number"),
    ],
)
def test_anything_else_is_refused_where_it_stands(text, marked, reason):
    if reason is None:
        assert parse(text) is not None  # whether a column is boolean is known to the index
        return
    with pytest.raises(FilterError, match=re.escape(reason)) as refused:
        parse(text)
    if marked is not None:
        assert f">>>{marked}<<<" in str(refused.value)


def test_texts_without_end_are_refused():
    for text in ("(" * 5000 + "x" + ")" * 5000, "not " * 2400 + "x", "x" * 20_000, "a\0b"):
        with pytest.raises(FilterError):
            parse(text)
