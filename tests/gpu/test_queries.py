"""Queries that are tensors: what is accepted of them, and what is said of others, is what arrays get."""

import numpy as np
import pytest

import annvq

torch = pytest.importorskip("torch")

from annvq.errors import AnnvqError, DtypeError  # noqa: E402
from annvq.gpu.device import resolve  # noqa: E402
from annvq.gpu.queries import accepted_tensor  # noqa: E402


@pytest.fixture(scope="module")
def there(device):
    return resolve(device)


@pytest.fixture(scope="module", params=["ip", "l2", "cosine"])
def trained(request):
    return learned(request.param, 37)


def learned(metric, d, **options):
    rows = np.random.default_rng(0).normal(size=(4, d)).astype(np.float32)
    rows = np.packbits(rows > 0, axis=1) if metric == "hamming" else rows
    return annvq.build(rows, "BFlat" if metric == "hamming" else "flat", metric=metric, **options).rows.current.trained


class Foreign:
    """An array of another library."""

    def __init__(self, tensor):
        self._tensor = tensor

    def __dlpack__(self, **options):
        return self._tensor.__dlpack__(**options)

    def __dlpack_device__(self):
        return self._tensor.__dlpack_device__()


def same(found, wanted):
    assert found.dtype == torch.float32
    assert found.shape == wanted.shape
    assert found.cpu().numpy().tobytes() == wanted.tobytes()


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16", "float64", "int8", "uint8"])
def test_dtypes(there, trained, dtype):
    numbers = torch.from_numpy(np.random.default_rng(1).normal(size=(5, 37)) * 40 + 90)
    given = numbers.clamp(1, 120).to(getattr(torch, dtype)).to(there)
    wanted = trained.accept(given.cpu(), "queries")
    same(accepted_tensor(given, trained, there), wanted)
    same(accepted_tensor(Foreign(given), trained, there), wanted)
    same(accepted_tensor(given[2], trained, there), wanted[2:3])
    same(accepted_tensor(given.T.contiguous().T, trained, there), wanted)


@pytest.mark.parametrize("d", [1, 7, 8, 33, 384])
@pytest.mark.parametrize("scale", [1e-42, 1e-20, 1.0, 1e30])
def test_lengths_of_one(there, d, scale):
    trained = learned("cosine", d)
    given = (np.random.default_rng(d).normal(size=(3, d)) * scale + scale / 7).astype(np.float32)
    found = accepted_tensor(torch.from_numpy(given).to(there), trained, there)
    same(found, trained.accept(given, "queries"))
    norms = np.linalg.norm(found.cpu().numpy().astype(np.float64), axis=1)
    np.testing.assert_allclose(norms, 1, atol=1e-6)


def test_zeros_where_they_score_0(there):
    trained = learned("cosine", 5, zero="score-0")
    given = np.zeros((3, 5), np.float32)
    given[1] = 2
    same(accepted_tensor(torch.from_numpy(given).to(there), trained, there), trained.accept(given, "queries"))


def test_no_queries(there, trained):
    assert accepted_tensor(torch.empty((0, 37)).to(there), trained, there).shape == (0, 37)


def test_packed_bits(there):
    trained = learned("hamming", 40)
    packed = np.random.default_rng(1).integers(0, 256, (3, 5)).astype(np.uint8)
    for given in (packed, (packed ^ 128).view(np.int8), packed[0]):
        same(accepted_tensor(torch.from_numpy(given).to(there), trained, there), trained.accept(given, "queries"))
    for wrong in (packed[:, :4], packed.astype(np.float32)):
        refused(torch.from_numpy(wrong).to(there), trained, there)


def refused(given, trained, there):
    with pytest.raises(AnnvqError) as wanted:
        trained.accept(given.cpu(), "queries")
    with pytest.raises(type(wanted.value)) as found:
        accepted_tensor(given, trained, there)
    assert str(found.value) == str(wanted.value)
    return str(found.value)


def changed(row, value, dtype=torch.float32):
    made = torch.ones((6, 37), dtype=dtype)
    made[row] = value
    return made


def test_what_is_refused(there, trained):
    assert "row 3 holds NaN" in refused(changed(3, torch.nan).to(there), trained, there)
    assert "row 2 holds NaN or infinity" in refused(changed(2, -torch.inf).to(there), trained, there)
    assert "too large for float32" in refused(changed(5, 1e300, torch.float64).to(there), trained, there)
    assert "dimension 36" in refused(torch.ones((2, 36)).to(there), trained, there)
    assert "3 axes" in refused(torch.ones((2, 37, 1)).to(there), trained, there)
    for dtype in (torch.int64, torch.bool):
        assert "dtype" in refused(torch.ones((2, 37), dtype=dtype).to(there), trained, there)
    for strange in (torch.ones((2, 37), device="meta"), torch.nested.nested_tensor([torch.ones(37)] * 2)):
        with pytest.raises(DtypeError, match="expected a dense tensor"):
            accepted_tensor(strange, trained, there)
    if trained.metric == "cosine":
        assert "row 4 is zero" in refused(changed(4, 0).to(there), trained, there)
    else:
        assert "row 1 is" in refused(changed(1, 1e18).to(there), trained, there)
