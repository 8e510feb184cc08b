"""AnnvqTransformer passes scikit-learn's own checks and gives the graphs of its KNeighborsTransformer."""

import json
import os
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("sklearn", minversion="1.6")

from sklearn.cluster import DBSCAN
from sklearn.exceptions import NotFittedError
from sklearn.manifold import Isomap
from sklearn.neighbors import KNeighborsClassifier, KNeighborsTransformer
from sklearn.pipeline import make_pipeline

from annvq import errors
from annvq.integrations.sklearn import AnnvqTransformer

ROOT = Path(__file__).parents[2]
rng = np.random.default_rng(0)
Y = np.arange(300) % 3
X = rng.normal(size=(300, 8)) + 4 * np.eye(3, 8)[Y]
Q = rng.normal(size=(20, 8))

CHECKS = """
import json
from sklearn.utils.estimator_checks import check_estimator
from annvq.integrations.sklearn import AnnvqTransformer
settings = [
    {}, {"mode": "connectivity"}, {"metric": "cosine"}, {"metric": "sqeuclidean"}, {"recipe": "balanced"},
    {"recipe": "ivf-sq8", "threads": 1},
]
ran = [check_estimator(AnnvqTransformer(**given), on_skip=None) for given in settings]
print(json.dumps([[check["status"], check["check_name"]] for one in ran for check in one]))
"""


@pytest.mark.filterwarnings("ignore")
def test_checks_of_estimators():
    """They run with SciPy's support of other arrays, without which one of them is skipped."""
    environment = {**os.environ, "SCIPY_ARRAY_API": "1", "PYTHONWARNINGS": "ignore", "PYTHONPATH": str(ROOT)}
    ran = subprocess.run([sys.executable, "-c", CHECKS], capture_output=True, text=True, env=environment)
    assert ran.returncode == 0, ran.stderr[-3000:]
    results = json.loads(ran.stdout.splitlines()[-1])
    assert [result for result in results if result[0] != "passed"] == []
    assert len(results) >= 6 * 40


def assert_same_graph(ours, theirs, atol=1e-3):
    assert ours.format == theirs.format == "csr"
    assert ours.shape == theirs.shape
    np.testing.assert_array_equal(ours.indptr, theirs.indptr)
    np.testing.assert_array_equal(
        np.sort(ours.indices.reshape(ours.shape[0], -1)), np.sort(theirs.indices.reshape(ours.shape[0], -1))
    )
    np.testing.assert_allclose(ours.toarray(), theirs.toarray(), atol=atol)


@pytest.mark.parametrize("mode", ["distance", "connectivity"])
@pytest.mark.parametrize("metric", ["euclidean", "sqeuclidean", "cosine"])
def test_graphs_are_those_of_scikit_learn(mode, metric):
    ours = AnnvqTransformer(mode=mode, metric=metric, n_neighbors=7)
    theirs = KNeighborsTransformer(mode=mode, metric=metric, n_neighbors=7)
    assert_same_graph(ours.fit_transform(X), theirs.fit_transform(X))
    assert_same_graph(ours.transform(Q), theirs.transform(Q))
    np.testing.assert_array_equal(ours.get_feature_names_out(), [f"annvqtransformer{i}" for i in range(300)])


@pytest.mark.parametrize("recipe", ["flat", "IVF8,PQ4x4", "SQ8"])
def test_every_vector_is_its_own_first_neighbor(recipe):
    x = np.repeat(X[:60], 5, axis=0)  # each is there five times
    graph = AnnvqTransformer(n_neighbors=3, recipe=recipe).fit_transform(x)
    assert graph.indices.reshape(300, 4)[:, 0].tolist() == list(range(300))
    assert (graph.data.reshape(300, 4)[:, 0] == 0).all()
    assert all(len(set(row)) == 4 for row in graph.indices.reshape(300, 4).tolist())
    connected = AnnvqTransformer(mode="connectivity", n_neighbors=3, recipe=recipe).fit_transform(x)
    assert (connected.diagonal() == 1).all()
    assert connected.nnz == 900


def test_distances_are_ascending_and_of_the_type_of_the_vectors():
    for dtype in (np.float32, np.float64):
        graph = AnnvqTransformer(recipe="balanced").fit_transform(X.astype(dtype))
        assert graph.data.dtype == dtype
        assert (np.diff(graph.data.reshape(300, 6)[:, 1:]) >= 0).all()


def test_it_pickles():
    fitted = AnnvqTransformer(recipe="balanced").fit(X)
    again = pickle.loads(pickle.dumps(fitted))
    np.testing.assert_array_equal(again.transform(Q).toarray(), fitted.transform(Q).toarray())


def test_estimators_take_the_graph():
    classes = make_pipeline(AnnvqTransformer(n_neighbors=9), KNeighborsClassifier(5, metric="precomputed"))
    exact = KNeighborsClassifier(5)
    assert classes.fit(X[:200], Y[:200]).score(X[200:], Y[200:]) == exact.fit(X[:200], Y[:200]).score(X[200:], Y[200:])
    flat = make_pipeline(AnnvqTransformer(n_neighbors=15), Isomap(n_neighbors=15, metric="precomputed")).fit_transform(
        X
    )
    np.testing.assert_allclose(np.abs(flat), np.abs(Isomap(n_neighbors=15).fit_transform(X)), atol=1e-2)
    groups = make_pipeline(AnnvqTransformer(n_neighbors=60), DBSCAN(eps=2.2, metric="precomputed")).fit_predict(X)
    assert set(groups) == set(DBSCAN(eps=2.2).fit_predict(X))


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"mode": "graph"}, "mode must be one of"),
        ({"metric": "l1"}, "metric must be one of"),
        ({"n_neighbors": 0}, "n_neighbors must"),
        ({"n_neighbors": 300}, "301 neighbors .* n_samples_fit = 300"),
        ({"recipe": "none"}, "none"),
    ],
)
def test_what_does_not_fit_is_refused(given, words):
    with pytest.raises(errors.AnnvqError, match=words):
        AnnvqTransformer(**given).fit_transform(X)


def test_what_is_not_fitted_says_so():
    with pytest.raises(NotFittedError):
        AnnvqTransformer().transform(X)


def test_umap_takes_the_neighbors():
    umap = pytest.importorskip("umap")
    graph = AnnvqTransformer(n_neighbors=9).fit_transform(X)
    neighbors = graph.indices.reshape(300, 10), graph.data.reshape(300, 10)
    with pytest.warns(UserWarning, match="NNDescent"):
        flat = umap.UMAP(n_neighbors=10, precomputed_knn=neighbors, n_jobs=1, random_state=0).fit_transform(X)
    assert flat.shape == (300, 2)
    assert KNeighborsClassifier(5).fit(flat[::2], Y[::2]).score(flat[1::2], Y[1::2]) > 0.95
