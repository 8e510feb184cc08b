"""Filters by id, mask and expression; attributes."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from annvq import errors
from annvq.index.attributes import as_attributes
from annvq.index.filters import Filter, resolve
from annvq.index.ids import as_ids

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


def allowed(given, ids=IDS, table=TABLE):
    mask = resolve(given, ids, table)
    assert mask.dtype == bool
    assert mask.shape == (len(ids),)
    return np.flatnonzero(mask).tolist()


class TestIds:
    @pytest.mark.parametrize(
        "given", [[12, 10], (12, 10), {12, 10}, np.array([12, 10, 10]), pa.array([12, 10]), range(10, 14, 2)]
    )
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

    @pytest.mark.parametrize("given", [[1.5], "a", 7, [1, "a"], {"a": 1}, object(), np.zeros((2, 2), int), [None]])
    def test_what_is_no_filter(self, given):
        with pytest.raises(errors.FilterError, match="boolean mask, or a pyarrow"):
            allowed(given)


class TestMasks:
    @pytest.mark.parametrize("make", [np.array, list, tuple, pa.array, lambda x: [np.bool_(item) for item in x]])
    def test_kinds(self, make):
        assert allowed(make([True, False, False, True, False])) == [0, 3]

    def test_null_is_false(self):
        assert allowed(pa.array([True, None, False, None, True])) == [0, 4]

    def test_numbers_of_insertion(self):
        parsed = Filter.parse(np.array([True, False, True]), "int", None, 3)
        numbers = np.array([2, -1, 1, 0, -1])
        assert parsed.mask(IDS, None, numbers).tolist() == [True, False, False, True, False]
        empty = Filter.parse(np.zeros(0, bool), "int", None, 0)
        assert empty.mask(IDS, None, np.full(5, -1)).tolist() == [False] * 5

    def test_length(self):
        for mask in (np.ones(4, bool), np.ones(6, bool), np.zeros(0, bool)):
            with pytest.raises(errors.FilterError, match=f"length {len(mask)}, but the index holds 5"):
                allowed(mask)
        with pytest.raises(errors.FilterError, match="length 2"):
            Filter.parse(np.ones(2, bool), "int", None).mask(IDS, None, np.arange(5))
        with pytest.raises(errors.FilterError, match="shape"):
            allowed(np.ones((5, 1), bool))


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
        mask = resolve(pc.field("number") < 500, as_ids(None, len(numbers)), table)
        np.testing.assert_array_equal(mask, numbers < 500)

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
            Filter.parse(expression, "int", TABLE.schema, 5)

    def test_the_value_must_be_boolean(self):
        with pytest.raises(errors.FilterError, match="its value is int64"):
            Filter.parse(pc.field("year") + 1, "int", TABLE.schema, 5)

    def test_no_attributes(self):
        with pytest.raises(errors.FilterError, match="no attributes"):
            allowed(pc.field("year") > 3, table=None)

    def test_parsed_once(self):
        parsed = Filter.parse(pc.field("year") > 2000, "int", TABLE.schema)
        assert Filter.parse(parsed, "int", TABLE.schema) is parsed
        assert parsed.mask(IDS, TABLE, np.arange(5)).tolist() == [False, False, True, True, True]


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
