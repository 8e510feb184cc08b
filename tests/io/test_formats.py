"""Every format: what is written comes back, in blocks and samples too."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from annvq import errors, io
from annvq.io.replacing import replacing
from annvq.io.source import sample_rows
from annvq.vectors import as_matrix, as_source, batches

BASE = np.random.default_rng(0).normal(size=(33, 7)).astype(np.float32)
STR_IDS = [f"d{i}" for i in range(32)] + ["ü\N{SNOWMAN}"]
INT_IDS = np.arange(33) * (1 << 57) - (1 << 62)

WITH_IDS = [".npz", ".parquet", ".pq", ".arrow", ".feather", ".ipc", ".hdf5", ".h5"]
ALL = [".npy", ".fvecs", ".fbin", *WITH_IDS]


@pytest.fixture(autouse=True)
def _h5py(request):
    params = getattr(request.node, "callspec", None)
    if params is not None and params.params.get("suffix") in (".hdf5", ".h5"):
        pytest.importorskip("h5py")


@pytest.mark.parametrize("suffix", ALL)
def test_round_trip(tmp_path, suffix):
    path = tmp_path / f"x{suffix.upper() if suffix == '.npy' else suffix}"
    io.write(path, BASE)
    np.testing.assert_array_equal(io.read(path), BASE)
    source = io.open_vectors(str(path))
    assert isinstance(source, io.VectorSource)
    assert (source.count, source.dim) == (33, 7)
    assert source.ids() is None
    assert list(tmp_path.iterdir()) == [path], "nothing temporary is left"


@pytest.mark.parametrize("rows", [1, 10, 33, 1000])
@pytest.mark.parametrize("suffix", ALL)
def test_blocks(tmp_path, suffix, rows):
    path = tmp_path / f"x{suffix}"
    io.write(path, BASE)
    source = io.open_vectors(path)
    for _ in range(2):
        blocks = list(source.batches(rows))
        assert max(map(len, blocks)) <= rows
        np.testing.assert_array_equal(np.concatenate(blocks), BASE)
    assert len(next(batches(source, rows=rows))) == min(rows, 33)


@pytest.mark.parametrize("suffix", ALL)
def test_samples_are_the_same_in_every_format(tmp_path, suffix):
    path = tmp_path / f"x{suffix}"
    io.write(path, BASE)
    source = io.open_vectors(path)
    for rows in (0, 1, 12, 33, 50):
        np.testing.assert_array_equal(source.sample(rows, 5), BASE[sample_rows(33, rows, 5)])


def test_sample_rows():
    rows = sample_rows(10**12, 1000, 0)  # takes no memory for the numbers that are not chosen
    assert len(np.unique(rows)) == 1000
    assert (np.diff(rows) > 0).all()
    assert rows.dtype == np.int64
    assert rows.tolist() == sample_rows(10**12, 1000, 0).tolist() != sample_rows(10**12, 1000, 1).tolist()
    counts = np.bincount(np.concatenate([sample_rows(10, 5, seed) for seed in range(400)]), minlength=10)
    assert abs(counts - 200).max() < 60


@pytest.mark.parametrize(
    "ids", [STR_IDS, INT_IDS, np.array(STR_IDS), INT_IDS.tolist()], ids=["str", "int", "U", "list"]
)
@pytest.mark.parametrize("suffix", WITH_IDS)
def test_ids(tmp_path, suffix, ids):
    path = tmp_path / f"x{suffix}"
    io.write(path, BASE, ids)
    found = io.open_vectors(path).ids()
    assert found.dtype == (np.int64 if isinstance(ids[0], int | np.integer) else object)
    assert found.tolist() == list(ids)
    np.testing.assert_array_equal(io.read(path), BASE)


@pytest.mark.parametrize("suffix", [".npy", ".npz", ".parquet", ".arrow", ".hdf5"])
@pytest.mark.parametrize("dtype", ["f2", "f4", "f8", "i1", "u1"])
def test_dtypes_are_kept(tmp_path, suffix, dtype):
    vectors = (np.abs(BASE) * 10).astype(dtype)
    io.write(tmp_path / f"x{suffix}", vectors)
    read = io.read(tmp_path / f"x{suffix}")
    assert read.dtype == dtype
    np.testing.assert_array_equal(as_matrix(read), as_matrix(vectors))


@pytest.mark.parametrize("suffix", [".npy", ".npz", ".parquet", ".arrow", ".hdf5"])
def test_no_rows(tmp_path, suffix):
    io.write(tmp_path / f"x{suffix}", BASE[:0])
    source = io.open_vectors(tmp_path / f"x{suffix}")
    assert (source.count, source.dim) == (0, 7)
    assert list(batches(source, rows=4)) == []
    assert source.sample(3, 0).shape == io.read(tmp_path / f"x{suffix}").shape == (0, 7)


def test_overwriting_leaves_readers_alone(tmp_path):
    for suffix in (".npy", ".npz", ".fvecs", ".arrow"):
        path = tmp_path / f"x{suffix}"
        io.write(path, BASE)
        source = io.open_vectors(path)
        first = next(source.batches(33))
        io.write(path, BASE[:2] * 2)
        np.testing.assert_array_equal(first, BASE)


def test_a_failed_write_leaves_the_old_file(tmp_path):
    path = tmp_path / "x.npz"
    io.write(path, BASE)
    with pytest.raises(errors.ParameterError, match="NUL"):
        io.write(path, BASE, ["a\0", *STR_IDS[1:]])
    assert io.open_vectors(path).ids() is None
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("name", "vectors", "ids", "error", "words"),
    [
        ("x.txt", BASE, None, errors.ParameterError, ".parquet"),
        ("x", BASE, None, errors.ParameterError, ".npy"),
        ("x.npy", BASE, INT_IDS, errors.ParameterError, "no ids"),
        ("x.fvecs", BASE, STR_IDS, errors.ParameterError, "no ids"),
        ("x.npz", BASE, INT_IDS[:3], errors.ShapeError, "33"),
        ("x.npz", BASE, BASE[:, 0], errors.DtypeError, "float32"),
        ("x.npz", BASE, [True] * 33, errors.DtypeError, "bool"),
        ("x.npz", BASE, [None] * 33, errors.DtypeError, "NoneType"),
        ("x.npz", BASE, [2**63] * 33, errors.DtypeError, "2^63"),
        ("x.npz", BASE, np.full(33, 2**63, np.uint64), errors.DtypeError, "2^63"),
        ("x.npy", BASE[0], None, errors.ShapeError, "(7,)"),
        ("x.npy", BASE[:, :0], None, errors.ShapeError, "(33, 0)"),
        ("x.npy", BASE.astype(object), None, errors.DtypeError, "object"),
        ("x.bvecs", BASE, None, errors.DtypeError, "float32"),
        ("x.fbin", BASE, STR_IDS, errors.ParameterError, "no ids"),
        ("x.u8bin", BASE, None, errors.DtypeError, "float32"),
        ("x.ibin", np.zeros((2, 3), np.int64), None, errors.DtypeError, "int64"),
        ("x.ivecs", BASE, None, errors.DtypeError, "float32"),
    ],
)
def test_what_cannot_be_written(tmp_path, name, vectors, ids, error, words):
    with pytest.raises(error) as caught:
        io.write(tmp_path / name, vectors, ids)
    assert words in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_a_place_that_cannot_be_written_is_named_as_it_was_given(tmp_path):
    (tmp_path / "folder.npz").mkdir()
    for path in (tmp_path / "folder.npz", tmp_path / "absent" / "x.npz"):
        with pytest.raises(OSError) as caught, replacing(path):
            pytest.fail("found only after the work was done")
        assert caught.value.filename == str(path)


@pytest.mark.parametrize("suffix", [".parquet", ".arrow"])
def test_arrow_files_hold_what_arrow_has(tmp_path, suffix):
    io.write(tmp_path / f"x{suffix}", BASE.astype(">f4"))
    np.testing.assert_array_equal(io.read(tmp_path / f"x{suffix}"), BASE)
    if np.dtype(np.longdouble).itemsize > 8:
        with pytest.raises(errors.DtypeError, match="Arrow"):
            io.write(tmp_path / f"x{suffix}", BASE.astype(np.longdouble))


@pytest.mark.parametrize("given", [None, 5, b"x.npy", "a\0b.npy", "\ud800.npz"], ids=ascii)
def test_what_is_no_path(given):
    for call in (io.open_vectors, io.read, io.read_ann_dataset, lambda path: io.write(path, BASE)):
        with pytest.raises(errors.ParameterError, match="path"):
            call(given)


def test_missing_files_and_folders(tmp_path):
    for suffix in (".npy", ".npz", ".parquet", ".arrow", ".fvecs"):
        with pytest.raises(FileNotFoundError):
            io.open_vectors(tmp_path / f"none{suffix}")
    (tmp_path / "folder.npy").mkdir()
    with pytest.raises(errors.DataFormatError, match="folder"):
        io.open_vectors(tmp_path / "folder.npy")


class TestNpy:
    @pytest.mark.parametrize("change", [np.asfortranarray, lambda x: x.astype(">f4"), lambda x: x.astype(">f8")])
    def test_order_and_endianness(self, tmp_path, change):
        np.save(tmp_path / "x.npy", change(BASE))
        source = io.open_vectors(tmp_path / "x.npy")
        np.testing.assert_array_equal(np.concatenate(list(batches(source, rows=10))), BASE)
        np.testing.assert_array_equal(as_matrix(source.sample(5, 0)), BASE[sample_rows(33, 5, 0)])

    @pytest.mark.parametrize("version", [(1, 0), (2, 0), (3, 0)])
    def test_versions(self, tmp_path, version):
        with open(tmp_path / "x.npy", "wb") as file:
            np.lib.format.write_array(file, BASE, version=version)
        np.testing.assert_array_equal(io.read(tmp_path / "x.npy"), BASE)

    def test_is_mapped(self, tmp_path):
        io.write(tmp_path / "x.npy", BASE)
        matrix = io.read(tmp_path / "x.npy")
        assert isinstance(matrix, np.memmap)
        assert not matrix.flags.writeable

    def test_columns_are_refused(self, tmp_path):
        io.write(tmp_path / "x.npy", BASE)
        io.write(tmp_path / "x.fvecs", BASE)
        for name in ("x.npy", "x.fvecs"):
            with pytest.raises(errors.ParameterError, match="no columns"):
                io.open_vectors(tmp_path / name, vector_column="v")


class TestNpz:
    def test_stored_arrays_are_mapped_and_deflated_ones_read(self, tmp_path):
        np.savez(tmp_path / "s.npz", pad=np.zeros(3), vectors=BASE, ids=STR_IDS)
        np.savez_compressed(tmp_path / "c.npz", pad=np.zeros(3), vectors=np.asfortranarray(BASE), ids=STR_IDS)
        assert isinstance(io.read(tmp_path / "s.npz"), np.memmap)
        for name in ("s.npz", "c.npz"):
            np.testing.assert_array_equal(io.read(tmp_path / name), BASE)
            assert io.open_vectors(tmp_path / name).ids().tolist() == STR_IDS

    def test_names(self, tmp_path):
        np.savez(tmp_path / "x.npz", a=BASE, b=BASE * 2, label=INT_IDS)
        with pytest.raises(errors.ParameterError, match="a, b"):
            io.open_vectors(tmp_path / "x.npz")
        with pytest.raises(errors.ParameterError, match="'c'"):
            io.open_vectors(tmp_path / "x.npz", vector_column="c")
        source = io.open_vectors(tmp_path / "x.npz", vector_column="b", id_column="label")
        np.testing.assert_array_equal(source.sample(33, 0), BASE * 2)
        assert source.ids().tolist() == INT_IDS.tolist()


class TestArrow:
    def table(self, **columns):
        vectors = pa.FixedSizeListArray.from_arrays(pa.array(BASE.reshape(-1)), 7)
        return pa.table({"text": ["x"] * 33, "id": STR_IDS, "v": vectors, **columns})

    def write(self, path, table, rows=9):
        if path.suffix == ".parquet":
            pq.write_table(table, path, row_group_size=rows)
        else:
            new = pa.ipc.new_stream if path.stem == "stream" else pa.ipc.new_file
            with new(path, table.schema) as writer:
                writer.write_table(table, max_chunksize=rows)
        return path

    @pytest.mark.parametrize("name", ["x.parquet", "x.arrow", "stream.arrow"])
    def test_row_groups_and_record_batches(self, tmp_path, name):
        source = io.open_vectors(self.write(tmp_path / name, self.table()))
        assert (source.count, source.dim) == (33, 7)
        assert source.ids().tolist() == STR_IDS
        for rows in (4, 9, 100):
            np.testing.assert_array_equal(np.concatenate(list(source.batches(rows))), BASE)
        np.testing.assert_array_equal(source.sample(10, 1), BASE[sample_rows(33, 10, 1)])

    @pytest.mark.parametrize("name", ["x.parquet", "x.arrow", "stream.arrow"])
    def test_lists_of_any_length_must_agree(self, tmp_path, name):
        rows = BASE.tolist()
        table = pa.table({"v": pa.array(rows, pa.list_(pa.float32()))})
        np.testing.assert_array_equal(io.read(self.write(tmp_path / name, table)), BASE)
        rows[20].pop()
        path = self.write(tmp_path / name, pa.table({"v": pa.array(rows, pa.list_(pa.float32()))}))
        with pytest.raises(errors.DataFormatError, match="length 6"):
            io.read(path)
        rows[20] = None
        path = self.write(tmp_path / name, pa.table({"v": pa.array(rows, pa.list_(pa.float32()))}))
        with pytest.raises(errors.DataFormatError, match="is null"):
            io.read(path)

    def test_only_chosen_row_groups_are_decoded(self, tmp_path, monkeypatch):
        path = self.write(tmp_path / "x.parquet", self.table(), rows=1)
        source = io.open_vectors(path)
        seen = []
        read = source.read
        monkeypatch.setattr(source, "read", lambda chunk, rows: seen.append(chunk) or read(chunk, rows))
        source.sample(4, 0)
        assert seen == sample_rows(33, 4, 0).tolist()

    @pytest.mark.parametrize("name", ["x.parquet", "x.arrow"])
    def test_columns(self, tmp_path, name):
        more = pa.FixedSizeListArray.from_arrays(pa.array(BASE.reshape(-1) * 2), 7)
        path = self.write(tmp_path / name, self.table(w=more, number=INT_IDS))
        with pytest.raises(errors.ParameterError, match="v, w"):
            io.open_vectors(path)
        for column in ("none", "text"):
            with pytest.raises(errors.ParameterError, match=column):
                io.open_vectors(path, vector_column=column)
        with pytest.raises(errors.ParameterError, match="'v'"):
            io.open_vectors(path, vector_column="w", id_column="v")
        source = io.open_vectors(path, vector_column="w", id_column="number")
        np.testing.assert_array_equal(source.sample(99, 0), BASE * 2)
        assert source.ids().tolist() == INT_IDS.tolist()

    def test_null_and_too_large_ids(self, tmp_path):
        path = self.write(tmp_path / "x.parquet", self.table(n=pa.array([1, None] + [2] * 31)))
        with pytest.raises(errors.DataFormatError, match="row 1 is null"):
            io.open_vectors(path, id_column="n").ids()
        large = pa.array([2**64 - 1] * 33, pa.uint64())
        with pytest.raises(errors.DataFormatError, match="2\\^63"):
            io.open_vectors(self.write(tmp_path / "x.arrow", self.table(n=large)), id_column="n").ids()

    @pytest.mark.parametrize("kind", [pa.dictionary(pa.int32(), pa.string()), pa.string_view()], ids=str)
    def test_ids_however_they_are_encoded(self, tmp_path, kind):
        try:
            table = self.table(id=pa.array(STR_IDS).cast(kind))
        except pa.ArrowNotImplementedError:
            pytest.skip(f"pyarrow {pa.__version__} makes no {kind}")
        assert io.open_vectors(self.write(tmp_path / "x.arrow", table)).ids().tolist() == STR_IDS
        assert as_source(table).ids().tolist() == STR_IDS

    @pytest.mark.parametrize("name", ["x.parquet", "x.arrow", "stream.arrow"])
    @pytest.mark.parametrize("kind", [pa.float64(), pa.bool_(), pa.binary()], ids=str)
    def test_a_column_that_cannot_hold_ids_is_not_passed_over(self, tmp_path, name, kind):
        ids = pa.array([b"a"] * 33) if pa.types.is_binary(kind) else pa.array([0, 1, 0] * 11).cast(kind)
        path = self.write(tmp_path / name, self.table(id=ids))
        with pytest.raises(errors.DataFormatError, match=f"{name}: column 'id' is {kind}, expected integers or str"):
            io.open_vectors(path).ids()
        with pytest.raises(errors.DtypeError, match=f"column 'id' is {kind}, expected integers or strings"):
            as_source(self.table(id=ids)).ids()
        np.testing.assert_array_equal(io.read(path), BASE)  # queries need no ids
        assert io.open_vectors(path, id_column="text").ids().tolist() == ["x"] * 33

    @pytest.mark.parametrize("reverse", [False, True])
    @pytest.mark.parametrize("name", ["x.parquet", "x.arrow"])
    def test_a_name_with_a_dot_is_not_a_field_of_a_struct(self, tmp_path, name, reverse):
        others = pa.FixedSizeListArray.from_arrays(pa.array(BASE.reshape(-1) * 2), 7)
        columns = {
            "emb": pa.StructArray.from_arrays([others], ["v1"]),
            "emb.v1": self.table()["v"],
            "key": pa.StructArray.from_arrays([pa.array(INT_IDS)], ["id"]),
            "key.id": self.table()["id"],
        }
        table = pa.table({column: columns[column] for column in sorted(columns, reverse=reverse)})
        path = self.write(tmp_path / name, table)
        source = io.open_vectors(path, vector_column="emb.v1", id_column="key.id")
        np.testing.assert_array_equal(source.sample(33, 0), BASE)
        assert source.ids().tolist() == STR_IDS

    def test_compressed_batches(self, tmp_path):
        with pa.ipc.new_file(
            tmp_path / "x.arrow", self.table().schema, options=pa.ipc.IpcWriteOptions(compression="lz4")
        ) as w:
            w.write_table(self.table())
        np.testing.assert_array_equal(io.read(tmp_path / "x.arrow"), BASE)


class TestVecs:
    @pytest.mark.parametrize(("suffix", "dtype"), [(".fvecs", "f4"), (".ivecs", "i4"), (".bvecs", "u1")])
    def test_layout(self, tmp_path, suffix, dtype):
        vectors = np.arange(15).reshape(3, 5).astype(dtype)
        raw = b"".join(np.int32(5).tobytes() + row.tobytes() for row in vectors)
        (tmp_path / f"x{suffix}").write_bytes(raw)
        np.testing.assert_array_equal(io.read(tmp_path / f"x{suffix}"), vectors)
        io.write(tmp_path / f"y{suffix}", vectors)
        assert (tmp_path / f"y{suffix}").read_bytes() == raw

    def test_more_rows_than_a_block(self, tmp_path):
        vectors = np.random.default_rng(0).integers(0, 255, (5000, 3)).astype(np.uint8)
        io.write(tmp_path / "x.bvecs", vectors)
        np.testing.assert_array_equal(io.read(tmp_path / "x.bvecs"), vectors)


class TestXbin:
    @pytest.mark.parametrize(
        ("suffix", "dtype"), [(".fbin", "f4"), (".u8bin", "u1"), (".i8bin", "i1"), (".ibin", "i4")]
    )
    def test_layout(self, tmp_path, suffix, dtype):
        vectors = (np.arange(15).reshape(3, 5) * 16).astype(dtype)
        raw = np.array([3, 5], np.uint32).tobytes() + vectors.tobytes()
        (tmp_path / f"x{suffix}").write_bytes(raw)
        found = io.read(tmp_path / f"x{suffix}")
        assert found.dtype == dtype
        assert isinstance(found, np.memmap)
        np.testing.assert_array_equal(found, vectors)
        io.write(tmp_path / f"y{suffix}", vectors)
        assert (tmp_path / f"y{suffix}").read_bytes() == raw

    def test_more_rows_than_a_block(self, tmp_path):
        vectors = np.random.default_rng(0).integers(-128, 128, (5000, 3)).astype(np.int8)
        io.write(tmp_path / "x.i8bin", vectors)
        np.testing.assert_array_equal(io.read(tmp_path / "x.i8bin"), vectors)
        np.testing.assert_array_equal(
            np.concatenate(list(io.open_vectors(tmp_path / "x.i8bin").batches(4999))), vectors
        )

    def test_no_rows(self, tmp_path):
        io.write(tmp_path / "x.fbin", BASE[:0])
        assert io.read(tmp_path / "x.fbin").shape == (0, 7)

    @pytest.mark.parametrize("name", ["gt.ibin", "gt.bin", "gt100"])
    def test_true_neighbours(self, tmp_path, name):
        ids = np.array([[5, 2**32 - 1, 0], [1, 2, 3]])
        distances = np.array([[0, 0.5, 2], [-1, 3, 4]], np.float32)
        raw = np.array([2, 3], np.uint32).tobytes() + ids.astype(np.uint32).tobytes()
        io.write_ground_truth(tmp_path / name, ids)
        assert (tmp_path / name).read_bytes() == raw
        found, missing = io.read_ground_truth(tmp_path / name)
        assert found.dtype == np.int64
        np.testing.assert_array_equal(found, ids)
        assert missing is None
        io.write_ground_truth(tmp_path / name, ids, distances)
        assert (tmp_path / name).read_bytes() == raw + distances.tobytes()
        found, measured = io.read_ground_truth(tmp_path / name)
        np.testing.assert_array_equal(found, ids)
        assert measured is not None
        assert measured.dtype == np.float32
        np.testing.assert_array_equal(measured, distances)

    @pytest.mark.parametrize(
        ("ids", "distances", "error", "words"),
        [
            ([[-1, 2]], None, errors.ParameterError, "ids -1 to 2"),
            ([[2**32, 2]], None, errors.ParameterError, "4294967295"),
            ([[0.5, 2]], None, errors.DtypeError, "float64"),
            ([1, 2], None, errors.ShapeError, r"\(2,\)"),
            (np.zeros((2, 0), int), None, errors.ShapeError, "nq, k"),
            ([[1, 2]], np.zeros((1, 3), np.float32), errors.ShapeError, r"\(1, 3\)"),
            ([[1, 2]], np.zeros((1, 2)), errors.DtypeError, "float64"),
        ],
    )
    def test_true_neighbours_that_do_not_fit(self, tmp_path, ids, distances, error, words):
        with pytest.raises(error, match=words):
            io.write_ground_truth(tmp_path / "gt.ibin", ids, distances)
        assert list(tmp_path.iterdir()) == []


class TestHdf5:
    def test_chunked_and_compressed(self, tmp_path):
        h5py = pytest.importorskip("h5py")
        with h5py.File(tmp_path / "x.hdf5", "w") as file:
            file.create_dataset("train", data=BASE, chunks=(4, 7), compression="gzip")
            file.create_dataset("test", data=BASE[:2])
            file.create_group("extra")
        source = io.open_vectors(tmp_path / "x.hdf5")
        np.testing.assert_array_equal(np.concatenate(list(source.batches(10))), BASE)
        np.testing.assert_array_equal(source.sample(6, 2), BASE[sample_rows(33, 6, 2)])
        assert io.open_vectors(tmp_path / "x.hdf5", vector_column="test").count == 2
        with pytest.raises(errors.ParameterError, match="train"):
            io.open_vectors(tmp_path / "x.hdf5", vector_column="extra")

    def test_contiguous_is_mapped(self, tmp_path):
        pytest.importorskip("h5py")
        io.write(tmp_path / "x.h5", BASE)
        assert isinstance(io.read(tmp_path / "x.h5"), np.memmap)

    def test_ids_that_hdf5_would_cut_are_refused(self, tmp_path):
        pytest.importorskip("h5py")
        with pytest.raises(errors.ParameterError, match="NUL"):
            io.write(tmp_path / "x.h5", BASE, ["a\0b", *STR_IDS[1:]])
        assert list(tmp_path.iterdir()) == []

    def test_without_h5py(self, tmp_path, monkeypatch):
        (tmp_path / "x.hdf5").write_bytes(b"")
        monkeypatch.setitem(__import__("sys").modules, "h5py", None)
        with pytest.raises(errors.MissingExtraError, match=r"annvq\[hdf5\]"):
            io.open_vectors(tmp_path / "x.hdf5")
