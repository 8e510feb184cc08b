"""Files that lie: DataFormatError, and no memory asked for that the file does not justify."""

import io as bytes_io
import os
import tracemalloc
import zipfile

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import annvq
from annvq import errors, io

BASE = np.random.default_rng(0).normal(size=(33, 7)).astype(np.float32)
LIMIT = 1 << 26  # bytes


@pytest.fixture
def memory():
    """Fail a test that allocates more than LIMIT through NumPy."""
    tracemalloc.start()
    yield
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < LIMIT


def npy_header(text, version=1, length=None):
    text = text.encode()
    width = 2 if version == 1 else 4
    return (
        b"\x93NUMPY" + bytes([version, 0]) + (len(text) if length is None else length).to_bytes(width, "little") + text
    )


def npy_bytes(array):
    buffer = bytes_io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


def declared(shape="(2, 3)", descr="'<f4'", order="False"):
    return npy_header(f"{{'descr': {descr}, 'fortran_order': {order}, 'shape': {shape}}}\n")


HOSTILE_NPY = {
    "empty": b"",
    "magic": b"\x93NUMPX\1\0" + bytes(100),
    "only magic": b"\x93NUMPY",
    "version": b"\x93NUMPY\7\0" + bytes(100),
    "huge": declared("(1000000000000, 128)"),
    "overflow": declared("(4611686018427387904, 4611686018427387904)") + bytes(64),
    "overflow to zero": declared("(4294967296, 4294967296, 4)", "'<f8'"),
    "negative": declared("(-1, 3)"),
    "float": declared("(2.0, 3)") + bytes(24),
    "boolean": declared("(True, 6)") + bytes(24),
    "list": declared("[2, 3]") + bytes(24),
    "string": declared("'23'") + bytes(24),
    "object": declared(descr="'|O'") + bytes(48),
    "records": declared(descr="[('a', '<f4')]") + bytes(24),
    "void": declared(descr="'|V4'") + bytes(24),
    "zero width": declared("(1000000000000, 9)", descr="'<U0'"),
    "unknown dtype": declared(descr="'<q9'") + bytes(24),
    "dtype expression": declared(descr="'f4,(2,)i4'") + bytes(24),
    "dtype number": declared(descr="5") + bytes(24),
    "order": declared(order="7") + bytes(24),
    "call": npy_header("__import__('os').getcwd()"),
    "missing keys": npy_header("{'shape': (2, 3)}") + bytes(24),
    "deep": npy_header("(" * 9000),
    "deep unary": npy_header("-" * 9000 + "1"),
    "not text": npy_header("\x00\x01"),
    "header beyond the file": npy_header("{}", length=5000),
    "header of 4 GB": npy_header("{}", version=2, length=2**32 - 1),
    "truncated": npy_bytes(BASE)[:-1],
    "trailing": npy_bytes(BASE) + b"\0",
    "three axes": npy_bytes(np.zeros((2, 2, 2), np.float32)),
    "strings": npy_bytes(np.array([["a", "b"]])),
    "complex": npy_bytes(BASE.astype("c8")),
}


@pytest.mark.usefixtures("memory")
@pytest.mark.parametrize("raw", HOSTILE_NPY.values(), ids=HOSTILE_NPY)
class TestNumPy:
    def test_npy(self, tmp_path, raw):
        (tmp_path / "x.npy").write_bytes(raw)
        with pytest.raises(errors.DataFormatError):
            io.open_vectors(tmp_path / "x.npy")

    @pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
    def test_npz(self, tmp_path, raw, method):
        with zipfile.ZipFile(tmp_path / "x.npz", "w", method) as archive:
            archive.writestr("vectors.npy", raw)
        with pytest.raises(errors.DataFormatError):
            io.open_vectors(tmp_path / "x.npz")


@pytest.mark.usefixtures("memory")
class TestZip:
    def write(self, path, raw, method=zipfile.ZIP_DEFLATED):
        with zipfile.ZipFile(path, "w", method) as archive:
            archive.writestr("vectors.npy", raw)
        return path

    def refused(self, path, words="x.npz"):
        tracemalloc.reset_peak()  # what the test itself took to write the file
        with pytest.raises(errors.DataFormatError, match=words):
            io.open_vectors(path)

    def test_bomb(self, tmp_path):
        rows = 1 << 20
        path = tmp_path / "x.npz"
        header = declared(f"({rows}, 25)")
        block = bytes(1 << 20)
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive, archive.open("vectors.npy", "w") as file:
            file.write(header)
            for _ in range(100):
                file.write(block)
        self.refused(path, "is not believed")

    def test_declared_sizes_that_are_not_there(self, tmp_path):
        path = self.write(tmp_path / "x.npz", npy_bytes(BASE))
        raw = path.read_bytes()
        central = raw.index(b"PK\1\2")
        for offset, value in ((24, 2**31), (20, 2**31), (24, 10), (24, len(npy_bytes(BASE)) + 28), (42, 2**31)):
            changed = bytearray(raw)
            changed[central + offset : central + offset + 4] = value.to_bytes(4, "little")
            path.write_bytes(changed)
            self.refused(path)

    def test_names_that_are_no_text(self, tmp_path):
        path = self.write(tmp_path / "x.npz", npy_bytes(BASE))
        changed = bytearray(path.read_bytes())
        central = changed.index(b"PK\1\2")
        changed[central + 9] |= 0x08  # the name is said to be UTF-8
        changed[central + 46] = 0xFF
        path.write_bytes(changed)
        self.refused(path)

    def test_members_before_the_beginning(self, tmp_path):
        path = self.write(tmp_path / "x.npz", npy_bytes(BASE))
        changed = bytearray(path.read_bytes())
        at = changed.index(b"PK\5\6") + 16  # where the directory is said to be: all offsets count from there
        changed[at : at + 4] = (int.from_bytes(changed[at : at + 4], "little") + 50).to_bytes(4, "little")
        path.write_bytes(changed)
        self.refused(path, "truncated")
        with pytest.raises(errors.DataFormatError, match="truncated"):
            io.read_queries(path)

    def test_a_stored_member_that_overlaps_the_end(self, tmp_path):
        path = self.write(tmp_path / "x.npz", npy_bytes(BASE), zipfile.ZIP_STORED)
        raw = bytearray(path.read_bytes())
        raw[28:30] = (60000).to_bytes(2, "little")  # extra field of the local header
        path.write_bytes(raw)
        self.refused(path)

    def test_a_flipped_bit_in_a_deflated_member(self, tmp_path):
        path = self.write(tmp_path / "x.npz", npy_bytes(BASE))
        raw = bytearray(path.read_bytes())
        raw[400] ^= 4
        path.write_bytes(raw)
        self.refused(path)

    def test_a_member_that_is_not_deflated(self, tmp_path):
        path = self.write(tmp_path / "x.npz", npy_bytes(BASE))
        raw = bytearray(path.read_bytes())
        start = 30 + int.from_bytes(raw[26:28], "little") + int.from_bytes(raw[28:30], "little")
        raw[start] |= 6  # a kind of block that does not exist
        path.write_bytes(raw)
        self.refused(path)

    @pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
    def test_other_methods(self, tmp_path, method):
        self.refused(self.write(tmp_path / "x.npz", npy_bytes(BASE), method), "deflate")

    def test_encrypted(self, tmp_path):
        path = self.write(tmp_path / "x.npz", npy_bytes(BASE), zipfile.ZIP_STORED)
        raw = bytearray(path.read_bytes())
        raw[6] |= 1
        raw[raw.index(b"PK\1\2") + 8] |= 1
        path.write_bytes(raw)
        self.refused(path, "encrypted")

    def test_no_archive(self, tmp_path):
        (tmp_path / "x.npz").write_bytes(npy_bytes(BASE))
        self.refused(tmp_path / "x.npz")

    def test_ids(self, tmp_path):
        for ids in (np.zeros((33, 2), np.int64), BASE[:, 0], np.full(33, 2**63, np.uint64)):
            np.savez(tmp_path / "x.npz", vectors=BASE, ids=ids)
            with pytest.raises(errors.DataFormatError):
                io.open_vectors(tmp_path / "x.npz").ids()


@pytest.mark.usefixtures("memory")
class TestVecs:
    def refused(self, path, raw, words):
        path.write_bytes(raw)
        with pytest.raises(errors.DataFormatError, match=words):
            io.read(path)

    def test_damage(self, tmp_path):
        row = np.int32(3).tobytes() + BASE[0, :3].tobytes()
        path = tmp_path / "x.fvecs"
        self.refused(path, b"", "empty")
        self.refused(path, b"\1\0", "dimension|multiple|truncated")
        self.refused(path, row * 2 + row[:-1], "truncated")
        self.refused(path, np.int32(0).tobytes() * 4, "dimension 0")
        self.refused(path, np.int32(-5).tobytes() * 4, "dimension -5")
        self.refused(path, np.int32(2**31 - 1).tobytes() * 4, "dimension 2147483647")
        self.refused(path, np.int32(1 << 20).tobytes() * 4, "multiple")
        self.refused(path, row + np.int32(2).tobytes() + row[4:], "row 1 has dimension 2")

    def test_a_sample_names_the_row(self, tmp_path):
        io.write(tmp_path / "x.ivecs", np.zeros((50, 2), np.int32))
        raw = bytearray((tmp_path / "x.ivecs").read_bytes())
        raw[12 * 17] = 3
        (tmp_path / "x.ivecs").write_bytes(raw)
        source = io.open_vectors(tmp_path / "x.ivecs")
        with pytest.raises(errors.DataFormatError, match="row 17 has dimension 3"):
            source.sample(50, 0)
        with pytest.raises(errors.DataFormatError, match="row 17 "):
            list(source.batches(16))


@pytest.mark.usefixtures("memory")
class TestXbin:
    @pytest.mark.parametrize(
        ("header", "values", "words"),
        [
            (b"", b"", "0 bytes, expected a header"),
            (b"\1\0\0", b"", "3 bytes, expected a header"),
            ((1, 0), b"", "rows of 0 values"),
            ((1, 2**32 - 1), b"", "rows of 4294967295 values"),
            ((2**32 - 1, 1 << 20), b"", "0 bytes after the header, expected 18014398505287680"),
            ((2, 3), b"x" * 23, "23 bytes after the header, expected 24"),
            ((2, 3), b"x" * 25, "25 bytes after the header, expected 24"),
            ((2, 3), b"x" * 47, "47 bytes"),
            ((0, 3), b"x", "1 bytes after the header, expected 0"),
        ],
    )
    def test_headers(self, tmp_path, header, values, words):
        raw = (header if isinstance(header, bytes) else np.array(header, np.uint32).tobytes()) + values
        path = tmp_path / "x.ibin"
        path.write_bytes(raw)
        for read in (io.read, io.read_ground_truth):
            with pytest.raises(errors.DataFormatError, match=words):
                read(path)

    def test_true_neighbours_are_not_vectors(self, tmp_path):
        io.write_ground_truth(tmp_path / "x.ibin", [[1, 2]], np.zeros((1, 2), np.float32))
        with pytest.raises(errors.DataFormatError, match="read_ground_truth"):
            io.read(tmp_path / "x.ibin")


class TestArrow:
    @pytest.mark.parametrize("suffix", [".parquet", ".arrow"])
    @pytest.mark.parametrize("kept", [0, 3, 6, 100, -1])
    def test_truncated(self, tmp_path, suffix, kept):
        path = tmp_path / f"x{suffix}"
        io.write(path, BASE)
        path.write_bytes(path.read_bytes()[:kept])
        with pytest.raises(errors.DataFormatError, match="x\\."):
            io.read(path)

    def test_offsets_that_point_outside(self, tmp_path):
        lists = pa.array(BASE.tolist(), pa.list_(pa.float32()))
        offsets = lists.offsets.to_numpy().copy()
        path = tmp_path / "x.arrow"
        with pa.ipc.new_file(path, pa.schema({"v": lists.type})) as writer:
            writer.write_batch(pa.record_batch({"v": lists}))
        raw = path.read_bytes()
        assert raw.count(offsets.tobytes()) == 1
        path.write_bytes(raw.replace(offsets.tobytes(), (offsets + 2**30).tobytes()))
        with pytest.raises(errors.DataFormatError):
            io.read(path)

    @settings(deadline=None, max_examples=60, derandomize=True)
    @given(st.data())
    def test_flipped_bytes_never_do_worse_than_an_error(self, tmp_path_factory, data):
        folder = tmp_path_factory.getbasetemp()
        suffix = data.draw(st.sampled_from([".npy", ".npz", ".parquet", ".arrow", ".fvecs", ".fbin"]))
        path = folder / f"flip{suffix}"
        ids = None if suffix in (".npy", ".fvecs", ".fbin") else [f"d{i}" for i in range(33)]
        io.write(path, BASE, ids)
        raw = bytearray(path.read_bytes())
        place = data.draw(st.integers(0, len(raw) - 1))
        raw[place] ^= data.draw(st.integers(1, 255))
        path.write_bytes(raw)
        try:
            source = io.open_vectors(path)
            for block in source.batches(10):
                block.sum()
            source.sample(5, 0)
            source.ids()
        except (errors.DataFormatError, errors.ParameterError):
            pass


class TestHdf5:
    @pytest.fixture(autouse=True)
    def _h5py(self):
        self.h5py = pytest.importorskip("h5py")

    def refused(self, path, words="x.hdf5", **names):
        with pytest.raises(errors.DataFormatError, match=words):
            io.open_vectors(path, **names)

    def test_not_hdf5(self, tmp_path):
        for raw in (b"", b"\x89HDF\r\n\x1a\n" + bytes(100), npy_bytes(BASE)):
            (tmp_path / "x.hdf5").write_bytes(raw)
            self.refused(tmp_path / "x.hdf5")

    def test_truncated(self, tmp_path):
        path = tmp_path / "x.hdf5"
        io.write(path, BASE)
        path.write_bytes(path.read_bytes()[:-100])
        self.refused(path)

    def test_declared_but_not_written(self, tmp_path):
        with self.h5py.File(tmp_path / "x.hdf5", "w") as file:
            file.create_dataset("vectors", shape=(10**12, 128), dtype="f4", chunks=(1000, 128))
        self.refused(tmp_path / "x.hdf5", "claims")

    def test_bomb(self, tmp_path):
        with self.h5py.File(tmp_path / "x.hdf5", "w") as file:
            file.create_dataset("vectors", data=np.zeros((1 << 18, 32), np.float32), compression="gzip")
        self.refused(tmp_path / "x.hdf5", "claims")

    def test_data_in_other_files(self, tmp_path):
        (tmp_path / "secret").write_bytes(bytes(80))
        io.write(tmp_path / "other.hdf5", BASE)
        with self.h5py.File(tmp_path / "x.hdf5", "w") as file:
            file.create_dataset("vectors", (4, 5), "f4", external=[(str(tmp_path / "secret"), 0, 80)])
            file["link"] = self.h5py.ExternalLink("other.hdf5", "vectors")
            layout = self.h5py.VirtualLayout((33, 7), "f4")
            layout[:] = self.h5py.VirtualSource(tmp_path / "other.hdf5", "vectors", (33, 7))
            file.create_virtual_dataset("virtual", layout)
        for name in ("vectors", "virtual"):
            self.refused(tmp_path / "x.hdf5", "other files", vector_column=name)
        with pytest.raises(errors.ParameterError, match="no dataset 'link' in the file itself"):
            io.open_vectors(tmp_path / "x.hdf5", vector_column="link")

    @pytest.mark.parametrize("kind", ["text", "number"])
    def test_ids_that_are_none(self, tmp_path, kind):
        with self.h5py.File(tmp_path / "x.hdf5", "w") as file:
            file["vectors"] = BASE
            latin = np.array([b"\xe9"] * 33, dtype=object)
            if kind == "text":
                file.create_dataset("ids", data=latin, dtype=self.h5py.string_dtype("utf-8"))
            else:
                file["ids"] = np.full(33, 2**63, np.uint64)
        with pytest.raises(errors.DataFormatError, match=r"UTF-8|2\^63"):
            io.open_vectors(tmp_path / "x.hdf5").ids()

    def test_wrong_kinds(self, tmp_path):
        with self.h5py.File(tmp_path / "x.hdf5", "w") as file:
            file["one"] = BASE[0]
            file["text"] = np.array([[b"a"]])
            file["empty"] = self.h5py.Empty("f4")
            file["vectors"], file["ids"] = BASE, BASE[:, 0]
        for name in ("one", "text", "empty"):
            self.refused(tmp_path / "x.hdf5", name, vector_column=name)
        with pytest.raises(errors.DataFormatError, match="int64 or str"):
            io.open_vectors(tmp_path / "x.hdf5").ids()


@pytest.mark.parametrize("suffix", io.FORMATS)
def test_what_is_no_file_is_not_waited_for(suffix, tmp_path):
    pipe, device = tmp_path / f"pipe{suffix}", tmp_path / f"device{suffix}"
    os.mkfifo(pipe)
    device.symlink_to("/dev/zero")
    for path, words in ((pipe, "is a named pipe, expected a file"), (device, "is a device, expected a file")):
        for use in (io.open_vectors, io.read, io.read_ann_dataset, lambda path: io.write(path, BASE)):
            with pytest.raises(errors.DataFormatError, match=words):
                use(path)


def test_a_recipe_that_is_no_file(tmp_path):
    os.mkfifo(tmp_path / "recipe.toml")
    with pytest.raises(errors.RecipeError, match="named pipe"):
        annvq.build(BASE, tmp_path / "recipe.toml")
