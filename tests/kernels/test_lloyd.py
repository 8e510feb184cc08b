"""One iteration of Lloyd's algorithm, and its parts, on integers: NumPy's results to the last bit."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from annvq.kernels.clusters import lloyd
from annvq.kernels.registers.tiles import LANES, readonly

PROPERTY = settings(deadline=None, max_examples=40, derandomize=True)
SEEDS = st.integers(0, 2**31)


def integers(seed, *shape, most=3):
    return np.random.default_rng(seed).integers(-most, most + 1, shape).astype(np.float32)


def one_iteration(points, codebook):
    """Means of the nearest points; centroids without any go to points spread evenly over the squared error."""
    distances = np.square(points[:, None] - codebook, dtype=np.float64).sum(axis=2)
    labels, errors = distances.argmin(axis=1), distances.min(axis=1)
    counts = np.bincount(labels, minlength=len(codebook))
    moved = codebook.copy()
    for j in np.flatnonzero(counts):
        moved[j] = points[labels == j].mean(axis=0, dtype=np.float64)
    empty, taken = np.flatnonzero(counts == 0), 0
    for row, passed in enumerate(np.cumsum(errors)):
        if taken < len(empty) and errors[row] > 0 and passed >= (taken + 0.5) * errors.sum() / len(empty):
            moved[empty[taken]] = points[row]
            taken += 1
    return moved


@PROPERTY
@given(n=st.integers(1, 140), M=st.integers(1, 3), dsub=st.integers(1, 9), ksub=st.sampled_from([16, 256]), seed=SEEDS)
def test_one_iteration(n, M, dsub, ksub, seed):
    points = integers(seed, n, M * dsub)
    codebooks = integers(seed + 1, M, ksub, dsub, most=1)  # many alike: of equal ones the later stay empty
    columns = np.zeros((M * dsub, -(-n // LANES) * LANES), np.float32)
    columns[:, :n] = points.T
    wanted = [one_iteration(points[:, m * dsub : (m + 1) * dsub], codebooks[m]) for m in range(M)]
    lloyd.train_subspaces(columns, n, codebooks, 1)
    assert np.array_equal(codebooks, np.stack(wanted))


@PROPERTY
@given(n=st.integers(0, 70), d=st.integers(1, 40), first=st.integers(0, 45), count=st.integers(1, 9), seed=SEEDS)
def test_transposed_dimensions(n, d, first, count, seed):
    vectors, shift = readonly(integers(seed, n, d)), integers(seed + 1, d)
    columns = np.full((count, -(-n // LANES) * LANES), np.nan, np.float32)
    lloyd.transpose(vectors, first, shift, columns)
    wanted = np.zeros(columns.shape)
    part = (vectors - shift).T[first : first + count]
    wanted[: len(part), :n] = part
    assert np.array_equal(columns, wanted)


@PROPERTY
@given(n=st.integers(0, 70), d=st.integers(1, 40), k=st.integers(1, 20), seed=SEEDS)
def test_sums_norms_and_distances(n, d, k, seed):
    rng, vectors, centroids = np.random.default_rng(seed), readonly(integers(seed, n, d)), integers(seed + 1, k, d)
    labels = rng.integers(k, size=n)
    order = np.argsort(labels, kind="stable")
    first, last = np.sort(rng.integers(0, k + 1, 2))
    sums, norms = np.full((k, d), np.nan), np.empty(n)
    lloyd.sum_members(vectors, order, np.searchsorted(labels[order], np.arange(k + 1)), first, last, sums)
    for j in range(k):
        assert np.array_equal(sums[j], vectors[labels == j].sum(axis=0)) == (first <= j < last)
    lloyd.fill_squared_norms(vectors, norms)
    assert np.array_equal(norms, np.square(vectors).sum(axis=1))
    closest = rng.integers(0, 200, n).astype(np.float32)
    wanted = np.minimum(closest, np.square(vectors - centroids[0]).sum(axis=1))
    lloyd.shrink_to(vectors, centroids, 0, closest)
    assert np.array_equal(closest, wanted)
