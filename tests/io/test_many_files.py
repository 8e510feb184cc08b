"""Several files as one source."""

import numpy as np
import pytest

import annvq
from annvq import io
from annvq.errors import DataFormatError, ParameterError, ShapeError
from annvq.io.many import files_of, joined


@pytest.fixture
def files(tmp_path):
    """Return the paths of 70 vectors in three files of different formats, and the vectors."""
    vectors = np.random.default_rng(0).normal(size=(70, 4)).astype(np.float32)
    paths = [tmp_path / name for name in ("a.npy", "b.parquet", "c.npz")]
    for path, part in zip(paths, np.split(vectors, [30, 50])):
        io.write(path, part)
    return paths, vectors


def opened(paths):
    return joined([io.open_vectors(path) for path in paths], [path.name for path in paths])


def test_files_are_read_as_one(files):
    paths, vectors = files
    source = opened(paths)
    assert (source.count, source.dim, source.ids()) == (70, 4, None)
    assert np.array_equal(np.concatenate(list(source.batches(8))), vectors)
    index = annvq.build(opened(paths), "IVF4,Flat", metric="l2")
    whole = annvq.build(vectors, "IVF4,Flat", metric="l2")
    for mine, other in zip(index.search(vectors, 5), whole.search(vectors, 5)):
        assert np.array_equal(mine, other)


def test_a_sample_is_that_of_one_file(files):
    paths, vectors = files
    one = io.MatrixSource(vectors)
    assert np.array_equal(opened(paths).sample(20, seed=3), one.sample(20, seed=3))


def test_ids_are_of_all_files_or_of_none(files, tmp_path):
    _, vectors = files
    for name, ids in (("x", ["a", "b"]), ("y", ["c", "d"])):
        io.write(tmp_path / f"{name}.parquet", vectors[:2], ids)
    paths = [tmp_path / "x.parquet", tmp_path / "y.parquet"]
    assert opened(paths).ids().tolist() == ["a", "b", "c", "d"]
    with pytest.raises(DataFormatError, match=r"a\.npy: no ids"):
        opened([*paths, tmp_path / "a.npy"]).ids()


def test_files_of_other_dimensions_are_refused(files, tmp_path):
    io.write(tmp_path / "d.npy", np.ones((2, 5)))
    with pytest.raises(ShapeError, match=r"d\.npy: dimension 5, but that of a\.npy is 4"):
        opened([*files[0], tmp_path / "d.npy"])


def test_folders_and_patterns_stand_for_files(files, tmp_path):
    paths, _ = files
    (tmp_path / "notes.txt").touch()
    suffixes = tuple(io.FORMATS)
    assert files_of([tmp_path], suffixes) == paths
    assert files_of([tmp_path / "*.np?"], suffixes) == [paths[0], paths[2]]
    assert files_of([tmp_path / "absent.npy"], suffixes) == [tmp_path / "absent.npy"]  # opening says it better
    odd = tmp_path / "odd[1].npy"
    odd.touch()
    assert files_of([odd], suffixes) == [odd]
    with pytest.raises(ParameterError, match="no file with vectors"):
        files_of([tmp_path / "*.hdf5"], suffixes)
