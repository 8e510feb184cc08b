"""Ids: what is accepted, found, ranked and stored."""

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from annvq import errors
from annvq.index.rows.ids import IdColumn, as_ids, rank_across

EXTREMES = [-(2**63), -2, 0, 1, 2**31, 2**53, 2**53 + 1, 2**63 - 2, 2**63 - 1]
WORDS = ["b", "", "a", "ab", "aa", "é", "z", "\U0001f600", "\uffff", "a\0", "a\0b", "日本"]

INTS = st.lists(st.integers(-(2**63), 2**63 - 1).filter(lambda i: i != -1), unique=True, max_size=40)
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=4)
STRS = st.lists(TEXT, unique=True, max_size=40)
PROPERTY = settings(deadline=None, max_examples=25, derandomize=True)


class TestAccepted:
    @pytest.mark.parametrize("dtype", ["i1", "i8", "u1", "u4", "u8", ">i4", ">u8"])
    def test_integers(self, dtype):
        column = as_ids(np.array([3, 0, 100], dtype), 3)
        assert column.kind == "int"
        assert column.values.dtype == np.int64
        assert column.values.tolist() == [3, 0, 100]

    @pytest.mark.parametrize(
        "make",
        [
            list,
            tuple,
            lambda x: np.array(x),
            lambda x: np.array(x, dtype=object),
            lambda x: [np.int64(i) for i in x],
            lambda x: pa.array(x),
            lambda x: pa.array([7, *x])[1:],
            lambda x: pa.chunked_array([x[:4], x[4:]], pa.int64()),
            lambda x: pa.array(x).dictionary_encode(),
        ],
    )
    def test_extreme_integers_are_exact(self, make):
        column = as_ids(make(EXTREMES), len(EXTREMES))
        assert column.take(np.arange(len(EXTREMES))).tolist() == EXTREMES
        assert column.find(make(EXTREMES)).tolist() == list(range(len(EXTREMES)))

    @pytest.mark.parametrize(
        "make",
        [
            list,
            tuple,
            lambda x: np.array(x, dtype=object),
            lambda x: np.array([np.str_(word) for word in x], dtype=object),
            lambda x: pa.array(x),
            lambda x: pa.array(["x", *x])[1:],
            lambda x: pa.array(x, pa.large_string()),
            lambda x: pa.array(x, pa.string_view()),
            lambda x: pa.chunked_array([x[:4], x[4:]]),
            lambda x: pa.array(x).dictionary_encode(),
        ],
    )
    def test_strings(self, make):
        column = as_ids(make(WORDS), len(WORDS))
        assert column.kind == "str"
        ids = column.take(np.arange(len(WORDS)))
        assert ids.dtype == object
        assert ids.tolist() == WORDS
        assert column.find(make(WORDS)).tolist() == list(range(len(WORDS)))

    def test_numpy_strings(self):
        words = [word for word in WORDS if not word.endswith("\0")]  # NumPy cannot hold these
        assert as_ids(np.array(words), len(words)).take(np.arange(len(words))).tolist() == words

    def test_torch(self):
        torch = pytest.importorskip("torch")
        assert as_ids(torch.tensor([5, 3]), 2).values.tolist() == [5, 3]

    def test_made_up(self):
        column = as_ids(None, 4, 10)
        assert column.values.tolist() == [10, 11, 12, 13]
        assert as_ids(None, 0).values.tolist() == []
        assert as_ids(range(5), None).values.tolist() == [0, 1, 2, 3, 4]

    def test_the_input_is_not_shared(self):
        ids = np.array([3, 1, 2])
        column = as_ids(ids, 3)
        ids[0] = 99
        assert column.values.tolist() == [3, 1, 2]
        assert not column.values.flags.writeable

    def test_no_ids_take_the_kind_of_the_index(self):
        for ids in ([], np.empty(0, np.int64), pa.array([], pa.string())):
            for kind in ("int", "str"):
                column = as_ids(ids, 0, kind=kind)
                assert (column.kind, len(column)) == (kind, 0)


class TestRefused:
    @pytest.mark.parametrize(
        "ids",
        [
            [True, False],
            [1, True],
            np.array([True, False]),
            [1.0, 2.0],
            np.array([1.0, 2.0]),
            [1, "a"],
            ["a", None],
            [b"a", b"b"],
            np.array([b"a", b"b"]),
            [1, 2**63],
            [1, -(2**63) - 1],
            [1, np.uint64(2**63)],
            np.array([1, 2**63], np.uint64),
            ["a", "\ud800"],
            [[1], [2]],
            {"a": 1},
            "ab",
            7,
            pa.array([1, None]),
            pa.array(["a", None]),
            pa.array([1.5, 2.5]),
            pa.array([True, False]),
            pa.array([2**63, 1], pa.uint64()),
            pa.scalar(1),
            np.array(["2020-01-01", "2021-01-01"], "M8[D]"),
        ],
    )
    def test_kinds(self, ids):
        with pytest.raises(errors.DtypeError):
            as_ids(ids, 2)

    def test_repeats_are_named(self):
        with pytest.raises(errors.DuplicateIdError, match="id 7 "):
            as_ids([7, 3, 9, 7], 4)
        with pytest.raises(errors.DuplicateIdError, match="id 'ü' "):
            as_ids(["a", "ü", "b", "ü"], 4)

    def test_numbers(self):
        with pytest.raises(errors.ShapeError, match="3 ids for 4"):
            as_ids([1, 2, 3], 4)
        with pytest.raises(errors.ShapeError, match="2 axes"):
            as_ids(np.zeros((2, 2), int), 4)
        with pytest.raises(errors.ParameterError, match="-1"):
            as_ids([3, -1], 2)

    def test_the_kind_of_the_index(self):
        with pytest.raises(errors.DtypeError, match=r"str.*int"):
            as_ids(["a"], 1, kind="int")
        with pytest.raises(errors.DtypeError, match=r"int.*str"):
            as_ids([1], 1, kind="str")
        with pytest.raises(errors.ParameterError, match="none can be made up"):
            as_ids(None, 1, kind="str")
        for column, ids in ((as_ids([1], 1), ["a"]), (as_ids(["a"], 1), [1])):
            with pytest.raises(errors.DtypeError):
                column.find(ids)


class TestTake:
    def test_missing_places_and_shapes(self):
        rows = np.array([[2, -1, 0], [-1, 1, 1]])
        assert as_ids([5, 6, 7], 3).take(rows).tolist() == [[7, -1, 5], [-1, 6, 6]]
        assert as_ids(["a", "", "c"], 3).take(rows).tolist() == [["c", None, "a"], [None, "", ""]]

    def test_no_rows(self):
        for column, missing in ((as_ids([], 0), -1), (as_ids([], 0, kind="str"), None)):
            assert column.take(np.full((2, 3), -1)).tolist() == [[missing] * 3] * 2
            assert column.take(np.empty((0, 3), np.int64)).shape == (0, 3)
            assert column.find([1, 2] if missing == -1 else ["a"]).max() == -1
            assert column.find([]).shape == (0,)
            assert column.order_keys().shape == (0,)
            assert len(column.reorder(np.empty(0, np.int64))) == 0


class TestProperties:
    @PROPERTY
    @given(ids=st.one_of(INTS, STRS), others=st.one_of(INTS, STRS), seed=st.integers(0, 9))
    def test_find(self, ids, others, seed):
        column = as_ids(ids, len(ids))
        if ids and others and type(ids[0]) is not type(others[0]):
            others = []
        wanted = ids[::2] + others
        np.random.default_rng(seed).shuffle(wanted)
        place = {id_: row for row, id_ in enumerate(ids)}
        assert column.find(wanted).tolist() == [place.get(id_, -1) for id_ in wanted]

    @PROPERTY
    @given(ids=st.one_of(INTS, STRS))
    def test_keys_sort_as_the_ids_do(self, ids):
        column = as_ids(ids, len(ids))
        by_key = [ids[row] for row in np.argsort(column.order_keys(), kind="stable")]
        assert by_key == sorted(ids)
        assert column.order_keys().dtype == np.int64

    @PROPERTY
    @given(ids=st.one_of(INTS, STRS), data=st.data())
    def test_reorder_concat_and_storage(self, ids, data):
        column = as_ids(ids, len(ids))
        rows = data.draw(st.lists(st.integers(0, len(ids) - 1), max_size=50) if ids else st.just([]))
        chosen = column.reorder(np.array(rows, np.int64))
        joined = IdColumn.concat([chosen, column, column.reorder(np.empty(0, np.int64))])
        stored = {name: np.frombuffer(array.tobytes(), array.dtype) for name, array in joined.sections().items()}
        expected = [ids[row] for row in rows] + ids
        for result in (joined, IdColumn.from_sections({"codes": np.zeros(3), **stored}, "a")):
            assert result.take(np.arange(len(result))).tolist() == expected

    @PROPERTY
    @given(columns=st.lists(STRS, min_size=1, max_size=4))
    def test_ranks_across_columns(self, columns):
        ranks = rank_across([as_ids(ids, len(ids), kind="str") for ids in columns])
        assert [len(keys) for keys in ranks] == [len(ids) for ids in columns]
        rank = {id_: i for i, id_ in enumerate(sorted(set().union(*columns)))}
        assert [keys.tolist() for keys in ranks] == [[rank[id_] for id_ in ids] for ids in columns]


def test_ranks_across_integers_are_the_ids():
    assert [keys.tolist() for keys in rank_across([as_ids([5, 2], 2), as_ids([9], 1)])] == [[5, 2], [9]]
    assert rank_across([]) == []


def test_repeats_across_columns():
    with pytest.raises(errors.DuplicateIdError, match="'b'"):
        IdColumn.concat([as_ids(["a", "b"], 2), as_ids(["b"], 1)]).check_unique()
    with pytest.raises(errors.DuplicateIdError, match="4"):
        IdColumn.concat([as_ids([4, 9], 2), as_ids([1, 4], 2)]).check_unique()


def test_ascending_ids_are_not_sorted_again():
    assert as_ids(None, 1000).order.tolist() == list(range(1000))


class TestStorage:
    @pytest.mark.parametrize(
        "sections",
        [
            {},
            {"ids": np.zeros(3, np.int32)},
            {"ids": np.zeros((3, 1), np.int64)},
            {"id_offsets": np.zeros(3, np.int64)},
            {"id_bytes": np.zeros(3, np.uint8)},
            {"id_offsets": np.zeros(0, np.int64), "id_bytes": np.zeros(0, np.uint8)},
            {"id_offsets": np.zeros(2, np.int32), "id_bytes": np.zeros(0, np.uint8)},
            {"id_offsets": np.zeros(2, np.int64), "id_bytes": np.zeros(0, np.int8)},
        ],
    )
    def test_sections_of_the_wrong_kind(self, sections):
        with pytest.raises(errors.CorruptIndexError, match="section"):
            IdColumn.from_sections(sections, "a")

    @pytest.mark.parametrize("offsets", [[1, 2, 4], [0, 5, 4], [0, 2, 3], [0, 2, 2**40], [0, -8, 4]])
    @pytest.mark.parametrize(
        "use",
        [lambda c: c.find(["a"]), lambda c: c.order_keys(), lambda c: c.reorder(np.array([1])), lambda c: c.check()],
    )
    def test_offsets_are_checked_before_they_are_followed(self, offsets, use):
        sections = {"id_offsets": np.array(offsets, np.int64), "id_bytes": np.full(4, 97, np.uint8)}
        with pytest.raises(errors.CorruptIndexError, match="id_offsets"):
            use(IdColumn.from_sections(sections, "a"))

    def test_check(self):
        as_ids(WORDS, len(WORDS)).check()
        as_ids(EXTREMES, len(EXTREMES)).check()
        for sections, words in (
            ({"ids": np.array([1, -1])}, "-1"),
            ({"ids": np.array([5, 2, 5])}, "more than once"),
            ({"id_offsets": np.array([0, 1, 2]), "id_bytes": np.array([97, 97], np.uint8)}, "more than once"),
            ({"id_offsets": np.array([0, 1, 2]), "id_bytes": np.array([97, 200], np.uint8)}, "UTF-8"),
        ):
            with pytest.raises(errors.CorruptIndexError, match=words):
                IdColumn.from_sections(sections, "a").check()

    def test_mapped_sections_are_shared(self, tmp_path):
        np.arange(5).tofile(tmp_path / "ids")
        mapped = np.memmap(tmp_path / "ids", np.int64, mode="r")
        column = IdColumn.from_sections({"ids": mapped}, "a")
        assert type(column.values) is np.ndarray
        assert np.shares_memory(column.values, mapped)
        assert column.find([3, 9]).tolist() == [3, -1]
