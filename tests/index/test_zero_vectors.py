"""Vectors without direction under cosine: refused, or kept so that they score 0 with everything."""

import numpy as np
import pytest
from small_indexes import BASE, QUERIES, RECIPES, D, N

import annvq
from annvq.errors import CorruptIndexError, ParameterError, ZeroVectorError
from annvq.index.trained import Trained

ROWS = BASE.copy()
ROWS[[3, 77]] = 0
ZERO = np.zeros(D, np.float32)
EXACT = ("fp32", "fp16", "sq4", "rvq")  # whose last scores come from floats


def build(kind, rows=ROWS, **given):
    return annvq.build(rows, RECIPES[kind], metric="cosine", seed=1, **given)


def cosines(rows, queries):
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    units = rows / np.where(lengths > 0, lengths, 1)
    return (queries / np.linalg.norm(queries, axis=1, keepdims=True)) @ units.T


@pytest.mark.parametrize("kind", RECIPES)
def test_zero_vectors_are_kept_and_found_like_others(kind, tmp_path):
    index = build(kind, zero="score-0", path=tmp_path / "index")
    index.add(np.stack([ZERO, BASE[3]]), ids=[N, N + 1])
    for opened in (index, annvq.open(tmp_path / "index")):
        hits = opened.search(QUERIES, N + 2, nprobe=3, rerank=N + 2)
        assert np.isfinite(hits.scores).all()
        wanted = cosines(np.concatenate([ROWS, [ZERO, BASE[3]]]), QUERIES)
        found = np.take_along_axis(wanted, hits.ids, axis=1)
        tolerance = 2e-3 if kind in EXACT else 0.5
        assert np.abs(hits.scores - found).max() < tolerance
    if kind in EXACT:
        assert np.all(hits.scores[np.isin(hits.ids, [3, 77, N])] == 0)
        assert np.all(index.reconstruct([3, 77, N]) == 0)


@pytest.mark.parametrize("kind", RECIPES)
def test_a_zero_query_scores_0_with_every_row_and_ties_are_by_id(kind):
    index = build(kind, zero="score-0")
    hits = index.search(np.stack([ZERO, QUERIES[0], ZERO]), 9, nprobe=3, threads=1)
    for q in (0, 2):
        assert np.all(hits.scores[q] == 0)
        assert hits.ids[q].tolist() == list(range(9))
    one = index.search(ZERO, 9, nprobe=3)
    assert np.array_equal(one.ids[0], hits.ids[0])
    assert np.array_equal(index.search(QUERIES[0], 9, nprobe=3).scores[0], hits.scores[1])
    found = index.range_search(ZERO, 0.0, nprobe=3)
    assert found.ids.tolist() == list(range(N))


def test_they_are_refused_unless_the_index_was_built_for_them():
    with pytest.raises(ZeroVectorError, match=r"vectors: row 3 is zero.*zero='score-0'"):
        build("fp32")
    index = build("fp32", BASE)
    for refused in (lambda: index.add(ROWS[3:4]), lambda: index.search(ZERO), lambda: index.range_search(ZERO, 0.5)):
        with pytest.raises(ZeroVectorError, match="row 0 is zero"):
            refused()
    with pytest.raises(ParameterError, match="zero must be one of error, score-0, not 'drop'"):
        build("fp32", BASE, zero="drop")


@pytest.mark.parametrize("metric", ["ip", "l2"])
def test_for_other_metrics_the_policy_changes_nothing(metric):
    one = annvq.build(ROWS, RECIPES["pq4"], metric=metric, zero="score-0").rows.current.trained.sections()
    other = annvq.build(ROWS, RECIPES["pq4"], metric=metric).rows.current.trained.sections()
    assert all(np.array_equal(one[name], other[name]) for name in other)


def test_vectors_that_are_not_zero_are_scaled_to_the_same_bits():
    kept = build("fp32", zero="score-0").reconstruct(np.arange(N))
    alone = build("fp32", np.delete(ROWS, [3, 77], axis=0)).reconstruct(np.arange(N - 2))
    assert np.array_equal(np.delete(kept, [3, 77], axis=0), alone)


def test_streams_and_given_samples_follow_the_policy():
    blocks = (ROWS[start : start + 50] for start in range(0, N, 50))
    index = build("pq4", blocks, zero="score-0", train=ROWS)
    assert len(index) == N


def test_nothing_but_zero_vectors():
    index = build("fp32", np.zeros((5, D), np.float32), zero="score-0")
    assert index.search(QUERIES[0], 3).ids[0].tolist() == [0, 1, 2]


def test_another_word_in_a_file_is_damage():
    trained = build("fp32", BASE, zero="score-0").rows.current.trained
    sections = trained.sections()
    assert Trained.from_sections(sections).zero == "score-0"
    sections["config"] = np.frombuffer(sections["config"].tobytes().replace(b"score-0", b"score-1"), np.uint8)
    with pytest.raises(CorruptIndexError, match="score-1"):
        Trained.from_sections(sections)
