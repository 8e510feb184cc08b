import numpy as np
import pytest

from annvq import codebooks
from annvq.codebooks import KMeans, ProductCodebook, RaBitQCodebook, ResidualCodebook, Rotation, ScalarCodebook
from annvq.errors import CorruptIndexError, StorageError

storage = pytest.importorskip("annvq.storage")


def vectors():
    return np.random.default_rng(0).standard_normal((60, 8)).astype(np.float32)


MAKERS = {
    "kmeans": lambda: KMeans.train(vectors(), 4, metric="ip"),
    "sq8": lambda: ScalarCodebook.train(vectors(), kind="sq8"),
    "fp16": lambda: ScalarCodebook.train(vectors(), kind="fp16"),
    "product": lambda: ProductCodebook.train(vectors(), M=4, nbits=4, anisotropic_eta=2.5),
    "residual": lambda: ResidualCodebook.train(vectors(), M=3, nbits=4, beam=2),
    "rabitq": lambda: RaBitQCodebook.train(vectors(), nbits=3),
    "rotation": lambda: Rotation.random(8),
}


@pytest.mark.parametrize("name", MAKERS)
def test_saved_and_loaded(name, tmp_path):
    codebook = MAKERS[name]()
    path = tmp_path / "codebook.annvq"
    codebooks.save(path, codebook)
    again = codebooks.open(path)
    assert type(again) is type(codebook)
    assert again.config() == codebook.config()
    arrays = again.arrays()
    assert arrays.keys() == codebook.arrays().keys()
    for key, array in codebook.arrays().items():
        assert arrays[key].dtype == array.dtype
        assert np.array_equal(arrays[key], array)
    if name not in ("rotation", "kmeans", "rabitq"):
        assert np.array_equal(again.encode(vectors()), codebook.encode(vectors()))


def test_other_files(tmp_path):
    path = tmp_path / "file"
    with pytest.raises(StorageError):
        codebooks.open(path)
    path.write_bytes(b"not a container")
    with pytest.raises(CorruptIndexError):
        codebooks.open(path)
    storage.write_container(path, "segment", {"config": np.zeros(2, np.uint8)})
    with pytest.raises(CorruptIndexError, match="segment"):
        codebooks.open(path)
    for config in (b"{", b"[]", b"\xff", b"{}", b'{"class": []}', b'{"class": "other"}', b'{"class": "product"}'):
        storage.write_container(path, "codebook", {"config": np.frombuffer(config, np.uint8)})
        with pytest.raises(CorruptIndexError):
            codebooks.open(path)
    storage.write_container(path, "codebook", {"codebooks": np.zeros((2, 16, 4), np.float32)})
    with pytest.raises(CorruptIndexError):
        codebooks.open(path)
