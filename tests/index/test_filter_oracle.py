"""Conditions against plain Python over rows as dicts: segments, missing columns, null, removed rows, odd values."""

import datetime
import json
import math
import random
from decimal import Decimal

import numpy as np
import pyarrow as pa
import pytest

from annvq.errors import FilterError
from annvq.index.filters import columns, dialect, orders, rowset
from annvq.index.filters.given import Filter
from annvq.index.rows.attributes import as_attributes
from annvq.index.rows.ids import as_ids
from annvq.index.rows.segment import Segment
from annvq.index.rows.snapshot import Snapshot

BIG = 2**53
INTEGERS = [0, 1, -1, 2, 3, BIG, BIG + 1, BIG + 2, -BIG - 1, 2**63 - 1, -(2**63)]
FLOATS = [0.0, -0.0, 1.0, 0.5, 2.5, 0.1, float(BIG), 9.3e18, -1e300, math.inf, -math.inf, math.nan]
TEXTS = ["", "a", "ab", "abc", "b", "ä", "a%", "a_c", "\U0001f600", "é", "x\ny", "'; DROP TABLE rows; --", "$gt"]
DAYS = [datetime.date(1969, 12, 31), datetime.date(1970, 1, 1), datetime.date(2024, 2, 29)]
TIMES = [datetime.datetime(1969, 12, 31, 23, 59, 59, 999_999), datetime.datetime(2024, 2, 29, 12, 0, 0, 1)]
PRICES = [Decimal("9.99"), Decimal("-0.01"), Decimal("10.00"), Decimal("0.10")]
WIDE = [Decimal(10) ** 30, Decimal("0.5"), -(Decimal(10) ** 30)]


def json_value(rng, depth=0):
    kinds = [
        lambda: rng.choice([*INTEGERS, 10**25]), lambda: rng.choice([0.5, 1.0, 2.5, -1e300, float(BIG)]),
        lambda: rng.choice(TEXTS), lambda: rng.choice([True, False]), lambda: None,
        lambda: [rng.choice([1, 1.0, "a", "ab", True, None, {"b": 1}, BIG + 1]) for _ in range(rng.randrange(4))],
    ]  # fmt: skip
    if depth < 2:
        kinds.append(lambda: {key: json_value(rng, depth + 1) for key in rng.sample(["a", "b", "a.b"], 2)})
    return rng.choice(kinds)()


def payload(rng):
    if rng.random() < 0.1:
        return rng.choice(["", "no JSON", "[1]", "3", "null", '{"a":', "{}", '{"a": 1} x', "[" * 2000, '{"a": NaN}'])
    return json.dumps({key: json_value(rng) for key in rng.sample(["a", "b", "c", "a.b"], rng.randrange(4))})


COLUMNS = {
    "i": (pa.int64(), lambda rng: rng.choice(INTEGERS)),
    "u": (pa.uint64(), lambda rng: rng.choice([0, 1, BIG + 1, 2**63, 2**64 - 1])),
    "s": (pa.int8(), lambda rng: rng.randrange(-128, 128)),
    "f": (pa.float64(), lambda rng: rng.choice(FLOATS)),
    "h": (pa.float32(), lambda rng: float(np.float32(rng.choice([0.1, 0.5, 2.0, float(BIG), math.nan])))),
    "t": (pa.string(), lambda rng: rng.choice(TEXTS)),
    "o": (pa.bool_(), lambda rng: rng.choice([True, False])),
    "d": (pa.date32(), lambda rng: rng.choice(DAYS)),
    "w": (pa.timestamp("us"), lambda rng: rng.choice(TIMES)),
    "p": (pa.decimal128(10, 2), lambda rng: rng.choice(PRICES)),
    "q": (pa.decimal128(38, 2), lambda rng: rng.choice(WIDE)),
    "l": (pa.list_(pa.string()), lambda rng: [rng.choice([*TEXTS[:5], None]) for _ in range(rng.randrange(4))]),
    "n": (pa.list_(pa.int64()), lambda rng: [rng.choice(INTEGERS) for _ in range(rng.randrange(3))]),
    "m": (
        pa.struct([("a", pa.int64()), ("b.c", pa.string()), ("z", pa.struct([("y", pa.float64())]))]),
        lambda rng: {"a": rng.choice([*INTEGERS, None]), "b.c": rng.choice(TEXTS),
                     "z": rng.choice([None, {"y": 0.5}, {"y": None}])},
    ),
    "x.y": (pa.int64(), lambda rng: rng.choice([1, 2])),
    "x": (pa.struct([("y", pa.int64())]), lambda rng: {"y": 3}),
    "j": (pa.string(), payload),
    "j2": (pa.large_string(), payload),
    "null": (pa.null(), lambda rng: None),
}  # fmt: skip


def made_rows(rng, n):
    """Return rows as dicts and their table; some columns are left out."""
    chosen = [name for name in COLUMNS if rng.random() < 0.8]
    rows = [{name: None if rng.random() < 0.15 else COLUMNS[name][1](rng) for name in chosen} for _ in range(n)]
    table = pa.table({name: pa.array([row[name] for row in rows], COLUMNS[name][0]) for name in chosen})
    return rows, table if chosen else None


def made_snapshot(rng):
    rows, segments = [], []
    for n in (rng.randrange(1, 60), rng.randrange(1, 20), 1):
        some, table = made_rows(rng, n)
        segment = Segment(np.array([0, n]), {}, as_ids(None, n), np.arange(n, dtype=np.uint32), table)
        removed = [row for row in range(n) if rng.random() < 0.1]
        segments.append(segment.without(np.array(removed)) if removed else segment)
        rows += [None if row in removed else one for row, one in enumerate(some)]
    return rows, Snapshot.of(segments)


# The oracle: a row is a dict; what is missing is None.


def looked_up(row, path):
    column = next(path[: len(path) - cut] for cut in range(len(path)) if path[: len(path) - cut] in COLUMNS)
    found, rest = row.get(column), path[len(column) + 1 :]
    if rest and column in ("j", "j2"):
        try:
            found = json.loads(found) if found is not None else None
        except (ValueError, RecursionError):
            return None
    while rest:
        if not isinstance(found, dict):
            return None
        parts = rest.split(".")
        heads = [".".join(parts[:end]) for end in range(len(parts), 0, -1)]
        head = next((head for head in heads if head in found), None)
        if head is None:
            return None
        found, rest = found[head], rest[len(head) + 1 :]
    return found


def family(value):
    if isinstance(value, bool):
        return "bool"
    return "number" if isinstance(value, int | float | Decimal) else type(value).__name__


def same(a, b):
    return family(a) == family(b) and a == b


def like(text, pattern):
    """Match by hand, without regular expressions."""
    if not pattern:
        return not text
    if pattern[0] == "%":
        return any(like(text[start:], pattern[1:]) for start in range(len(text) + 1))
    if pattern[0] == "\\" and len(pattern) > 1:
        return text[:1] == pattern[1] and like(text[1:], pattern[2:])
    return bool(text) and pattern[0] in ("_", text[0]) and like(text[1:], pattern[1:])


def compared(found, operator, value):
    if operator == "$exists":
        return (found is not None) == value
    if operator == "$not":
        return not all(compared(found, *one) for one in value.items())
    if operator in ("$ne", "$nin", "$not_contains"):
        turned = {"$ne": "$eq", "$nin": "$in", "$not_contains": "$contains"}[operator]
        return not compared(found, turned, value)
    if operator == "$eq" and value is None:
        return found is None
    if operator == "$in" and found is None:
        return None in value
    if found is None:
        return False
    if operator in ("$contains_any", "$contains_all"):
        held = [any(same(one, wanted) for one in found) for wanted in value] if isinstance(found, list) else [False]
        return any(held) if operator == "$contains_any" else all(held) if value else True
    if operator == "$contains" and isinstance(found, list):
        return any(same(one, value) for one in found)
    if operator == "$in":
        return any(same(found, one) for one in value)
    if family(found) != family(value) or found != found or value != value:  # NaN
        return False
    return {
        "$eq": lambda: found == value, "$gt": lambda: found > value, "$gte": lambda: found >= value,
        "$lt": lambda: found < value, "$lte": lambda: found <= value, "$ends_with": lambda: found.endswith(value),
        "$contains": lambda: isinstance(found, str) and value in found,
        "$starts_with": lambda: isinstance(found, str) and found.startswith(value),
        "$like": lambda: like(found, value),
    }[operator]()  # fmt: skip


def holds(row, given):
    for key, value in given.items():
        if key in ("$and", "$or"):
            passed = [holds(row, one) for one in value]
            if not (all if key == "$and" else any)(passed):
                return False
        elif key == "$not":
            if holds(row, value):
                return False
        else:
            found = looked_up(row, key)
            tests = value.items() if isinstance(value, dict) else [("$eq", value)]
            if not all(compared(found, *test) for test in tests):
                return False
    return True


# Filters at random

VALUES = {
    "number": [*INTEGERS, *FLOATS, 10**25, -(10**400), 128, 0.1, float(np.float32(0.1)), Decimal("0.5")],
    "decimal": [*PRICES, *WIDE, 10, Decimal("0.001"), 0.5],
    "text": [*TEXTS, "b" * 100_000, "A"],
    "bool": [True, False],
    "date": [*DAYS, datetime.date(1, 1, 1), datetime.date(9999, 12, 31)],
    "datetime": [*TIMES, datetime.datetime(1, 1, 1), datetime.datetime(9999, 12, 31)],
}
PATHS = {
    **dict.fromkeys(("i", "u", "s", "f", "h", "m.a", "m.z.y", "x.y"), "number"),
    **dict.fromkeys(("t", "m.b.c", "j"), "text"), "o": "bool", "d": "date", "w": "datetime", "p": "decimal",
    "q": "decimal", "l": "list of text", "n": "list of number", "m": "struct",
    **dict.fromkeys(("j.a", "j.a.b", "j.c", "j2.b", "j2.a.a.b", "j.none"), "JSON"), "null": "number",
}  # fmt: skip
PATTERNS = ["a%", "%b", "a_c", "%", "", "_", "a\\%", "%\n%"]


def field_filter(rng, path, kind):
    if kind == "struct" or rng.random() < 0.1:
        return {"$exists": rng.choice([True, False])}
    if rng.random() < 0.1:
        return {"$not": field_filter(rng, path, kind)}
    if kind.startswith("list of"):
        values = VALUES[kind.removeprefix("list of ")]
        if rng.random() < 0.5:
            return {rng.choice(["$contains", "$not_contains"]): rng.choice(values)}
        return {rng.choice(["$contains_any", "$contains_all"]): rng.sample(values, rng.randrange(3))}
    if kind == "JSON":
        operators = ["$eq", "$ne", "$gt", "$lte", "$in", "$nin", "$contains", "$not_contains", "$contains_any",
                     "$contains_all", "$starts_with"]  # fmt: skip
        values = [value for name in ("number", "text", "bool") for value in VALUES[name]]
    else:
        operators = ["$eq", "$ne", "$gt", "$gte", "$lt", "$lte", "$in", "$nin"]
        values = VALUES[kind]
        if kind == "text":
            operators += ["$contains", "$not_contains", "$starts_with", "$ends_with", "$like"]
    operator = rng.choice(operators)
    if operator in ("$in", "$nin"):
        return {operator: [rng.choice([*values, None]) for _ in range(rng.choice([0, 1, 3, 100]))]}
    if operator in ("$contains_any", "$contains_all"):
        return {operator: rng.sample(values, rng.randrange(3))}
    if operator == "$starts_with":
        values = VALUES["text"]
    if operator == "$like":
        values = PATTERNS
    return {operator: rng.choice([None, *values] if operator in ("$eq", "$ne") else values)}


def random_filter(rng, paths, depth=0):
    if depth < 3 and rng.random() < 0.4:
        kind = rng.choice(["$and", "$or", "$not"])
        if kind == "$not":
            return {"$not": random_filter(rng, paths, depth + 1)}
        return {kind: [random_filter(rng, paths, depth + 1) for _ in range(rng.randrange(1, 4))]}
    return {path: field_filter(rng, path, PATHS[path]) for path in rng.sample(paths, min(rng.randrange(3), len(paths)))}


def passing(given, snapshot):
    narrowed = Filter.parse(given, snapshot).narrowed(snapshot)
    found = np.concatenate([np.flatnonzero(segment.allow) + segment.base for segment in narrowed.segments])
    assert narrowed.searchable_count == len(found)
    assert narrowed.searchable_per_list.tolist() == [len(found)]
    return found.tolist()


@pytest.mark.parametrize("few", [1, 32])
@pytest.mark.parametrize("seed", range(12))
def test_random_filters(seed, few, monkeypatch):
    monkeypatch.setattr(rowset, "_FEW", few)  # sets of rows as numbers, or as masks
    monkeypatch.setattr(orders, "_SEARCHED", 64 if few == 1 else 0)
    rng = random.Random(seed)
    rows, snapshot = made_snapshot(rng)
    held = set(snapshot.schema.names)
    paths = [path for path in PATHS if any(path == name or path.startswith(f"{name}.") for name in held)]
    paths = [path for path in paths if path != "x.y" or "x.y" in held]
    for _ in range(150):
        given = random_filter(rng, paths)
        expected = [number for number, row in enumerate(rows) if row is not None and holds(row, given)]
        assert passing(given, snapshot) == expected, given


def one_segment(columns_of):
    table = as_attributes(columns_of, None)
    n = table.num_rows
    return Snapshot.of([Segment(np.array([0, n]), {}, as_ids(None, n), np.arange(n, dtype=np.uint32), table)])


def test_columns_that_widen_from_segment_to_segment():
    tables = [
        pa.table({"a": pa.array([1, None], pa.int8()), "w": pa.array([TIMES[0], None], pa.timestamp("us"))}),
        pa.table({"a": pa.array([300, 1], pa.int64()), "w": pa.array([TIMES[1], TIMES[0]], pa.timestamp("ns"))}),
        pa.table({"b": pa.array(["x"])}),
    ]
    segments = [
        Segment(np.array([0, len(t)]), {}, as_ids(None, len(t)), np.arange(len(t), dtype=np.uint32), t) for t in tables
    ]
    snapshot = Snapshot.of(segments)
    assert passing({"a": 1}, snapshot) == [0, 3]
    assert passing({"a": {"$gt": 200}}, snapshot) == [2]
    assert passing({"a": {"$ne": 1}}, snapshot) == [1, 2, 4]
    assert passing({"w": TIMES[0]}, snapshot) == [0, 3]
    assert passing({"b": "x"}, snapshot) == [4]
    assert passing({}, snapshot) == [0, 1, 2, 3, 4]


@pytest.mark.parametrize(
    ("column", "given", "rows"),
    [
        (DAYS, "2024-02-29", [2]),
        (DAYS, {"$lt": "1970-01-01"}, [0]),
        (TIMES, {"$gte": "2024-02-29T12:00:00.000001"}, [1]),
        (TIMES, {"$lt": "1970-01-01"}, [0]),
        (TIMES, {"$gt": datetime.date(1970, 1, 1)}, [1]),
        (TIMES, np.datetime64("1969-12-31T23:59:59.999999000"), [0]),
        ([t.replace(tzinfo=datetime.timezone.utc) for t in TIMES], {"$gt": "1970-01-01T00:00:00Z"}, [1]),
        (PRICES, {"$gt": "9.98"}, [0, 2]),
        (PRICES, {"$in": ["9.99", 10, Decimal("0.1")]}, [0, 2, 3]),
        (PRICES, {"$lt": 0.5}, [1, 3]),
        ([datetime.time(1), datetime.time(2)], {"$gt": "01:30"}, [1]),
        ([datetime.timedelta(1), datetime.timedelta(2)], {"$gt": datetime.timedelta(1)}, [1]),
        ([b"ab", b"b"], {"$lt": b"b"}, [0]),
        (pa.array([b"ab", b"bc"], pa.binary(2)), {"$in": [b"abc", b"bc"]}, [1]),
        (np.array([1, 2], np.float16), {"$gt": 1}, [1]),
        ([1, 2], np.int32(2), [1]),
        ([1, 2], {"$in": np.array([2, 9])}, [1]),
        ([1, 2], {"$in": pa.array([2, None])}, [1]),
        (["a", "b"], {"$in": {"b"}}, [1]),
        (pa.array(["a", "b", "a"]).dictionary_encode(), "a", [0, 2]),
        (pa.array([[1, 2], None, [2, 3]], pa.list_(pa.int64(), 2)), {"$contains": 2}, [0, 2]),
    ],
)
def test_values_of_types(column, given, rows):
    assert passing({"c": given}, one_segment({"c": column})) == rows


@pytest.mark.parametrize(
    ("column", "given", "reason"),
    [
        ([1], "1", "'1' of type str, but the column is int64"),
        ([1], True, "True of type bool, but the column is int64"),
        ([True], 1, "1 of type int, but the column is bool"),
        (["a"], 1, "1 of type int, but the column is string"),
        (["a"], "\ud800", "expected a text in Unicode"),
        ([1], {"$gt": None}, "None of type NoneType"),
        ([1], [1], "type list"),
        ([1], {"$in": 5}, r"\$in of 5, expected a list"),
        ([1], {"$in": "15"}, r"\$in of '15', expected a list"),
        ([1], {"$exists": 1}, "expected True or False"),
        ([1], {"$starts_with": "1"}, "expected a text"),
        ([1], {"$contains": 1}, "expected a text or a list"),
        (["a"], {"$contains_any": ["a"]}, "expected a list"),
        ([["a"]], {"$contains": 1}, "1 of type int, but the column is string"),
        ([["a"]], ["a"], "contains"),
        ([[["a"]]], {"$contains": "a"}, "list of list"),
        ([{"a": 1}], 1, "exists"),
        ([DAYS[0]], TIMES[0], "expected a date"),
        ([DAYS[0]], "yesterday", "expected a date"),
        ([TIMES[0]], TIMES[0].replace(tzinfo=datetime.timezone.utc), "without a time zone"),
        ([TIMES[0].replace(tzinfo=datetime.timezone.utc)], "2024-01-31", "with a time zone"),
        ([Decimal("9.99")], 9.99, "expected a Decimal"),
        ([Decimal("9.99")], "1e999999999", "expected a Decimal"),
        ([1], Decimal("1e999999999"), "expected a number"),
        (["a"], {"$like": "a_" * 5_000_000}, "a pattern of 10,000,000 characters"),
        (['{"a": 1}'], {"$regex": "a"}, "unknown operator"),
    ],
)
def test_values_that_do_not_fit(column, given, reason):
    with pytest.raises(FilterError, match=reason):
        passing({"c": given}, one_segment({"c": column}))


@pytest.mark.parametrize(
    "given",
    [{"$and": []}, {"$or": {}}, {"$or": "ab"}, {"$and": [1]}, {"$nor": [{}]}, {"$not": 3}, {1: 2}, {"c": {}},
     {"c": {"$not": 3}}, {"c": {1: 2}}, {"c": {"d": 2}}, {"d": 1}, {"c.d": 1}, {"c": {"$eq": object()}},
     {"": 1}, {".": 1}, {"c" + ".d" * 100_000: 1}, {"d" * 1_000_000: 1}],
)  # fmt: skip
def test_what_is_no_filter(given):
    with pytest.raises(FilterError) as refused:
        passing(given, one_segment({"c": [1]}))
    assert len(str(refused.value)) < 1000


def test_depth():
    snapshot = one_segment({"c": [1, 2]})
    given, field = {"c": 1}, {"$eq": 1}
    for _ in range(50):
        given, field = {"$not": given}, {"$not": field}
    assert passing(given, snapshot) == passing({"c": field}, snapshot) == [0]
    for _ in range(100_000):
        given, field = {"$and": [given]}, {"$not": field}
    for deep in (given, {"c": field}):
        with pytest.raises(FilterError, match="levels deep"):
            passing(deep, snapshot)
    while given.get("$and"):  # what is nested so deeply would be freed by recursion
        given = given["$and"].pop()
    while field.get("$not"):
        field = field.pop("$not")


def test_a_million_values():
    numbers = np.arange(0, 3000, 3)
    snapshot = one_segment(
        {"c": numbers, "t": [str(number) for number in numbers], "l": [[n] for n in numbers.tolist()]}
    )
    values = list(range(-500_000, 500_000)) + [2**70, 0.5]
    assert len(passing({"c": {"$in": values}}, snapshot)) == 1000
    assert passing({"c": {"$nin": values}}, snapshot) == []
    assert len(passing({"t": {"$in": [str(value) for value in values]}}, snapshot)) == 1000
    assert len(passing({"l": {"$contains_any": values[:-1]}}, snapshot)) == 1000
    assert len(passing({"$or": [{"c": value} for value in range(10_000)]}, snapshot)) == 1000
    with pytest.raises(FilterError, match="'x' of type str"):
        passing({"c": {"$in": [*values, "x"]}}, snapshot)


def test_a_segment_is_read_once_per_path(monkeypatch):
    reads = []
    read = columns._read
    monkeypatch.setattr(columns, "_read", lambda column, path: reads.append(path) or read(column, path))
    snapshot = one_segment({"a": [1, 2], "j": ['{"a": 1}', '{"b": 2}']})
    for _ in range(3):
        passing({"a": 1, "j.a": {"$gt": 0}}, snapshot)
        passing({"$or": [{"a": 2}, {"j.a": "x"}]}, snapshot)
    assert len(reads) == 2
    for number in range(100):
        passing({f"j.x{number}": 1}, snapshot)
    kept = columns._KEPT[id(snapshot.segments[0].attributes)][1]
    assert len(kept) == columns._MOST_KEPT
    before = len(columns._KEPT)
    del snapshot
    assert len(columns._KEPT) == before - 1


def test_no_attributes():
    segment = Segment(np.array([0, 2]), {}, as_ids(None, 2), np.arange(2, dtype=np.uint32), None)
    snapshot = Snapshot.of([segment])
    assert passing({}, snapshot) == [0, 1]
    with pytest.raises(FilterError, match="no attributes"):
        passing({"a": 1}, snapshot)


def test_many_columns_are_not_all_named():
    with pytest.raises(FilterError, match="and 970 more"):
        passing({"d": 1}, one_segment({f"c{number}": [1] for number in range(1000)}))


def test_conditions_compare():
    assert dialect.read({"a": 1}) == dialect.read({"a": {"$eq": 1}})
