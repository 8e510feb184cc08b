"""Filters by id, mask and expression; attributes."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from annvq import errors
from annvq.index.filters.given import Filter
from annvq.index.rows.attributes import as_attributes
from annvq.index.rows.ids import as_ids
from annvq.index.rows.segment import Segment
from annvq.index.rows.snapshot import Snapshot

IDS = as_ids([10, 11, 12, 13, 14], 5)
NAMES = as_ids(["a", "b", "c", "d", "e"], 5)
TABLE = pa.table(
    {
        "year": pa.array([1999, None, 2003, 2010, 2003]),
        "lang": ["en", "de", "en", None, "fr"],
        "price": [1.5, 2.5, float("nan"), 4.5, 5.5],
        "tags": [["x"], ["y"], [], None, ["x", "y"]],
        "ok": [True, False, None, True, False],
    }
)


def snapshot_of(ids=IDS, table=TABLE, positions=None, removed=()):
    """Return a snapshot of one segment, in one list."""
    positions = np.arange(len(ids)) if positions is None else positions
    offsets = np.array([0, len(ids)])
    segment = Segment(offsets, {}, ids, np.array(positions, np.uint32), table)
    return Snapshot.of([segment.without(np.array(removed)) if len(removed) else segment])


def allowed(given, ids=IDS, table=TABLE, **options):
    snapshot = snapshot_of(ids, table, **options)
    narrowed = Filter.parse(given, snapshot).narrowed(snapshot)
    allow = narrowed.segments[0].allow
    assert allow.dtype == np.uint8
    assert allow.shape == (len(ids),)
    assert narrowed.searchable_per_list.tolist() == [np.count_nonzero(allow)]
    assert narrowed.searchable_count == np.count_nonzero(allow)
    return np.flatnonzero(allow).tolist()


class TestIds:
    @pytest.mark.parametrize(
        "given", [[12, 10], (12, 10), {12, 10}, np.array([12, 10, 10]), pa.array([12, 10]), range(10, 14, 2),
                  dict.fromkeys([12, 10]).keys(), np.array([12, 10], object)]
    )  # fmt: skip
    def test_integers(self, given):
        assert allowed(given) == [0, 2]

    @pytest.mark.parametrize("given", [["c", "a"], np.array(["c", "a"]), pa.array(["c", "a"])])
    def test_strings(self, given):
        assert allowed(given, NAMES) == [0, 2]

    def test_unknown_ids_do_no_harm(self):
        assert allowed([99, 13, -5]) == [3]
        assert allowed(["zz", "d"], NAMES) == [3]

    def test_nothing_is_allowed(self):
        for given in ([], np.empty(0, np.int64), pa.array([], pa.string()), [99]):
            assert allowed(given) == []
        assert allowed([], NAMES) == []

    def test_the_wrong_kind(self):
        with pytest.raises(errors.FilterError, match=r"str.*int"):
            allowed(["a"])
        with pytest.raises(errors.FilterError, match=r"int.*str"):
            allowed([1], NAMES)

    @pytest.mark.parametrize(
        "given",
        [[1.5], 7, [1, "a"], object(), np.zeros((2, 2), int), [None], True, {True, False}, [True, None],
         [True, 1], [[True, False]], [[10, 11]], np.array(10), np.array([1.0, 0, 1, 0, 0]), dict(a=1).values(), None,
         np.array([True, None], object), pa.array([[True]]), pa.scalar(True)],
    )  # fmt: skip
    def test_what_is_no_filter(self, given):
        with pytest.raises(errors.FilterError, match="boolean mask, a condition as dict or text"):
            allowed(given)

    def test_integers_that_may_be_a_mask(self):
        zero_one = as_ids([0, 1, 2, 3, 4], 5)
        for given in (np.array([1, 0, 0, 1, 0]), [0, 0, 0, 0, 0], (1, 1, 1, 1, 1), pa.array([0, 1, 1, 1, 1])):
            for ids in (IDS, zero_one):
                with pytest.raises(errors.FilterError, match=r"5 integers, all 0 or 1, for 5 vectors.*astype\(bool\)"):
                    allowed(given, ids)
            assert allowed(np.asarray(given).astype(bool), zero_one) == np.flatnonzero(given).tolist()
            assert allowed(np.unique(given), zero_one) == np.unique(given).tolist()
        assert allowed([0, 1, 1, 0], zero_one) == [0, 1]  # too few for a mask
        assert allowed([0, 1, 1, 0, 1, 1], zero_one) == [0, 1]
        assert allowed([0, 1, 2, 1, 0], zero_one) == [0, 1, 2]
        assert allowed([0, 1, -1, 1, 0], zero_one) == [0, 1]
        two = as_ids([0, 1], 2)
        assert allowed([1, 0], two, None) == [0, 1]  # each id once
        with pytest.raises(errors.FilterError, match="2 integers"):
            allowed([1, 1], two, None)
        assert allowed([0], as_ids([0], 1), None) == [0]


class TestMasks:
    @pytest.mark.parametrize(
        "make",
        [np.array, list, tuple, pa.array, lambda x: [np.bool_(item) for item in x], lambda x: np.array(x, object),
         lambda x: pa.chunked_array([x[:2], x[2:]]), lambda x: np.repeat(x, 2)[::2], lambda x: np.ma.array(x)],
    )  # fmt: skip
    def test_kinds(self, make):
        assert allowed(make([True, False, False, True, False])) == [0, 3]

    def test_null_is_false(self):
        assert allowed(pa.array([True, None, False, None, True])) == [0, 4]
        assert allowed(pa.chunked_array([[True, None], [False, None, True]])) == [0, 4]

    def test_pandas(self):
        pandas = pytest.importorskip("pandas")
        plain = pandas.Series([True, False, False, True, False], index=[4, 3, 2, 1, 0])
        assert allowed(plain) == [0, 3]
        for dtype in ("boolean", "bool[pyarrow]"):
            assert allowed(pandas.Series([True, None, False, None, True], dtype=dtype)) == [0, 4]
            assert allowed(pandas.array([True, None, False, None, True], dtype=dtype)) == [0, 4]
        assert allowed(pandas.Series([True, False, False, True, False], dtype=object)) == [0, 3]
        with pytest.raises(errors.FilterError, match="NoneType"):
            allowed(pandas.Series([True, None, False, True, False], dtype=object))
        assert allowed(pandas.Series([13, 10])) == [0, 3]

    def test_polars(self):
        polars = pytest.importorskip("polars")
        assert allowed(polars.Series([True, False, False, True, False])) == [0, 3]
        assert allowed(polars.Series([True, None, False, None, True])) == [0, 4]
        assert allowed(polars.Series([13, 10])) == [0, 3]

    def test_masked_values_are_refused(self):
        with pytest.raises(errors.FilterError, match="masked"):
            allowed(np.ma.array([True, False, False, True, False], mask=[1, 0, 0, 0, 0]))

    def test_masks_go_by_the_order_of_insertion_of_what_is_left(self):
        positions = [4, 0, 3, 2, 1]
        assert allowed(np.array([True, False, False, True, False]), positions=positions) == [1, 2]
        mask = np.array([True, False, True])
        assert allowed(mask, positions=positions, removed=[1, 4]) == [0, 3]
        assert allowed(np.zeros(0, bool), removed=[0, 1, 2, 3, 4]) == []
        segments = [snapshot_of(as_ids(range(n), n), None).segments[0] for n in (3, 1, 2)]
        narrowed = Filter.parse([True, False, True, False, True, False], snapshot := Snapshot.of(segments))
        narrowed = narrowed.narrowed(snapshot)
        assert [segment.allow.tolist() for segment in narrowed.segments] == [[1, 0, 1], [0], [1, 0]]

    def test_damaged_positions(self):
        for positions in ([0, 1, 2, 3, 5], [0, 1, 2, 3, 3]):
            with pytest.raises(errors.CorruptIndexError, match="section positions"):
                allowed(np.ones(5, bool), positions=positions)

    def test_length(self):
        for mask in (np.ones(4, bool), np.ones(6, bool), np.zeros(0, bool)):
            with pytest.raises(errors.FilterError, match=f"length {len(mask)}, but the index holds 5"):
                allowed(mask)
        for mask in (np.ones((5, 1), bool), np.array(True), np.bool_(True)):
            with pytest.raises(errors.FilterError, match="shape"):
                allowed(mask)


class TestExpressions:
    @pytest.mark.parametrize(
        ("expression", "rows"),
        [
            (pc.field("year") > 2000, [2, 3, 4]),
            (pc.field("year").is_null(), [1]),
            (~(pc.field("year") > 2000), [0]),
            ((pc.field("lang") == "en") & (pc.field("year") < 2000), [0]),
            ((pc.field("lang") == "en") | (pc.field("year") == 2003), [0, 2, 4]),
            (pc.field("lang").isin(["de", "fr"]), [1, 4]),
            (pc.field("price") > 2, [1, 3, 4]),
            (pc.field("year") > 1999.5, [2, 3, 4]),
            (pc.field("ok"), [0, 3]),
            (pc.list_value_length(pc.field("tags")) > 0, [0, 1, 4]),
            (pc.starts_with(pc.field("lang"), "e"), [0, 2]),
            (pc.scalar(True), [0, 1, 2, 3, 4]),
            (pc.scalar(False), []),
        ],
        ids=str,
    )
    def test_rows(self, expression, rows):
        assert allowed(expression) == rows

    def test_order_of_rows_in_large_tables_of_many_chunks(self):
        numbers = np.random.default_rng(0).integers(0, 1000, 200_000)
        chunks = [numbers[start : start + 999] for start in range(0, len(numbers), 999)]
        table = pa.table({"number": pa.chunked_array(chunks)})
        rows = allowed(pc.field("number") < 500, as_ids(None, len(numbers)), table)
        np.testing.assert_array_equal(rows, np.flatnonzero(numbers < 500))

    def test_slices(self):
        assert allowed(pc.field("year") > 2000, as_ids([1, 2], 2), TABLE.slice(1, 2)) == [1]

    def test_no_rows(self):
        assert allowed(pc.field("year") > 2000, as_ids([], 0), TABLE.slice(0, 0)) == []

    @pytest.mark.parametrize(
        "expression",
        [pc.field("yaer") > 3, pc.field("year") == "x", pc.field("tags") > 2, pc.field("lang") + 1],
        ids=str,
    )
    def test_the_attributes_are_named(self, expression):
        with pytest.raises(errors.FilterError, match="attributes: year: int64, lang: string"):
            allowed(expression)

    def test_the_value_must_be_boolean(self):
        with pytest.raises(errors.FilterError, match="its value is int64"):
            allowed(pc.field("year") + 1)

    def test_no_attributes(self):
        with pytest.raises(errors.FilterError, match="no attributes"):
            allowed(pc.field("year") > 3, table=None)

    def test_removed_rows_do_not_pass(self):
        assert allowed(pc.field("year") > 2000, removed=[2]) == [3, 4]
        assert allowed([12, 13], removed=[2]) == [3]


class TestAttributes:
    @pytest.mark.parametrize(
        "x",
        [
            pa.table({"a": [1, 2]}),
            pa.record_batch({"a": [1, 2]}),
            {"a": [1, 2]},
            {"a": np.array([1, 2])},
            [{"a": 1}, {"a": 2}],
        ],
    )
    def test_kinds(self, x):
        assert as_attributes(x, 2).to_pydict() == {"a": [1, 2]}
        assert as_attributes(x, None).num_rows == 2
        with pytest.raises(errors.ShapeError, match="2 rows for 3"):
            as_attributes(x, 3)

    def test_pandas(self):
        pandas = pytest.importorskip("pandas")
        frame = pandas.DataFrame({"a": [1, 2]}, index=[7, 8])
        assert as_attributes(frame, 2).to_pydict() == {"a": [1, 2]}

    @pytest.mark.parametrize("x", [{"a": [1, 2], "b": [1]}, [1, 2], "ab", 7, {"a": "xy"}, np.zeros((2, 2))])
    def test_refused(self, x):
        with pytest.raises(errors.FilterError):
            as_attributes(x, 2)

    def test_names_are_unique(self):
        with pytest.raises(errors.FilterError, match="unique"):
            as_attributes(pa.Table.from_arrays([pa.array([1]), pa.array([2])], ["a", "a"]), 1)
