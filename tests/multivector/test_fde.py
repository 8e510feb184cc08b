"""Fixed dimensional encodings: the reference implementation's properties, restated, and NumPy's numbers."""

import subprocess
import sys

import numpy as np
import pytest
import reference

from annvq.errors import NonFiniteError, ParameterError, ShapeError
from annvq.multivector import FixedDimensionalEncoder, chamfer

LENGTHS = (0, 1, 2, 5, 63, 64, 65, 200)
CASES = [
    {"dim": 7, "repetitions": 3, "simhash_bits": 3, "projection_dim": 4},
    {"dim": 33, "repetitions": 2, "simhash_bits": 0},
    {"dim": 48, "repetitions": 4, "simhash_bits": 5, "projection_dim": None, "final_dim": 100},
    {"dim": 48, "fill_empty": False},
    {"dim": 1, "repetitions": 1, "simhash_bits": 1, "projection_dim": None},
    {"dim": 20, "repetitions": 1, "simhash_bits": 7, "projection_dim": 3, "seed": 5},
]


@pytest.mark.parametrize("case", CASES, ids=str)
@pytest.mark.parametrize("of_documents", [True, False])
def test_encodings_are_numpys(case, of_documents):
    encoder = FixedDimensionalEncoder(**case)
    sets = reference.sets(LENGTHS, encoder.dim)
    got = (encoder.encode_documents if of_documents else encoder.encode_queries)(sets)
    want = reference.encode(encoder, sets, of_documents)
    assert got.dtype == np.float32
    assert got.shape == (len(sets), encoder.output_dim)
    np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("case", CASES, ids=str)
@pytest.mark.parametrize("of_documents", [True, False])
def test_torch_encodes_the_same(case, of_documents):
    torch = pytest.importorskip("torch")
    from annvq.multivector import fde_torch

    encoder = FixedDimensionalEncoder(**case)
    sets = reference.sets(LENGTHS, encoder.dim)
    offsets = torch.tensor(np.cumsum([0, *LENGTHS]))
    got = fde_torch.encode(encoder, torch.from_numpy(np.concatenate(sets)), offsets, of_documents)
    want = reference.encode(encoder, sets, of_documents)
    np.testing.assert_allclose(got.numpy(), want, rtol=1e-4, atol=1e-4)


def test_queries_sum_and_documents_average():
    encoder = FixedDimensionalEncoder(dim=8, repetitions=1, simhash_bits=0, projection_dim=None)
    (one,) = reference.sets([9], 8)
    np.testing.assert_allclose(encoder.encode_queries([one])[0], one.sum(axis=0), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(encoder.encode_documents([one])[0], one.mean(axis=0), rtol=1e-5, atol=1e-6)


def test_a_vector_lies_in_the_cell_of_its_signs_and_only_there():
    encoder = FixedDimensionalEncoder(dim=16, repetitions=3, simhash_bits=4, projection_dim=None, fill_empty=False)
    (one,) = reference.sets([1], 16)
    cells = encoder.encode_documents([one]).reshape(3, 16, 16)
    planes = encoder.matrix[:12].reshape(3, 4, 16)
    for r in range(3):
        own = reference.gray(planes[r] @ one[0] > 0)
        np.testing.assert_allclose(cells[r, own], one[0], rtol=1e-6)
        assert np.count_nonzero(np.abs(cells[r]).sum(axis=1)) == 1


def test_empty_cells_take_the_nearest_vector_of_documents_only():
    encoder = FixedDimensionalEncoder(dim=16, repetitions=2, simhash_bits=4, projection_dim=None)
    sets = reference.sets([1, 3], 16)
    filled = encoder.encode_documents(sets).reshape(2, 2, 16, 16)
    assert (np.abs(filled).sum(axis=-1) > 0).all()
    np.testing.assert_allclose(filled[0], np.broadcast_to(sets[0][0], filled[0].shape), rtol=1e-6)
    asked = encoder.encode_queries(sets).reshape(2, 2, 16, 16)
    assert np.count_nonzero(np.abs(asked[0]).sum(axis=-1)) == 2


def test_the_same_parameters_make_the_same_encoding_in_another_process():
    code = (
        "import numpy as np, hashlib; from annvq.multivector import FixedDimensionalEncoder as F;"
        "x = np.linspace(-1, 1, 5 * 24, dtype=np.float32).reshape(5, 24);"
        "print(hashlib.sha256(F(dim=24, seed=3, final_dim=512).encode_documents([x, x[:2]]).tobytes()).hexdigest())"
    )
    digests = {
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
        for _ in range(2)
    }
    assert len(digests) == 1
    other = code.replace("seed=3", "seed=4")
    assert subprocess.run([sys.executable, "-c", other], capture_output=True, text=True).stdout not in digests


def test_threads_and_batches_change_nothing():
    encoder = FixedDimensionalEncoder(dim=24, repetitions=4)
    sets = reference.sets(np.random.default_rng(1).integers(1, 40, 150), 24)
    whole = encoder.encode_documents(sets, threads=1)
    assert np.array_equal(whole, encoder.encode_documents(sets, threads=3))
    parts = [encoder.encode_documents(some) for some in (sets[:7], sets[7:7], sets[7:])]
    assert np.array_equal(whole, np.concatenate(parts))
    np.testing.assert_array_equal(encoder.encode_documents(sets, dtype=np.float16), whole.astype(np.float16))


def test_the_encodings_product_never_exceeds_chamfer_in_expectation_and_nears_it():
    """Theorem 2.1: over the draw of hyperplanes it lies between Chamfer similarity less an error, and itself.

    With one vector each the product is the cosine itself, whatever the cells.
    """
    queries, documents = reference.sets([6] * 12, 32, seed=1), reference.sets([15] * 12, 32, seed=2)
    exact = reference.chamfer(queries, documents)
    encoder = FixedDimensionalEncoder(dim=32, repetitions=400, simhash_bits=4, projection_dim=None)
    mean = encoder.encode_queries(queries) @ encoder.encode_documents(documents).T / 400
    assert (mean <= exact + 1e-3).all()
    assert np.corrcoef(mean.ravel(), exact.ravel())[0, 1] > 0.5
    single, other = [one[:1] for one in queries], [one[:1] for one in documents]
    mean = encoder.encode_queries(single) @ encoder.encode_documents(other).T / 400
    np.testing.assert_allclose(mean, reference.chamfer(single, other), atol=1e-4)


@pytest.mark.parametrize("what", ["repetitions", "simhash_bits", "projection_dim"])
def test_the_error_falls_with_every_parameter(what):
    small = {"repetitions": 4, "simhash_bits": 2, "projection_dim": 4}
    large = {"repetitions": 64, "simhash_bits": 6, "projection_dim": 32}
    queries, documents = reference.topical(40, 32, seed=1), reference.topical(200, 32, seed=2)
    exact = reference.chamfer(queries, documents)

    def correlation(parameters):
        encoder = FixedDimensionalEncoder(dim=32, **parameters)
        found = encoder.encode_queries(queries) @ encoder.encode_documents(documents).T
        return np.mean([np.corrcoef(a, b)[0, 1] for a, b in zip(found, exact, strict=True)])

    base = small if what != "simhash_bits" else {**large, what: small[what]}
    assert correlation({**base, what: large[what]}) > correlation(base) + 0.01


def test_a_projection_keeps_products_on_average():
    (one, other) = reference.sets([1, 1], 64, seed=3)
    encoder = FixedDimensionalEncoder(dim=64, repetitions=3000, simhash_bits=0, projection_dim=8)
    found = float(encoder.encode_queries([one])[0] @ encoder.encode_documents([other])[0]) / 3000
    assert abs(found - float(one[0] @ other[0])) < 0.03


def test_a_count_sketch_keeps_products_on_average():
    queries, documents = reference.sets([5] * 20, 16, seed=4), reference.sets([9] * 20, 16, seed=5)
    plain = FixedDimensionalEncoder(dim=16, repetitions=8)
    sketched = FixedDimensionalEncoder(dim=16, repetitions=8, final_dim=2048)
    exact = plain.encode_queries(queries) @ plain.encode_documents(documents).T
    found = sketched.encode_queries(queries) @ sketched.encode_documents(documents).T
    assert np.corrcoef(exact.ravel(), found.ravel())[0, 1] > 0.7


@pytest.mark.parametrize(
    "wrong",
    [
        {"dim": 0}, {"dim": 4, "repetitions": 0}, {"dim": 4, "simhash_bits": 31}, {"dim": 4, "simhash_bits": -1},
        {"dim": 4, "projection_dim": 0}, {"dim": 4, "final_dim": 0}, {"dim": 4, "seed": -1},
        {"dim": 4, "fill_empty": 1},
        {"dim": 384, "simhash_bits": 16, "projection_dim": None}, {"dim": 2.5},
    ],
    ids=str,
)  # fmt: skip
def test_parameters_out_of_bounds_are_refused(wrong):
    with pytest.raises(ParameterError):
        FixedDimensionalEncoder(**wrong)


def test_bad_sets_are_refused():
    encoder = FixedDimensionalEncoder(dim=4, repetitions=2)
    with pytest.raises(ShapeError, match="dimension 5, expected 4"):
        encoder.encode_documents([np.ones((2, 5), np.float32)])
    with pytest.raises(NonFiniteError, match="number 1: row 2"):
        encoder.encode_documents([np.ones((2, 4)), np.array([[1.0] * 4, [2.0] * 4, [np.nan] * 4])])
    with pytest.raises(ParameterError, match="float64"):
        encoder.encode_queries([np.ones((2, 4))], dtype=np.float64)
    assert encoder.encode_documents([]).shape == (0, encoder.output_dim)


def test_flat_vectors_and_offsets_are_the_same_sets():
    encoder = FixedDimensionalEncoder(dim=8, repetitions=2)
    sets = reference.sets([3, 1, 4], 8)
    flat, offsets = np.concatenate(sets), np.array([0, 3, 4, 8])
    assert np.array_equal(encoder.encode_documents(flat, offsets), encoder.encode_documents(sets))
    assert chamfer(sets, flat, document_offsets=offsets).shape == (3, 3)
