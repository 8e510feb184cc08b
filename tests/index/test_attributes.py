"""Attributes: tables made of what users hold, and columns that grow with an index without losing a value."""

import datetime as dt
from decimal import Decimal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from small_indexes import BASE, RECIPES

import annvq
from annvq import errors
from annvq.index.rows.attributes import as_attributes

NAIVE, AWARE = dt.datetime(2020, 1, 1, 5), dt.datetime(2020, 1, 1, 5, tzinfo=dt.timezone.utc)


class TestRows:
    def test_all_keys_of_all_rows(self):
        table = as_attributes([{}, {"lang": "en"}, {"year": 2020, "lang": "de"}, {"n": None}], 4)
        assert table.to_pydict() == {
            "lang": [None, "en", "de", None],
            "year": [None, None, 2020, None],
            "n": [None] * 4,
        }

    def test_rows_without_any_key_are_rows_without_attributes(self):
        assert as_attributes([{}, {}], 2) is None
        with pytest.raises(errors.ShapeError, match="2 rows for 3 vectors"):
            as_attributes([{}, {}], 3)

    @pytest.mark.parametrize(
        ("rows", "words"),
        [
            ([{"a": 1}, None], "row 1 is NoneType"),
            ([{"a": 1}, "a"], "row 1 is str"),
            ([{"a": 1}, {2: 1}], "row 1 .* 2"),
        ],
    )
    def test_what_is_no_row(self, rows, words):
        with pytest.raises(errors.FilterError, match=words):
            as_attributes(rows, None)

    @pytest.mark.parametrize(
        "values",
        [
            [1, 2.5, None],
            [2**53, 0.5],
            [np.int8(1), 300],
            [np.float32(1.5), 2],
            [Decimal("1.5"), Decimal("123.456")],
            [{"a": 1}, {"b": "x"}],
            [{"a": [1]}, {"a": []}, {"a": [2.5]}],
            [[], ["x"]],
            [AWARE, AWARE.astimezone(dt.timezone(dt.timedelta(hours=2)))],
            [b"x", b""],
            [dt.date(2020, 1, 1)],
        ],
    )
    def test_values_come_back(self, values):
        for given in ([{"c": value} for value in values], {"c": values}, {"c": np.array([*values, None], object)[:-1]}):
            back = as_attributes(given, len(values)).column("c").to_pylist()
            for value, item in zip(values, back, strict=True):
                assert item == ({"a": None, "b": None} | value if isinstance(value, dict) and "b" in item else value)

    @pytest.mark.parametrize(
        ("values", "words"),
        [
            ([1, None, "x"], "row 2: string, but rows before are int64"),
            ([True, 2], "row 1: int64, but rows before are bool"),
            ([2, True], "row 1: bool, but rows before are int64"),
            ([1.5, True], "row 1: bool, but rows before are double"),
            ([b"x", "x"], "row 1: string, but rows before are binary"),
            ([dt.date(2020, 1, 1), NAIVE], "row 1: timestamp.*, but rows before are date32"),
            ([NAIVE, AWARE], "row 1: timestamp.*UTC.*, but rows before are timestamp"),
            ([Decimal("1.5"), 2], "row 1: int64, but rows before are decimal"),
            ([{"a": 1}, {"a": "x"}], "row 1: struct<a: string>, but rows before are struct<a: int64>"),
            ([{"a": 1}, 5], "row 1: int64, but rows before are struct"),
            ([["x"], [1]], "row 1: list<.*int64>, but rows before are list<.*string>"),
            ([[1], ["x", 1]], "row 1: .*a list of string and int64"),
            ([0.5, 2**53 + 1], "row 1: 9007199254740993 is no double"),
            ([1, 2**63], "row 1: 9223372036854775808 is no int64"),
            (["a", "\ud800"], "row 1: .* is no string"),
            ([1, object()], "row 1: <object"),
            ([np.datetime64(0, "s"), NAIVE], r"row 0: .* is no timestamp\[us\]"),
            ([np.timedelta64(5, "s"), dt.timedelta(milliseconds=1)], r"row 0: .* is no duration\[us\]"),
        ],
    )
    @pytest.mark.parametrize("as_rows", [True, False])
    def test_two_types_in_a_column(self, values, words, as_rows):
        given = [{"c": value} for value in values] if as_rows else {"c": values}
        with pytest.raises(errors.DtypeError, match=f"column 'c', {words}"):
            as_attributes(given, len(values))


class TestArrow:
    @pytest.mark.parametrize(
        ("column", "kind"),
        [
            (pa.array(["a", None], pa.string_view()), pa.string()),
            (pa.array([b"a", None], pa.binary_view()), pa.binary()),
            (pa.array([["a"], None], pa.list_(pa.string_view())), pa.list_(pa.string())),
            (pa.array(["a", None]).dictionary_encode(), pa.string()),
            (pc.run_end_encode(pa.array([1, 1, None])), pa.int64()),
            (pc.run_end_encode(pa.array(["a", "a"])), pa.string()),
            (pa.array(["a"], pa.large_string()), pa.large_string()),
            (pa.array([["a"]], pa.large_list(pa.string())), pa.large_list(pa.string())),
            (
                pa.array([{"a": 1}], pa.struct([pa.field("a", pa.int64(), nullable=False)])),
                pa.struct({"a": pa.int64()}),
            ),
        ],
    )
    def test_plain_types(self, column, kind):
        table = as_attributes(pa.table({"c": pa.chunked_array([column, column[:1]])}), len(column) + 1)
        assert table.schema == pa.schema({"c": kind})
        assert table.column("c").to_pylist() == column.to_pylist() + column[:1].to_pylist()

    @pytest.mark.parametrize(
        "column",
        [
            pa.array([[1]], pa.list_view(pa.int64())),
            pa.FixedShapeTensorArray.from_numpy_ndarray(np.zeros((1, 2))),
            pa.UnionArray.from_sparse(pa.array([0], pa.int8()), [pa.array([1])]),
            pa.StructArray.from_arrays([pa.array([1]), pa.array([2])], ["a", "a"]),
        ],
    )
    def test_types_that_attributes_cannot_have(self, column):
        with pytest.raises(errors.DtypeError, match="column 'c' is"):
            as_attributes(pa.table({"c": column}), 1)

    def test_pandas(self):
        pandas = pytest.importorskip("pandas")
        frame = pandas.DataFrame(
            {"s": ["a", None], "o": pandas.Series([{"a": 1}, None], dtype=object), "f": [1.5, 2], "c": ["x", "y"]}
        ).astype({"c": "category"})
        assert as_attributes(frame, 2).to_pydict() == {
            "s": ["a", None],
            "o": [{"a": 1}, None],
            "f": [1.5, 2.0],
            "c": ["x", "y"],
        }
        frame["o"] = pandas.Series([True, 2], dtype=object)
        with pytest.raises(errors.DtypeError, match="column 'o', row 1: int64, but rows before are bool"):
            as_attributes(frame, 2)
        assert as_attributes(frame[[]], 2) is None
        with pytest.raises(errors.FilterError, match="Series"):
            as_attributes(frame["s"], 2)

    def test_nanoseconds_of_pandas_stay(self):
        pandas = pytest.importorskip("pandas")
        for zone in (None, "Europe/Berlin"):
            fine = pandas.Timestamp("2020-01-01 00:00:00.123456789", tz=zone)
            values = [fine.floor("s").to_pydatetime(), fine, None]
            for given in (
                [{"c": value} for value in values],
                {"c": values},
                pandas.DataFrame({"c": values}, dtype=object),
            ):
                table = as_attributes(given, 3)
                assert table.schema.field("c").type == pa.timestamp("ns", zone)
                assert table.column("c")[1].value == fine.value
        tick = pandas.Timedelta(1, "ns")
        for values in ([tick, dt.timedelta(1)], [dt.timedelta(1), tick]):
            column = as_attributes({"c": [{"d": [value]} for value in values]}, 2).column("c")
            assert sorted(item["d"][0].value for item in column) == [1, 86_400 * 10**9]

    def test_polars(self):
        polars = pytest.importorskip("polars")
        frame = polars.DataFrame({"s": ["a", None], "n": [1, 2], "l": [["x"], []]})
        for given in (frame, {name: frame[name] for name in frame.columns}):
            table = as_attributes(given, 2)
            assert table.to_pydict() == {"s": ["a", None], "n": [1, 2], "l": [["x"], []]}
            assert annvq.build(BASE[:2], "Flat", attributes=given).search(
                BASE[:1], 2, filter=pc.field("s") == "a"
            ).ids.tolist() == [[0, -1]]
        objects = polars.DataFrame({"n": [1], "o": [object()]})
        for given in (objects, {"o": objects["o"]}):
            with pytest.raises(errors.DtypeError, match="column 'o' is of Python objects"):
                as_attributes(given, 1)


def grown(*batches, path=None, each=3):
    """Return an index to which ``each`` rows were added with every one of ``batches`` of attributes."""
    index = annvq.build(BASE[:each], RECIPES["fp32"], metric="l2", attributes=batches[0], path=path)
    for number, batch in enumerate(batches[1:], 1):
        index.add(BASE[each * number : each * (number + 1)], attributes=batch)
    return index


def passing(index, expression):
    """Return the ids that pass a filter."""
    return sorted(set(index.search(BASE[:1], 30, filter=expression).ids[0].tolist()) - {-1})


def values_of(index):
    """Return the attributes of all rows by column, in the order of insertion."""
    index.compact()
    (segment,) = index.rows.current.snapshot.segments
    return segment.attributes.to_pydict()


class TestGrowing:
    LATE = ([{}] * 3, [{"n": None}] * 3, [{"n": 1}, {}, {"lang": "de"}], None, [{"lang": "en", "n": 2}] * 3)
    HELD = {  # noqa: RUF012
        "n": [None] * 6 + [1, None, None] + [None] * 3 + [2] * 3,
        "lang": [None] * 8 + ["de"] + [None] * 3 + ["en"] * 3,
    }

    @pytest.mark.parametrize("merges", [True, False])
    @pytest.mark.parametrize("how", ["in memory", "on disk", "reopened", "saved"])
    def test_columns_that_come_late_are_null_before(self, how, merges, tmp_path, monkeypatch):
        if not merges:
            monkeypatch.setattr("annvq.index.versions.versioned._LARGE", 0)
        path = tmp_path / "index"
        index = grown(*self.LATE, path=None if how == "in memory" else path)
        if how == "saved":
            index.save(tmp_path / "copy")
            path = tmp_path / "copy"
        if how in ("saved", "reopened"):
            index.close()
            index = annvq.open(path, "rw")
        with index:
            index.verify()
            assert merges or index.stats()["segments"] == 5
            for _ in range(2):
                assert passing(index, pc.field("lang") == "de") == [8]
                assert passing(index, pc.field("n") >= 1) == [6, 12, 13, 14]
                assert passing(index, pc.field("n").is_null()) == [*range(6), *range(7, 12)]
                assert passing(index, (pc.field("n") == 2) | pc.field("lang").is_null()) == [*range(8), *range(9, 15)]
                assert passing(index, pc.starts_with(pc.field("lang"), "e")) == [12, 13, 14]
                with pytest.raises(errors.FilterError, match="attributes: n: int64, lang: string"):
                    index.search(BASE[:1], filter=pc.field("year") == 1)
                assert values_of(index) == self.HELD

    @pytest.mark.parametrize(
        ("first", "then", "kind"),
        [
            (pa.array([1, 2, 3], pa.int32()), pa.array([4, 5, 6], pa.int64()), pa.int32()),
            (pa.array([1, 2, 3], pa.int32()), pa.array([4, 5, 2**40], pa.int64()), pa.int64()),
            (pa.array([1, 2, 3], pa.uint8()), pa.array([4, 5, -6], pa.int8()), pa.int16()),
            (pa.array([1, 2, 3], pa.int64()), pa.array([4, 5, 6], pa.uint64()), pa.int64()),
            (pa.array([1.5, 2, 3], pa.float64()), pa.array([4, 2**53, 6], pa.int64()), pa.float64()),
            (pa.array([1.5, 2, 3], pa.float32()), pa.array([4.5, np.nan, None], pa.float64()), pa.float32()),
            (pa.array([1.5, 2, 3], pa.float64()), pa.array([0.1, 5, 6], pa.float32()), pa.float64()),
            (pa.array(["a", "b", "c"]), pa.array(["d", "e", None], pa.large_string()), pa.string()),
            (pa.array(["a", "b", "c"]), pa.array(["d", "e", "e"]).dictionary_encode(), pa.string()),
            ([Decimal("1.5")] * 3, [Decimal("123.456")] * 3, pa.decimal128(6, 3)),
            ([{"a": 1}] * 3, [{"b": "x"}] * 3, pa.struct({"a": pa.int64(), "b": pa.string()})),
            ([[]] * 3, [["x"], [], None], pa.list_(pa.string())),
            (pa.array([NAIVE] * 3, pa.timestamp("us")), pa.array([NAIVE] * 3, pa.timestamp("s")), pa.timestamp("us")),
            ([1, 2, 3], pa.array([None] * 3, pa.string()), pa.int64()),
        ],
    )
    def test_types_that_hold_the_new_values(self, first, then, kind, tmp_path):
        with grown({"c": first}, {"c": then}, path=tmp_path / "index") as index:
            wanted = [*as_attributes({"c": first}, 3)["c"].to_pylist(), *as_attributes({"c": then}, 3)["c"].to_pylist()]
            if pa.types.is_struct(kind):
                wanted = [{"a": None, "b": None} | row for row in wanted]
            assert passing(index, pc.field("c").is_null()) == [i for i, value in enumerate(wanted) if value is None]
            np.testing.assert_equal(values_of(index)["c"], wanted)
            assert index.rows.current.snapshot.schema == pa.schema({"c": kind})

    @pytest.mark.parametrize(
        ("first", "then", "words"),
        [
            ([True] * 3, [None, 2, 3], "row 1: 2 of type int64, the index holds bool"),
            ([1] * 3, ["5"] * 3, "row 0: '5' of type string, the index holds int64"),
            ([1] * 3, [True] * 3, "row 0: True of type bool, the index holds int64"),
            ([1] * 3, [None, 2.0, 2.5], "row 1: 2.0 of type double, the index holds int64"),
            (["x"] * 3, [5] * 3, "row 0: 5 of type int64, the index holds string"),
            ([{"a": 1}] * 3, [{"b": 1}, {"a": "x"}, {"a": "y"}], "row 1: .*, the index holds struct<a: int64>"),
            ([[1]] * 3, [[], None, ["x"]], r"row 2: \['x'\] of type list<.*string>, the index holds list<.*int64>"),
            (pa.array([1.5] * 3, pa.float32()), [0.5, 0.1, 0.1], "row 1: 0.1 of type double, the index holds float"),
            (pa.array([1.5] * 3, pa.float32()), [0.5, 1.0, 1e300], "row 2: 1e[+]300 of type double, .* float"),
            ([1.5] * 3, [1, 2, 2**53 + 1], "row 2: 9007199254740993 of type int64, the index holds double"),
            (
                pa.array([1] * 3, pa.int64()),
                pa.array([1, 2, 2**63], pa.uint64()),
                "row 2: 9223372036854775808 of type u",
            ),
            ([NAIVE] * 3, [AWARE] * 3, "row 0: .*UTC.*, the index holds timestamp"),
            ([NAIVE] * 3, [NAIVE.date()] * 3, "row 0: .* of type date32.*, the index holds timestamp"),
            (["x"] * 3, [b"x"] * 3, "row 0: b'x' of type binary, the index holds string"),
            (
                pa.array([0] * 3, pa.timestamp("s")),
                pa.array([1000, 1500, 0], pa.timestamp("ms")),
                r"row 1: .* of type timestamp\[ms\], the index holds timestamp\[s\]",
            ),
        ],
    )
    def test_conflicts_change_nothing(self, first, then, words, tmp_path):
        with grown({"c": first}, path=tmp_path / "index") as index:
            before = sorted(path.name for path in (tmp_path / "index").iterdir())
            with pytest.raises(errors.DtypeError, match=f"column 'c', {words}"):
                index.add(BASE[3:6], attributes={"d": [1, 2, 3], "c": then})
            assert len(index) == 3
            assert index.version == 1
            assert sorted(path.name for path in (tmp_path / "index").iterdir()) == before
            index.add(BASE[3:6], attributes={"d": [1, 2, 3]})
            assert passing(index, pc.field("c").is_null()) == [3, 4, 5]

    def test_streamed_batches(self, tmp_path, monkeypatch):
        monkeypatch.setattr("annvq.index.build._SEGMENT_BYTES", 1)
        rows = [{} if i < 9 else {"late": i} for i in range(12)]
        index = annvq.build(
            iter([BASE[:4], BASE[4:12]]), RECIPES["fp32"], attributes=rows, train=BASE, path=tmp_path / "index"
        )
        with index:
            assert passing(index, pc.field("late") > 9) == [10, 11]
            index.add(BASE[12:13])
            assert passing(index, pc.field("late").is_null()) == [*range(9), 12]


def test_dictionaries_of_older_files_stay_readable(monkeypatch, tmp_path):
    path = tmp_path / "index"
    table = pa.table({"c": pa.array(["a", "b", "b"]).dictionary_encode()})
    with monkeypatch.context() as older:
        older.setattr("annvq.index.build.as_attributes", lambda given, n: given)
        annvq.build(BASE[:3], RECIPES["fp32"], attributes=table, path=path).close()
    with annvq.open(path, "rw") as index:
        assert passing(index, pc.field("c") == "b") == [1, 2]
        index.add(BASE[3:5], attributes=[{"c": "b"}, {"d": 1}])
        assert passing(index, pc.field("c") == "b") == [1, 2, 3]
        assert values_of(index) == {"c": ["a", "b", "b", "b", None], "d": [None] * 4 + [1]}
