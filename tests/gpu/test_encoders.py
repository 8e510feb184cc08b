"""Codes that are made on a device: those of the CPU, to the bit."""

import numpy as np
import pytest
import torch

from annvq.codebooks import ProductCodebook, RaBitQCodebook, ResidualCodebook, ScalarCodebook
from annvq.errors import NonFiniteError
from annvq.gpu.encoders.local_rows import LocalRowEncoder
from annvq.gpu.encoders.product import ProductEncoder
from annvq.gpu.encoders.rabitq import RaBitQEncoder
from annvq.gpu.encoders.residual import ResidualEncoder
from annvq.gpu.encoders.rows import BitEncoder, RowEncoder, ScalarEncoder
from annvq.gpu.encoders.second_lists import SecondListsThere
from annvq.gpu.encoders.tables import TableEncoder
from annvq.gpu.kernels.find_ranges import find_ranges
from annvq.gpu.launch import launch
from annvq.index.codes.bits import PackedBits
from annvq.index.codes.localrows import LocalRowStore
from annvq.index.codes.rabitq import RaBitQCodes
from annvq.index.codes.rowstore import RowStore
from annvq.index.codes.spill import SecondLists
from annvq.index.codes.tablecodes import TableCodes


@pytest.fixture
def where(device):
    return torch.device("cpu" if device == "interpreter" else device)


def vectors(n, d, seed=0):
    """Return rows of all sizes, with one of zeros and two that are equal."""
    rng = np.random.default_rng(seed)
    rows = (rng.normal(size=(n, d)) * 10.0 ** rng.integers(-3, 3, (n, 1))).astype(np.float32)
    if n > 4:
        rows[1] = 0
        rows[3] = rows[2]
    return rows


def compare(found, wanted):
    assert sorted(found) == sorted(wanted)
    for name, array in wanted.items():
        given = found[name].cpu().numpy()
        assert given.dtype == array.dtype
        np.testing.assert_array_equal(given, array, err_msg=name)


@pytest.mark.parametrize(
    ("d", "M", "nbits", "eta"),
    [(10, 5, 4, None), (11, 3, 8, None), (9, 5, 4, 3.0), (10, 3, 4, 2.5), (5, 2, 8, 4.0)],
)
def test_product_codes(where, d, M, nbits, eta):
    rows = vectors(200, d)
    codebook = ProductCodebook.train(rows, M=M, nbits=nbits, anisotropic_eta=eta)
    targets = vectors(33, d, 1)
    along = vectors(33, d, 2) if eta else None
    wanted = codebook.encode_trusted(targets, along, threads=1)
    there = torch.from_numpy(targets).to(where)
    encoder = ProductEncoder(codebook, where)
    found = encoder.encode(there, there if along is None else torch.from_numpy(along).to(where))
    np.testing.assert_array_equal(found.cpu().numpy(), wanted)
    assert len(np.unique(wanted)) > 3
    if eta is None:
        dsub = codebook.codebooks.shape[2]
        parts = np.pad(targets, [(0, 0), (0, M * dsub - d)]).reshape(33, M, 1, dsub).astype(np.float64)
        distances = np.square(parts - codebook.codebooks).sum(axis=3)
        chosen = np.take_along_axis(distances, found.cpu().numpy()[..., None].astype(int), 2)[..., 0]
        np.testing.assert_allclose(chosen, distances.min(axis=2), rtol=1e-4, atol=1e-5)
    assert encoder.encode(there[:0], there[:0]).shape == (0, M)


@pytest.mark.parametrize(("nbits", "beam"), [(4, 1), (4, 16), (8, 3)])
def test_residual_codes(where, nbits, beam):
    rows = vectors(100, 9)
    codebook = ResidualCodebook.train(rows, M=3, nbits=nbits, beam=beam)
    targets = vectors(33, 9, 1)
    found = ResidualEncoder(codebook, where).encode(torch.from_numpy(targets).to(where))
    np.testing.assert_array_equal(found.cpu().numpy(), codebook.encode_trusted(targets, threads=1))
    assert ResidualEncoder(codebook, where).encode(torch.empty((0, 9), device=where)).shape == (0, 3)


@pytest.mark.parametrize("nbits", [1, 2, 5, 8])
@pytest.mark.parametrize("metric", ["ip", "l2"])
def test_rabitq_codes(where, nbits, metric):
    d, n = 70, 21
    rows, centroids = vectors(n, d), vectors(3, d, 1)
    labels = np.arange(n) % 3
    rows[5] *= np.float32(1e-25)
    rows[7] = centroids[labels[7]]  # a residual of zero
    codes = RaBitQCodes(RaBitQCodebook.train(rows, nbits=nbits), metric, centroids)
    wanted = codes.encode(rows, labels, 1)
    found = RaBitQEncoder(codes, where).encode(torch.from_numpy(rows).to(where), torch.from_numpy(labels).to(where))
    compare(found, wanted)
    assert not found["factors"][7].any()
    decoded = codes.decode({name: array.cpu().numpy() for name, array in found.items()}, labels)
    errors = np.linalg.norm((decoded - rows).astype(np.float64), axis=1)
    sizes = np.linalg.norm((rows - centroids[labels]).astype(np.float64), axis=1)
    assert (errors <= sizes * {1: 0.75, 2: 0.45, 5: 0.07, 8: 0.01}[nbits]).all()


@pytest.mark.parametrize("levels", [1, 2])
@pytest.mark.parametrize("l2", [True, False])
@pytest.mark.parametrize("d", [1, 16, 35])
def test_local_rows(where, levels, l2, d):
    rows = vectors(33, d)
    rows[4] = np.arange(d) % 200  # whole numbers, which are kept as they are
    rows[5] = 3 * np.arange(d) - 50.0
    rows[6] = np.abs(rows[6]) + 1
    for mean in (np.zeros(d, np.float32), rows.mean(axis=0)):
        store = LocalRowStore(d, l2, levels, mean)
        wanted = store.encode(rows, np.zeros(33, np.int64), 1)
        compare(LocalRowEncoder(store, where).encode(torch.from_numpy(rows).to(where)), wanted)


@pytest.mark.parametrize("d", [15, 16, 70])
def test_zeros_of_either_sign_in_local_rows(where, d):
    """Which zero is the least number of a row depends on the order of comparisons."""
    rng = np.random.default_rng(d)
    rows = np.abs(rng.normal(size=(33, d))).astype(np.float32)
    rows[rng.random((33, d)) < 0.7] = 0
    rows = np.where((rows == 0) & (rng.random((33, d)) < 0.5), np.float32(-0.0), rows)
    store = LocalRowStore(d, True, 1, np.zeros(d, np.float32))
    wanted = store.encode(rows, np.zeros(33, np.int64), 1)
    assert set(wanted["refine"][:, :4].view(np.uint32).ravel().tolist()) >= {0, 1 << 31}
    compare(LocalRowEncoder(store, where).encode(torch.from_numpy(rows).to(where)), wanted)


@pytest.mark.parametrize("d", [1, 16, 35])
@pytest.mark.parametrize("n", [0, 1, 17])
def test_ranges(where, n, d):
    rows, mean = vectors(n, d), np.full(d, 0.25, np.float32)
    rows[:1] = mean + np.arange(d) - 3  # of whole numbers
    low, high = (torch.empty(n, dtype=torch.float32, device=where) for _ in range(2))
    are_whole = torch.empty(n, dtype=torch.int32, device=where)
    there = [torch.from_numpy(one).to(where) for one in (rows, mean)]
    launch(find_ranges, -(-n // 16), *there, n, d, low, high, are_whole, ROWS=16)
    moved = rows - mean
    np.testing.assert_array_equal(low.cpu().numpy(), moved.min(axis=1))
    np.testing.assert_array_equal(high.cpu().numpy(), moved.max(axis=1))
    np.testing.assert_array_equal(are_whole.cpu().numpy(), (moved == np.rint(moved)).all(axis=1))


@pytest.mark.parametrize("kind", ["sq8", "sq4"])
def test_scalar_codes(where, kind):
    codebook = ScalarCodebook.train(vectors(50, 7), kind=kind)
    rows = 2 * vectors(33, 7, 1)  # beyond what was learned, too
    rows[:, 3] = np.float32(0.5)
    found = ScalarEncoder(codebook, where).encode(torch.from_numpy(rows).to(where)).cpu().numpy()
    np.testing.assert_array_equal(found, codebook.encode_trusted(rows, threads=1))
    assert found.min() == 0
    assert found.max() == codebook.top


def test_rows_of_floats(where):
    rows = vectors(33, 7)
    for kind in ("fp32", "fp16"):
        store = RowStore(kind, 7, False, "codes")
        compare(RowEncoder(store, where).encode(torch.from_numpy(rows).to(where)), store.encode(rows, None, 1))
    with pytest.raises(NonFiniteError, match="float16 holds values up to 65504, the largest given is 70000"):
        RowEncoder(RowStore("fp16", 7, False, "codes"), where).encode(torch.full((1, 7), -70000.0, device=where))


def test_bits(where):
    rows = (vectors(33, 72) > 0).astype(np.float32)
    codes = PackedBits(72)
    compare(BitEncoder(codes, where).encode(torch.from_numpy(rows).to(where)), codes.encode(rows, None, 1))


@pytest.mark.parametrize("nlist", [1, 2, 70])
def test_second_lists(where, nlist):
    rng = np.random.default_rng(nlist)
    rows, centroids = rng.normal(size=(35, 19)).astype(np.float32), rng.normal(size=(nlist, 19)).astype(np.float32)
    labels = rng.integers(0, nlist, 35)
    rows[0] = centroids[labels[0]]
    lists = SecondLists(centroids)
    there = SecondListsThere(lists, where)
    found = there.of(torch.from_numpy(rows).to(where), torch.from_numpy(labels).to(where)).cpu().numpy()
    np.testing.assert_array_equal(found, lists.of(rows, labels, 1))
    assert (found != labels).all() == (nlist > 1)


@pytest.mark.parametrize("residual", [True, False])
@pytest.mark.parametrize("metric", ["ip", "l2"])
def test_codes_with_constants_and_second_codes(where, residual, metric):
    rng = np.random.default_rng(3)
    rows, centroids = rng.normal(size=(33, 7)).astype(np.float32), rng.normal(size=(3, 7)).astype(np.float32)
    labels = rng.integers(0, 3, 33)
    for codebook in (ProductCodebook.train(rows, M=4, nbits=4), ResidualCodebook.train(rows, M=2, nbits=4)):
        spill = residual and isinstance(codebook, ProductCodebook)
        codes = TableCodes(codebook, metric, residual, codebook.M, 4, centroids, spill)
        encoder = TableEncoder(codes, where)
        found = encoder.encode(torch.from_numpy(rows).to(where), torch.from_numpy(labels).to(where))
        compare(found, codes.encode(rows, labels, 1))
