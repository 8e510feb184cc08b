"""What the runner of ann-benchmarks calls, in its order, and the configuration on the page for it."""

import itertools
import re
from pathlib import Path

import numpy as np
import pytest

from annvq import errors
from annvq.integrations.ann_benchmarks import Annvq

PAGE = Path(__file__).parents[2] / "docs/integrations/numerics.md"
rng = np.random.default_rng(0)
X = rng.normal(size=(1500, 12)).astype(np.float32)
Q = rng.normal(size=(40, 12)).astype(np.float32)
BEST = {
    "angular": -(Q @ X.T) / np.linalg.norm(X, axis=1),
    "euclidean": np.linalg.norm(Q[:, None] - X[None], axis=2),
    "dot": -(Q @ X.T),
}


def recall(found, metric):
    best = np.argsort(BEST[metric], axis=1)[:, :10]
    return np.mean([len(set(mine) & set(exact)) / 10 for mine, exact in zip(found, best.tolist())])


@pytest.mark.parametrize("metric", BEST)
def test_the_runner_gets_what_it_asks_for(metric):
    algorithm = Annvq(metric, "IVF16,PQ6x4,Refine(SQ8)")
    assert algorithm.get_memory_usage() == 0
    algorithm.fit(X)
    assert 20 < algorithm.get_memory_usage() < 200
    recalls = []
    for arguments in ((1, 10), (4, 50), (16, 0), (16, 300)):
        algorithm.set_query_arguments(*arguments)
        found = [algorithm.query(q, 10) for q in Q]
        assert all(len(set(ids.tolist())) == len(ids) == 10 and ids.min() >= 0 for ids in found)
        algorithm.batch_query(Q, 10)
        for one, many in zip(found, algorithm.get_batch_results(), strict=True):
            np.testing.assert_array_equal(one, many)
        recalls.append(recall(found, metric))
    assert recalls[0] < 0.9 < recalls[-1]
    assert str(algorithm) == "annvq(IVF16,PQ6x4,Refine(SQ8), nprobe=16, rerank=300)"
    assert algorithm.get_additional() == {}
    algorithm.done()
    assert algorithm.get_memory_usage() == 0


def test_one_candidate_list_still_gives_k_ids():
    algorithm = Annvq("euclidean", "IVF500,Flat")
    algorithm.fit(X)
    algorithm.set_query_arguments(1)
    assert all(len(set(algorithm.query(q, 100))) == 100 for q in Q)


def test_no_id_stands_for_what_is_missing():
    algorithm = Annvq("dot", "flat")
    algorithm.fit(X[:4])
    assert sorted(algorithm.query(Q[0], 10)) == [0, 1, 2, 3]


def test_distances_that_annvq_has_not_are_refused():
    with pytest.raises(errors.ParameterError, match="angular, euclidean, dot"):
        Annvq("jaccard")


def test_the_configuration_of_the_page():
    yaml = pytest.importorskip("yaml")
    (text,) = re.findall(r"```yaml[^\n]*\n(.*?)```", PAGE.read_text("utf-8"), re.DOTALL)
    (definition,) = yaml.safe_load(text)["float"]["any"]
    assert definition["constructor"] == Annvq.__name__
    assert definition["base_args"] == ["@metric"]
    for group in definition["run_groups"].values():
        for recipe in group["args"][0]:
            algorithm = Annvq("euclidean", recipe)
            algorithm.fit(X)
            for arguments in itertools.product(*group["query_args"]):
                algorithm.set_query_arguments(*arguments)
                assert len(set(algorithm.query(Q[0], 10).tolist())) == 10
