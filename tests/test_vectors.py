"""Vectors at the door: what comes in, what is refused, and in which words."""

import gc
import weakref

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from annvq import errors
from annvq.io import MatrixSource, VectorSource
from annvq.kernels.vectors.finite import first_non_finite
from annvq.vectors import as_matrix, as_source, batches, normalized

BASE = np.random.default_rng(0).normal(size=(33, 7)).astype(np.float32)
SMALL = np.arange(-12, 12).reshape(6, 4)  # exact in every dtype


def sample(source, rows, seed):
    return as_matrix(source.sample(rows, seed))


def fixed_size_lists(matrix):
    return pa.FixedSizeListArray.from_arrays(pa.array(np.ascontiguousarray(matrix).reshape(-1)), matrix.shape[1])


class TestAccepted:
    @pytest.mark.parametrize("dtype", ["f4", "f2", "f8", "i1", ">f4", ">f8", ">f2"])
    def test_dtypes_give_the_same_numbers(self, dtype):
        matrix = as_matrix(SMALL.astype(dtype))
        assert matrix.dtype == np.dtype("=f4")
        assert matrix.flags.c_contiguous
        np.testing.assert_array_equal(matrix, SMALL)

    def test_uint8(self):
        np.testing.assert_array_equal(as_matrix(np.full((2, 3), 200, np.uint8)), 200.0)

    @pytest.mark.parametrize(
        "view",
        [
            lambda x: np.asfortranarray(x),
            lambda x: np.repeat(x, 2, axis=0)[::2],
            lambda x: x[::-1, ::-1][::-1, ::-1],
            lambda x: np.lib.stride_tricks.as_strided(x, x.shape, x.strides, writeable=False),
            lambda x: np.frombuffer(b"x" + x.tobytes(), np.uint8)[1:].view(np.float32).reshape(x.shape),
        ],
        ids=["fortran", "strided", "negative", "read-only", "unaligned"],
    )
    def test_layouts_give_the_same_numbers(self, view):
        given_ = view(BASE.copy())
        matrix = as_matrix(given_, dim=7)
        np.testing.assert_array_equal(matrix, BASE)
        assert matrix.flags.c_contiguous
        assert matrix.flags.aligned

    def test_a_fitting_array_is_shared(self):
        assert as_matrix(BASE, dim=7) is BASE

    def test_inputs_are_not_changed(self):
        for given_ in (BASE.copy(), BASE.astype("f8"), BASE.astype(">f4"), np.asfortranarray(BASE)):
            before = given_.tobytes()
            normalized(as_matrix(given_))
            assert given_.tobytes() == before

    def test_memmap(self, tmp_path):
        np.save(tmp_path / "x.npy", BASE)
        mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
        assert type(as_matrix(mapped)) is np.ndarray
        np.testing.assert_array_equal(as_matrix(mapped), BASE)

    @pytest.mark.parametrize("rows", [BASE.tolist(), tuple(map(tuple, BASE.tolist())), list(BASE)])
    def test_lists(self, rows):
        np.testing.assert_array_equal(as_matrix(rows), BASE)

    def test_lists_of_int(self):
        np.testing.assert_array_equal(as_matrix(SMALL.tolist()), SMALL)

    def test_an_empty_list_has_the_dimension_asked_for(self):
        assert as_matrix([], dim=5).shape == (0, 5)

    def test_one_query(self):
        for query in (BASE[0], BASE[0].tolist(), BASE[0].astype("f2").astype("f4")):
            assert as_matrix(query, dim=7, name="queries").shape == (1, 7)

    def test_no_rows(self):
        assert as_matrix(np.empty((0, 7), np.float32), dim=7).shape == (0, 7)
        with pytest.raises(errors.ShapeError, match="0 rows"):
            as_matrix(np.empty((0, 7), np.float32), allow_empty=False)

    def test_masked_arrays_without_a_mask(self):
        np.testing.assert_array_equal(as_matrix(np.ma.array(BASE)), BASE)
        with pytest.raises(errors.DtypeError, match="masked"):
            as_matrix(np.ma.array(BASE, mask=BASE > 1))

    def test_data_frames_through_dunder_array(self):
        class Frame:
            def __array__(self, dtype=None, copy=None):
                return BASE

        np.testing.assert_array_equal(as_matrix(Frame()), BASE)


class TestTorch:
    @pytest.mark.parametrize("name", ["float32", "float16", "float64", "bfloat16", "int8", "float8_e5m2"])
    def test_dtypes(self, name):
        torch = pytest.importorskip("torch")
        tensor = torch.tensor((SMALL % 8).tolist()).to(getattr(torch, name))
        np.testing.assert_array_equal(as_matrix(tensor), SMALL % 8)

    def test_gradients_and_strides(self):
        torch = pytest.importorskip("torch")
        tensor = torch.tensor(BASE.T.copy(), requires_grad=True).T
        np.testing.assert_array_equal(as_matrix(tensor), BASE)
        np.testing.assert_array_equal(as_matrix(torch.nn.Parameter(torch.tensor(BASE))), BASE)

    def test_lists_of_tensors(self):
        torch = pytest.importorskip("torch")
        rows = [torch.tensor(row).bfloat16() for row in SMALL.astype("f4")]
        np.testing.assert_array_equal(as_matrix(rows), SMALL)
        assert as_matrix(rows[0], name="queries").shape == (1, 4)

    def test_refused(self):
        torch = pytest.importorskip("torch")
        with pytest.raises(errors.DtypeError, match="sparse"):
            as_matrix(torch.eye(3).to_sparse())
        with pytest.raises(errors.DtypeError, match="int64"):
            as_matrix(torch.arange(6).reshape(2, 3))


class TestArrow:
    @pytest.mark.parametrize(
        "column",
        [
            fixed_size_lists(BASE),
            pa.array(BASE.tolist(), pa.list_(pa.float32())),
            pa.array(BASE.tolist(), pa.large_list(pa.float64())),
            pa.FixedShapeTensorArray.from_numpy_ndarray(BASE),
            pa.chunked_array([fixed_size_lists(BASE[:5]), fixed_size_lists(BASE[5:5]), fixed_size_lists(BASE[5:])]),
            pa.table({"id": range(33), "v": fixed_size_lists(BASE)}),
        ],
        ids=["fixed", "list", "large", "tensor", "chunked", "table"],
    )
    def test_columns(self, column):
        np.testing.assert_array_equal(as_matrix(column, dim=7), BASE)
        np.testing.assert_array_equal(as_matrix(column.slice(3, 9)), BASE[3:12])

    def test_float16(self):
        half = BASE.astype("f2")
        np.testing.assert_array_equal(as_matrix(fixed_size_lists(half)), half.astype("f4"))

    def test_nulls_are_named(self):
        rows = [[1.0, 2.0], [3.0, None], None, [4.0, 5.0]]
        for kind in (pa.list_(pa.float32()), pa.list_(pa.float32(), 2)):
            with pytest.raises(errors.DtypeError, match="row 2 is null"):
                as_matrix(pa.array(rows, kind))
            with pytest.raises(errors.DtypeError, match="row 1 holds a null"):
                as_matrix(pa.array(rows[:2], kind))
            with pytest.raises(errors.DtypeError, match="row 3 is null"):
                as_matrix(pa.chunked_array([pa.array(rows[3:], kind), pa.array(rows[3:] * 2 + [None], kind)]))
            assert as_matrix(pa.array(rows, kind)[3:]).tolist() == [[4.0, 5.0]]

    def test_ragged_lists_are_named(self):
        column = pa.array([[1.0, 2.0], [3.0], [4.0, 5.0]])
        with pytest.raises(errors.ShapeError, match="row 1 has length 1, rows before have 2"):
            as_matrix(column)

    def test_no_rows(self):
        assert as_matrix(fixed_size_lists(BASE)[:0]).shape == (0, 7)
        with pytest.raises(errors.ShapeError, match="dimension is not known"):
            as_matrix(pa.array([], pa.list_(pa.float32())))

    def test_other_types(self):
        for column in (pa.array([1.0, 2.0]), pa.array(["a"]), pa.array([[["x"]]])):
            with pytest.raises(errors.DtypeError, match="expected lists of numbers"):
                as_matrix(column)


class TestRefused:
    @pytest.mark.parametrize(
        "dtype", ["i2", "i4", "i8", "u2", "u8", "c8", "?", "S4", "U4", "O", "M8[s]", [("a", "f4")]], ids=str
    )
    def test_dtypes(self, dtype):
        with pytest.raises(errors.DtypeError, match="float32, float16"):
            as_matrix(np.zeros((2, 3), dtype))

    @pytest.mark.parametrize("rows", [[["1", "2"]], [[1.0, None]], [[True, False]], "text", {"a": 1}, None, 3.5, {1.0}])
    def test_objects(self, rows):
        with pytest.raises(errors.DtypeError):
            as_matrix(rows)

    @pytest.mark.parametrize("shape", [(), (5,), (2, 3, 4)])
    def test_axes(self, shape):
        with pytest.raises(errors.ShapeError, match=f"{len(shape)} axes"):
            as_matrix(np.zeros(shape, np.float32))

    def test_dimensions_are_both_named(self):
        with pytest.raises(errors.ShapeError, match="queries: dimension 7, expected 8"):
            as_matrix(BASE, dim=8, name="queries")
        with pytest.raises(errors.ShapeError, match="dimension 0"):
            as_matrix(np.empty((3, 0), np.float32))

    @pytest.mark.parametrize("rows", [[[1.0, 2.0], [3.0]], [], [[]], [1.0, 2.0]])
    def test_lists_of_the_wrong_shape(self, rows):
        with pytest.raises(errors.ShapeError):
            as_matrix(rows)

    @pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
    @pytest.mark.parametrize("dtype", ["f4", "f2", "f8"])
    def test_the_first_non_finite_row_is_named(self, bad, dtype):
        vectors = BASE.astype(dtype)
        vectors[21, 6] = vectors[30, 0] = bad
        with pytest.raises(errors.NonFiniteError, match=r"row 121 .*2 of 33"):
            as_matrix(vectors, first_row=100)

    def test_float64_that_overflows(self):
        with pytest.raises(errors.NonFiniteError, match="row 1 holds a value too large for float32"):
            as_matrix([[1.0, 2.0], [1e39, 2.0]])
        assert as_matrix([[1e-50, 3e38]])[0, 0] == 0


class TestFinite:
    @settings(deadline=None, max_examples=25, derandomize=True)
    @given(n=st.integers(0, 70), d=st.integers(1, 200), data=st.data())
    def test_first_row(self, n, d, data):
        vectors = np.full((n, d), np.finfo(np.float32).max, np.float32)
        vectors[::2] = -vectors[::2]
        assert first_non_finite(vectors) == -1
        if n:
            places = data.draw(st.lists(st.integers(0, n * d - 1), min_size=1, max_size=3))
            vectors.reshape(-1)[places] = data.draw(st.sampled_from([np.nan, -np.nan, np.inf, -np.inf]))
            assert first_non_finite(vectors) == min(places) // d


class TestNormalized:
    @pytest.mark.parametrize("d", [1, 7, 8, 9, 16, 100, 384])
    def test_against_float64(self, d):
        vectors = np.random.default_rng(d).normal(size=(33, d)).astype(np.float32)
        exact = vectors.astype(np.float64)
        exact /= np.linalg.norm(exact, axis=1, keepdims=True)
        np.testing.assert_allclose(normalized(vectors), exact, rtol=1.2e-7, atol=0)

    def test_does_not_depend_on_the_batch(self):
        whole = normalized(BASE)
        for step in (1, 2, 31):
            parts = [normalized(BASE[start : start + step]) for start in range(0, 33, step)]
            np.testing.assert_array_equal(np.concatenate(parts), whole)

    def test_extremes(self):
        tiny = np.float32(1e-45)  # the smallest denormal; its square is zero in float32
        huge = np.finfo(np.float32).max
        unit = normalized(np.array([[tiny, 0], [0, -tiny], [huge, huge], [tiny, huge]], np.float32))
        np.testing.assert_allclose(unit, [[1, 0], [0, -1], [0.5**0.5, 0.5**0.5], [0, 1]], rtol=1e-6)

    def test_the_first_zero_row_is_named(self):
        vectors = BASE.copy()
        vectors[[4, 9]] = 0
        vectors[4] *= -1
        with pytest.raises(errors.ZeroVectorError, match="queries: row 14 is zero"):
            normalized(vectors, "queries", first_row=10)

    def test_is_new_memory_also_without_rows(self):
        assert not np.shares_memory(normalized(BASE), BASE)
        assert normalized(BASE[:0]).shape == (0, 7)


def blocks_of(matrix, *sizes):
    """Yield parts of a matrix through one buffer, as readers do that save memory."""
    start = 0
    for size in sizes:
        buffer = matrix[start : start + size].copy()
        yield buffer
        buffer.fill(np.nan)
        start += size


class TestBatches:
    def sources(self):
        table = pa.table({"name": ["x"] * 33, "v": fixed_size_lists(BASE)})
        return {
            "array": BASE,
            "float64": BASE.astype("f8"),
            "list": BASE.tolist(),
            "source": MatrixSource(BASE),
            "list of arrays": [BASE[:3], BASE[3:20], BASE[20:]],
            "generator": blocks_of(BASE, 1, 2, 0, 20, 10),
            "generator of lists": (BASE[i : i + 4].tolist() for i in range(0, 33, 4)),
            "generator of tables": iter([table[:5], table[5:]]),
            "arrow": table["v"],
            "chunked": pa.chunked_array([fixed_size_lists(BASE[:4]), fixed_size_lists(BASE[4:])]),
            "table": table,
            "record batch": table.to_batches()[0],
            "reader": pa.RecordBatchReader.from_batches(table.schema, table.to_batches(max_chunksize=5)),
        }

    @pytest.mark.parametrize("rows", [1, 4, 32, 33, 100])
    def test_every_source_gives_the_same_blocks(self, rows):
        for name, source in self.sources().items():
            blocks = [block.copy() for block in batches(source, rows=rows, dim=7)]
            assert [len(block) for block in blocks[:-1]] == [rows] * (len(blocks) - 1), name
            assert all(block.dtype == np.float32 for block in blocks)
            np.testing.assert_array_equal(np.concatenate(blocks), BASE, err_msg=name)

    def test_sources_say_what_they_are(self):
        for name, given_ in self.sources().items():
            source = as_source(given_)
            assert isinstance(source, VectorSource)
            assert source.dim == 7, name
            assert source.count in (33, None)
            assert source.ids() is None

    def test_ids_come_with_a_table(self):
        table = pa.table({"id": [f"d{i}" for i in range(33)], "v": fixed_size_lists(BASE)})
        assert as_source(table).ids().tolist() == table["id"].to_pylist()

    def test_dimensions_agree_across_batches(self):
        with pytest.raises(errors.ShapeError, match="dimension 6, expected 7"):
            list(batches([BASE[:2], BASE[2:4, :6]], rows=8))
        with pytest.raises(errors.ShapeError, match="dimension 7, expected 8"):
            next(batches(iter([BASE]), rows=8, dim=8))

    def test_batches_of_batches_are_refused(self):
        class Sparse:  # as in SciPy: iterable, and every row is one of its kind
            def __iter__(self):
                yield Sparse()

        for nested in (Sparse(), iter([iter([BASE])])):
            with pytest.raises(errors.DtypeError, match="dense matrices"):
                as_source(nested)

    def test_rows_are_counted_over_batches(self):
        bad = BASE.copy()
        bad[29, 1] = np.nan
        with pytest.raises(errors.NonFiniteError, match="row 29"):
            list(batches([bad[:10], bad[10:20], bad[20:]], rows=7))

    def test_a_stream_holds_one_block(self):
        made = []

        def stream():
            for _ in range(20):
                block = np.zeros((8, 7), np.float32)
                made.append(weakref.ref(block))
                yield block
                del block
                gc.collect()
                assert sum(ref() is not None for ref in made) <= 3

        assert sum(map(len, batches(stream(), rows=8))) == 160

    def test_a_stream_is_read_once(self):
        source = as_source(blocks_of(BASE, 10, 10, 13))
        assert sample(source, 15, 0).tolist() == BASE[:15].tolist()
        assert sample(source, 12, 1).tolist() == BASE[:12].tolist()
        assert np.concatenate([block.copy() for block in batches(source, rows=4)]).tolist() == BASE.tolist()
        with pytest.raises(errors.StateError):
            list(batches(source, rows=4))
        with pytest.raises(errors.StateError):
            source.sample(1, 0)

    def test_an_empty_stream(self):
        assert list(batches(iter([]), rows=4, dim=7)) == []
        assert sample(as_source(iter([]), dim=7), 4, 0).shape == (0, 7)
        with pytest.raises(errors.ShapeError, match="dimension 0"):
            as_source(iter([]))

    def test_samples_are_the_same_rows_from_every_source(self):
        chosen = sample(MatrixSource(BASE), 10, 3)
        assert len(np.unique(chosen, axis=0)) == 10
        assert chosen.tolist() != sample(MatrixSource(BASE), 10, 4).tolist()
        for name in ("list", "arrow", "chunked", "table"):
            np.testing.assert_array_equal(sample(as_source(self.sources()[name]), 10, 3), chosen)
            np.testing.assert_array_equal(sample(as_source(self.sources()[name]), 99, 3), BASE)

    @pytest.mark.parametrize("rows", [0, -1])
    def test_rows(self, rows):
        with pytest.raises(errors.ParameterError):
            next(batches(BASE, rows=rows))

    @pytest.mark.parametrize("given_", ["text", {"a": 1}, 7, object()])
    def test_refused(self, given_):
        with pytest.raises(errors.DtypeError):
            as_source(given_)
