"""Filters as text."""

import dataclasses
import re

import numpy as np
import pyarrow as pa
import pytest

from annvq.errors import FilterError
from annvq.index.filters import dialect
from annvq.index.filters.given import Filter
from annvq.index.filters.text import read
from annvq.index.rows.ids import as_ids
from annvq.index.rows.segment import Segment
from annvq.index.rows.snapshot import Snapshot

ROWS = pa.table(
    {
        "lang": ["de", "en", None, "fr"],
        "year": [1999, 2000, 2001, None],
        "good": [True, False, True, None],
        "a b": [-1.5, 2, 3, 4],
        "tags": [["x"], ["x", "y"], [], None],
        "at": [{"page": 3}, {"page": None}, None, {"page": 7}],
        "payload": ['{"page": 3, "by": {"name": "Ann"}}', '{"page": "x"}', "no JSON", None],
    }
)


@pytest.mark.parametrize(
    ("text", "rows"),
    [
        ('lang == "de"', [0]),
        ("lang != 'de'", [1, 2, 3]),
        ("year >= 2000", [1, 2]),
        ("2000 <= year", [1, 2]),
        ("1999 < year <= 2001", [1, 2]),
        ('lang in ["de", "fr"]', [0, 3]),
        ('lang not in ("de", "fr")', [1, 2]),
        ("lang is None", [2]),
        ("lang is not None and year is not None", [0, 1]),
        ("good", [0, 2]),
        ("not good", [1, 3]),
        ("good == True or year == 2000", [0, 1, 2]),
        ('(lang == "de" or lang == "en") and not year < 2000', [1]),
        ('column("a b") > -2 and column("a b") < 2.5', [0, 1]),
        ('lang == "de"\nor year == 2001', [0, 2]),
        ("year < year", []),
        ("year == year", [0, 1, 2]),
        ("year != year", [3]),
        ("at.page > year", []),
        ('"x" in tags', [0, 1]),
        ('"y" not in tags', [0, 2, 3]),
        ('"e" in lang', [0, 1]),
        ("at.page >= 3", [0, 3]),
        ("at.page is None", [1, 2]),
        ("payload.page == 3", [0]),
        ("payload.page == 'x'", [1]),
        ("payload.by.name.startswith('A')", [0]),
        ("payload.by is not None", [0]),
        ("lang.startswith('f') or lang.endswith('n')", [1, 3]),
        ("lang.contains('e') and not lang.like('d_')", [1]),
        ('column("at").page == 7', [3]),
        ('column("at.page") == 7', [3]),
        ("year == 99999999999999999999 or year < 1e300", [0, 1, 2]),
    ],
)
def test_texts(text, rows):
    assert passing(text) == rows


def passing(given):
    segment = Segment(np.array([0, 4]), {}, as_ids(None, 4), np.arange(4, dtype=np.uint32), ROWS)
    snapshot = Snapshot.of([segment])
    narrowed = Filter.parse(given, snapshot).narrowed(snapshot)
    return np.flatnonzero(narrowed.segments[0].allow).tolist()


@pytest.mark.parametrize(
    ("text", "given"),
    [
        ("lang == 'de'", {"lang": "de"}),
        ("lang != 'de'", {"lang": {"$ne": "de"}}),
        ("2000 <= year", {"year": {"$gte": 2000}}),
        ("lang in ['de', 'fr'] and year < 2000", {"lang": {"$in": ["de", "fr"]}, "year": {"$lt": 2000}}),
        ("not (lang == 'de' or good)", {"$not": {"$or": [{"lang": "de"}, {"good": True}]}}),
        ("lang is None", {"lang": None}),
        ("'x' in tags", {"tags": {"$contains": "x"}}),
        ("payload.page >= 3", {"payload.page": {"$gte": 3}}),
    ],
)
def test_a_text_is_the_same_condition_as_data(text, given):
    assert str(without_places(read(text))) == str(dialect.read(given))


def without_places(condition):
    if dataclasses.is_dataclass(condition):
        changed = {name: without_places(value) for name, value in vars(condition).items() if name != "place"}
        return dataclasses.replace(condition, **changed, **({"place": None} if hasattr(condition, "place") else {}))
    return tuple(map(without_places, condition)) if isinstance(condition, tuple) else condition


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
        ("year in lang.x()", "lang.x()", "expected a column"),
        ("lang.startswith('a', 1)", "lang.startswith('a', 1)", "one value"),
        ("lang.startswith(year)", "year", "in quotes"),
        ("lang in [de]", "de", "in quotes"),
        ("lang is 5", "5", "None after"),
        ("__import__('os').system('x')", None, "expected a"),
        ("open('x') == 1", "open('x')", "expected a column"),
        ("column(5) == 1", "column(5)", "expected a column"),
        ("[x for x in y]", "[x for x in y]", "expected a condition"),
        ("(lambda: 1)()", "(lambda: 1)()", "expected a column"),
        ("year == -True", "-True", "expected a number"),
    ],
)
def test_anything_else_is_refused_where_it_stands(text, marked, reason):
    if reason is None:
        assert read(text) is not None  # whether a column is boolean is known to the index
        return
    with pytest.raises(FilterError, match=re.escape(reason)) as refused:
        read(text)
    if marked is not None:
        assert f">>>{marked}<<<" in str(refused.value)


def test_texts_without_end_are_refused():
    for text in ("(" * 5000 + "x" + ")" * 5000, "not " * 2400 + "x", "x" * 20_000, "a\0b"):
        with pytest.raises(FilterError):
            read(text)


@pytest.mark.parametrize(
    ("text", "marked", "reason"),
    [
        ("lagn == 'ä' or year > 3", "lagn == 'ä'", "no column 'lagn'; attributes: lang: string"),
        ("year > 3 and lang > 3", "lang > 3", "3 of type int, but the column is string"),
        ("year > True", "year > True", "True of type bool, but the column is int64"),
        ("year", "year", "True of type bool, but the column is int64"),
        ("tags == 'x'", "tags == 'x'", "$contains"),
        ("year.startswith('2')", "year.startswith('2')", "the column is int64, expected a text"),
        ("at.pages == 2", "at.pages == 2", "which has no field 'pages'"),
        ("year.page == 2", "year.page == 2", "which has no field 'page'"),
        ("payload.page == year", "payload.page == year", "in JSON"),
        ("lang < year", "lang < year", "no kernel"),
    ],
)
def test_what_does_not_fit_the_index_is_marked(text, marked, reason):
    with pytest.raises(FilterError) as refused:
        passing(text)
    assert reason in str(refused.value)
    assert f">>>{marked}<<<" in str(refused.value) or reason == "no kernel"
