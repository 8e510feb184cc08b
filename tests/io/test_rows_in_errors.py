"""Errors about Arrow data name the row of the whole, not of a batch or chunk; columns of other libraries; HDF5."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import annvq
from annvq import io, vectors
from annvq.errors import DataFormatError, DtypeError, NonFiniteError, ParameterError, ShapeError

N, BAD = 2000, 1500
ROWS = np.random.default_rng(3).normal(size=(N, 4)).astype(np.float32)


def column(value):
    rows = ROWS.tolist()
    rows[BAD] = value
    return pa.array(rows, pa.list_(pa.float32()))


WRONG = {
    "null": (None, "row 1500 is null"),
    "null inside": ([1.0, None, 1.0, 1.0], "row 1500 holds a null"),
    "short": ([1.0], "row 1500 has length 1, rows before have 4"),
    "NaN": ([1.0, float("nan"), 1.0, 1.0], "row 1500 holds NaN"),
}


@pytest.mark.parametrize("sampled", [True, False])
@pytest.mark.parametrize("where", ["column", "chunks", "table", "reader", "iterable", ".parquet", ".arrow", "stream"])
@pytest.mark.parametrize("wrong", WRONG)
def test_the_row_is_counted_from_the_beginning(wrong, where, sampled, tmp_path):
    value, words = WRONG[wrong]
    table = pa.table({"id": np.arange(N), "v": column(value)})
    chunked = pa.concat_tables([table.slice(start, 600) for start in range(0, N, 600)])
    path = tmp_path / f"file{where if where.startswith('.') else '.arrow'}"
    if where == ".parquet":
        pq.write_table(table, path, row_group_size=600)
    elif where in (".arrow", "stream"):
        kind = pa.ipc.new_file if where == ".arrow" else pa.ipc.new_stream
        with pa.OSFile(str(path), "wb") as sink, kind(sink, table.schema) as writer:
            writer.write_table(table, max_chunksize=600)
    given = {
        "column": lambda: table["v"].chunk(0),
        "chunks": lambda: chunked["v"],
        "table": lambda: chunked,
        "reader": lambda: chunked.to_reader(),
        "iterable": lambda: iter(chunked.select(["v"]).to_batches()),
    }.get(where, lambda: io.open_vectors(path))
    with pytest.raises((DtypeError, ShapeError, NonFiniteError, DataFormatError), match=words):
        annvq.build(given(), "Flat", train=ROWS if not sampled else None)
    if where != "reader":
        with pytest.raises((DtypeError, ShapeError, NonFiniteError, DataFormatError), match=words):
            for _ in vectors.batches(given(), rows=77):
                pass


def test_ids_of_damaged_text(tmp_path):
    path = tmp_path / "file.parquet"
    text = pa.Array.from_buffers(pa.string(), 1, [None, pa.py_buffer(np.int32([0, 1])), pa.py_buffer(b"\xff")])
    pq.write_table(pa.table({"id": text, "v": ROWS[:1].tolist()}), path)
    with pytest.raises(DataFormatError):
        io.open_vectors(path).ids()


def test_numbers_that_are_no_characters(tmp_path):
    wrong = np.array([ord("a"), 0x110000], "<u4").view("<U1")
    np.savez(tmp_path / "ids.npz", vectors=ROWS[:2], ids=wrong)
    with pytest.raises(DataFormatError, match="row 1 holds 0x110000, which is no character"):
        io.open_vectors(tmp_path / "ids.npz").ids()
    np.savez(tmp_path / "set.npz", base=ROWS, query=ROWS, metric=wrong[1:].reshape(()))
    with pytest.raises(DataFormatError, match="no character"):
        io.read_ann_dataset(tmp_path / "set.npz")


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_pandas(dtype):
    pandas = pytest.importorskip("pandas")
    rows = ROWS.astype(dtype)
    frame = pandas.DataFrame({"id": np.arange(N) * 2, "v": list(rows)}, index=np.arange(N)[::-1])
    index = annvq.build(frame["v"], "Flat", metric="l2")
    for queries in (frame["v"], frame[["v"]], rows):
        assert (index.search(queries, 1).ids[:, 0] == np.arange(N)).all()
    assert (annvq.build(frame, "Flat", metric="l2").search(ROWS[:5], 1).ids[:, 0] == np.arange(5) * 2).all()
    assert np.array_equal(vectors.as_matrix(pandas.DataFrame(rows)), ROWS)
    wrong = frame["v"].copy()
    wrong.iloc[3] = rows[3, :2]
    with pytest.raises(ShapeError, match="row 3 has length 2"):
        annvq.build(wrong, "Flat")
    wrong.iloc[3] = None
    with pytest.raises(DtypeError, match="row 3 is"):
        annvq.build(wrong, "Flat")


def test_objects_that_are_rows():
    rows = np.array([*list(ROWS), None], object)[:-1]
    assert np.array_equal(vectors.as_matrix(rows), ROWS)
    rows[5] = "x"
    with pytest.raises(DtypeError, match="row 5 is str"):
        vectors.as_matrix(rows)


def test_polars():
    polars = pytest.importorskip("polars")
    lists = polars.Series("v", ROWS.tolist(), dtype=polars.List(polars.Float32))
    for series in (lists, lists.cast(polars.Array(polars.Float32, 4))):
        frame = polars.DataFrame([polars.Series("name", [f"n{i}" for i in range(N)]), series])
        for given in (series, frame):
            index = annvq.build(given, "Flat", metric="l2")
            assert (index.search(given[:9], 1).ids[:, 0] == np.arange(9)).all()
    named = frame.rename({"name": "id"})
    assert annvq.build(named, "Flat").search(ROWS[:1], 1).ids.dtype == object
    assert np.array_equal(vectors.as_matrix(polars.DataFrame(ROWS)), ROWS)


def test_one_id_is_no_list():
    index = annvq.build(ROWS[:9], "Flat")
    with pytest.raises(DtypeError, match="ids: int, expected a list or an array of integers"):
        index.remove(5)
    with pytest.raises(DtypeError, match="None marks places without a hit"):
        index.remove([None])


class TestHdf5:
    @pytest.fixture
    def h5py(self):
        return pytest.importorskip("h5py")

    @pytest.mark.parametrize("options", [{}, {"chunks": (7,)}, {"chunks": (7,), "maxshape": (None,)}])
    def test_strings_of_any_length(self, h5py, options, tmp_path):
        texts = ["", "é", "x" * 70_000, *(f"n{i}" for i in range(97))]
        with h5py.File(tmp_path / "file.h5", "w", userblock_size=512) as file:
            file["vectors"] = ROWS[:100]
            file.create_dataset("ids", data=texts, dtype=h5py.string_dtype(), **options)
        assert io.open_vectors(tmp_path / "file.h5").ids().tolist() == texts

    def test_strings_of_one_length(self, h5py, tmp_path):
        with h5py.File(tmp_path / "file.h5", "w") as file:
            file["vectors"], file["ids"] = ROWS[:2], np.array([b"a", b"bc"])
        assert io.open_vectors(tmp_path / "file.h5").ids().tolist() == ["a", "bc"]

    def test_strings_through_a_filter(self, h5py, tmp_path):
        with h5py.File(tmp_path / "file.h5", "w") as file:
            file["vectors"] = ROWS[:2]
            file.create_dataset("ids", data=["a", "b"], dtype=h5py.string_dtype(), compression="gzip")
        with pytest.raises(DataFormatError, match="through a filter"):
            io.open_vectors(tmp_path / "file.h5").ids()

    def test_a_damaged_heap(self, tmp_path, h5py):
        path = tmp_path / "file.h5"
        io.write(path, ROWS[:3], ["a", "b", "c"])
        good = path.read_bytes()
        heap = good.index(b"GCOL")
        free = good.index(b"c\0\0\0\0\0\0\0", heap) + 8  # of number 0: libhdf5 loops where its size is 0
        for place, value in ((free + 8, 0), (heap + 8, 2**40), (heap + 24, 2**40)):
            path.write_bytes(good[:place] + value.to_bytes(8, "little") + good[place + 8 :])
            with pytest.raises(DataFormatError):
                io.open_vectors(path).ids()

    def test_links_are_not_followed(self, h5py, tmp_path):
        io.write(tmp_path / "other.h5", ROWS)
        for number, link in enumerate([h5py.ExternalLink("other.h5", "/vectors"), h5py.SoftLink("/vectors")]):
            path = tmp_path / f"{number}.h5"
            with h5py.File(path, "w") as file:
                file["vectors"] = link
            for column in (None, "vectors"):
                with pytest.raises((ParameterError, DataFormatError), match="dataset"):
                    io.open_vectors(path, vector_column=column)
            with h5py.File(path, "a") as file:
                file["base"] = ROWS
            assert io.open_vectors(path).count == N
