"""FaissLike beside Faiss itself, call by call, and under the `datasets` library."""

import copy
import pickle

import numpy as np
import pytest

import annvq
from annvq import errors
from annvq.integrations.faiss import FaissLike

N, D = 400, 12
rng = np.random.default_rng(0)
X = rng.normal(size=(N, D)).astype(np.float32)
Q = rng.normal(size=(9, D)).astype(np.float32)


@pytest.fixture(params=["ip", "l2"])
def pair(request):
    """Return an empty exact index of annvq and one of Faiss, of the same metric."""
    faiss = pytest.importorskip("faiss")
    theirs = faiss.IndexFlatIP(D) if request.param == "ip" else faiss.IndexFlatL2(D)
    return FaissLike(D, "flat", metric=request.param), theirs


def assert_same(ours, theirs):
    """Compare distances, which both round, and everything else."""
    assert len(ours) == len(theirs)
    for mine, other in zip(ours, theirs):
        assert mine.dtype == other.dtype
        assert mine.shape == other.shape
        np.testing.assert_allclose(mine, other, rtol=1e-4, atol=1e-4)


def test_what_an_index_says_of_itself(pair):
    ours, theirs = pair
    for _ in range(2):
        for name in ("d", "ntotal", "is_trained", "metric_type"):
            assert getattr(ours, name) == getattr(theirs, name), name
        ours.add(X)
        theirs.add(X)


def test_a_search(pair):
    for index in pair:
        index.train(X)
        index.add(X[:300])
        index.add(X[300:])
    assert_same(*(index.search(Q, 10) for index in pair))
    assert_same(*(index.search(Q[:0], 10) for index in pair))


def test_missing_places(pair):
    for index in pair:
        assert (index.search(Q, 2)[1] == -1).all()
        index.add(X[:3])
    (ours, our_ids), (theirs, their_ids) = (index.search(Q, 5) for index in pair)
    np.testing.assert_array_equal(our_ids, their_ids)
    np.testing.assert_array_equal(ours[:, 3:], theirs[:, 3:])  # not infinite, but the extreme float32


def test_a_search_within_a_radius(pair):
    for index in pair:
        index.add(X)
    radius = 3.0 if pair[0].metric == "ip" else 12.0
    (lims, distances, ids), (their_lims, their_distances, their_ids) = (index.range_search(Q, radius) for index in pair)
    np.testing.assert_array_equal(lims, their_lims)
    assert lims.dtype == their_lims.dtype
    assert lims[-1] > 20
    for start, end in zip(lims[:-1].tolist(), lims[1:].tolist()):  # Faiss's are in no order within a query
        order = np.argsort(their_ids[start:end])
        mine = np.argsort(ids[start:end])
        np.testing.assert_array_equal(ids[start:end][mine], their_ids[start:end][order])
        np.testing.assert_allclose(distances[start:end][mine], their_distances[start:end][order], rtol=1e-4)


def test_vectors_exactly_at_the_radius_are_left_out(pair):
    for index in pair:
        index.add(np.eye(3, D, dtype=np.float32) * np.float32(2))
    at = 4.0 if pair[0].metric == "ip" else 8.0
    query = np.eye(1, D, dtype=np.float32) * 2
    assert_same(*(index.range_search(query, at) for index in pair))


def test_a_vector_comes_back(pair):
    for index in pair:
        index.add(X)
    np.testing.assert_array_equal(*(index.reconstruct(7) for index in pair))


def test_ids_of_ones_own(pair):
    faiss = pytest.importorskip("faiss")
    ours, theirs = pair
    ids = np.arange(N) * 10 + 5
    both = ours, faiss.IndexIDMap2(theirs)
    for index in both:
        index.add_with_ids(X, ids)
    assert_same(*(index.search(Q, 10) for index in both))
    gone = np.array([5, 25, 6, 3995])  # one of which is not there
    assert [index.remove_ids(gone) for index in both] == [3, 3]
    assert ours.ntotal == both[1].ntotal == N - 3
    assert_same(*(index.search(Q, 30) for index in both))
    np.testing.assert_array_equal(*(index.reconstruct(15) for index in both))


def test_lists_are_learned_first():
    faiss = pytest.importorskip("faiss")
    ours, theirs = FaissLike(D, "IVF8,Flat", metric="l2"), faiss.index_factory(D, "IVF8,Flat")
    for index in (ours, theirs):
        assert not index.is_trained
        assert index.ntotal == 0
        with pytest.raises(RuntimeError):
            index.add(X)
        index.train(X)
        assert index.is_trained
        assert index.ntotal == 0
        index.add(X)
        index.nprobe = 8
    assert_same(ours.search(Q, 10), theirs.search(Q, 10))
    ours.nprobe = 1
    assert (ours.search(Q, 10)[1] != theirs.search(Q, 10)[1]).any()


def test_training_says_what_is_missing():
    with pytest.raises(errors.StateError, match="call train first"):
        FaissLike(D).add(X)
    index = FaissLike(D, "flat")
    index.add(X)
    with pytest.raises(errors.StateError, match="holds 400 vectors"):
        index.train(X)


def test_the_number_of_vectors_decides_on_lists():
    few, many = FaissLike(D, "ivf-flat"), FaissLike(D, "ivf-flat", n=1_000_000)
    for index in (few, many):
        index.train(np.repeat(X, 20, axis=0) + rng.normal(size=(20 * N, D)).astype(np.float32))
    assert many.wrapped.stats()["nlist"] > few.wrapped.stats()["nlist"]


def test_cosine_is_an_inner_product_of_what_is_normalized():
    faiss = pytest.importorskip("faiss")
    index = FaissLike(D, "flat", metric="cosine")
    index.add(X)
    theirs = faiss.IndexFlatIP(D)
    x, q = X.copy(), Q.copy()
    faiss.normalize_L2(x)
    faiss.normalize_L2(q)
    theirs.add(x)
    assert index.metric_type == theirs.metric_type
    assert_same(index.search(Q, 10), theirs.search(q, 10))


def test_an_index_that_is_there_is_shared():
    index = annvq.build(X, "flat", metric="l2")
    like = FaissLike.of(index)
    assert like.wrapped is index
    assert (like.d, like.ntotal, like.metric_type, like.is_trained) == (D, N, 1, True)
    like.add(Q)
    assert len(index) == N + len(Q)
    assert like.search(Q, 1)[1][:, 0].tolist() == list(range(N, N + len(Q)))


def test_an_index_is_copied_and_pickled():
    index = FaissLike(D, "balanced", metric="l2")
    index.train(X)
    index.add(X)
    index.nprobe = 2
    for again in (copy.deepcopy(index), pickle.loads(pickle.dumps(index))):
        assert_same(again.search(Q, 5), index.search(Q, 5))
        again.remove_ids([0])
        assert (again.ntotal, index.ntotal) == (N - 1, N)


@pytest.mark.parametrize(
    ("make", "error", "words"),
    [
        (lambda: FaissLike(0), errors.ParameterError, "d must"),
        (lambda: FaissLike(D, metric="hamming"), errors.ParameterError, "metric"),
        (lambda: FaissLike(D, "no such"), errors.RecipeError, "no such"),
        (lambda: FaissLike(D, n=0), errors.ParameterError, "n must"),
        (lambda: FaissLike.of(annvq.build(X[:2], ids=["a", "b"])), errors.DtypeError, "string ids"),
        (lambda: FaissLike.of("index"), errors.ParameterError, "str, expected an annvq.Index"),
        (lambda: FaissLike(D, "flat").add(X[:, 1:]), errors.ShapeError, "11"),
        (lambda: FaissLike(D, "flat").reconstruct(0), errors.UnknownIdError, "0"),
    ],
)
def test_what_does_not_fit_is_refused(make, error, words):
    with pytest.raises(error, match=words):
        make()


class TestDatasets:
    @pytest.fixture
    def data(self):
        datasets = pytest.importorskip("datasets")
        pytest.importorskip("faiss", reason="datasets asks for it, whatever the index")
        return datasets.Dataset.from_dict({"text": [f"text {i}" for i in range(N)], "vector": X.tolist()})

    def test_nearest_examples_are_those_of_faiss(self, data):
        import faiss

        data.add_faiss_index("vector", custom_index=FaissLike(D, "flat", metric="l2"))
        data.add_faiss_index("vector", index_name="faiss", custom_index=faiss.IndexFlatL2(D))
        ours, theirs = (data.get_nearest_examples(name, Q[0], k=5) for name in ("vector", "faiss"))
        assert ours.examples == theirs.examples
        np.testing.assert_allclose(ours.scores, theirs.scores, rtol=1e-4)
        ours, theirs = (data.get_nearest_examples_batch(name, Q, k=5) for name in ("vector", "faiss"))
        assert ours.total_examples == theirs.total_examples

    def test_places_that_no_row_fills_are_left_out(self, data):
        few = data.select(range(3))
        few.add_faiss_index("vector", custom_index=FaissLike(D, "flat"))
        assert len(few.get_nearest_examples("vector", Q[0], k=10).examples["text"]) == 3

    def test_what_learns_is_given_vectors(self, data):
        with pytest.raises(errors.StateError, match="train_size"):
            data.add_faiss_index("vector", custom_index=FaissLike(D, "IVF4,SQ8"))
        data.add_faiss_index("vector", custom_index=FaissLike(D, "IVF4,SQ8"), train_size=N, batch_size=77)
        assert data.get_index("vector").faiss_index.ntotal == N

    def test_an_index_is_kept_by_annvq_and_attached_again(self, data, tmp_path):
        data.add_faiss_index("vector", custom_index=FaissLike(D, "flat", metric="l2"))
        found = data.get_nearest_examples("vector", Q[0], k=5)
        with pytest.raises(TypeError):  # only Faiss's own objects are written by it
            data.save_faiss_index("vector", tmp_path / "index.faiss")
        data.get_index("vector").faiss_index.wrapped.save(tmp_path / "index")
        data.drop_index("vector")
        with annvq.open(tmp_path / "index") as index:
            data.add_faiss_index_from_external_arrays(
                np.empty((0, D), np.float32), index_name="again", custom_index=FaissLike.of(index)
            )
            assert data.get_nearest_examples("again", Q[0], k=5).examples == found.examples

    def test_an_index_goes_to_faiss_and_is_kept_by_datasets(self, data, tmp_path):
        from annvq.interop.faiss import to_faiss

        index = annvq.build(X, "flat", metric="l2")
        data.add_faiss_index_from_external_arrays(
            np.empty((0, D), np.float32), index_name="vector", custom_index=to_faiss(index)
        )
        data.save_faiss_index("vector", tmp_path / "index.faiss")
        data.load_faiss_index("again", tmp_path / "index.faiss")
        nearest = index.search(Q[0], 1).ids[0, 0]
        assert data.get_nearest_examples("again", Q[0], k=1).examples["text"] == [f"text {nearest}"]
