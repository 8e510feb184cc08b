"""What must hold for every recipe that ships: the same suite for all of them."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

import annvq
import annvq.gpu.device
from annvq.index import recipe as recipes
from annvq.index.search import view

N, D, K = 3000, 48, 10


def clustered(n, seed):
    rng = np.random.default_rng(seed)
    centres = np.random.default_rng(99).normal(size=(60, D))
    vectors = centres[rng.integers(0, 60, n)] + 0.6 * rng.normal(size=(n, D))
    return vectors.astype(np.float32)


def unit(x):
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def exact(base, queries, metric, k=K):
    b, q = base.astype(np.float64), queries.astype(np.float64)
    if metric == "cosine":
        b, q = unit(b), unit(q)
    scores = -((q[:, None] - b[None]) ** 2).sum(-1) if metric == "l2" else q @ b.T
    return np.argsort(-scores, axis=1, kind="stable")[:, :k]


def recall(found, wanted):
    return np.mean([len(set(a) & set(b)) / len(b) for a, b in zip(found.tolist(), wanted.tolist(), strict=True)])


BASE, QUERIES = clustered(N, 1), clustered(40, 2)
BUILT = [name for name in recipes.names() if recipes.load(name).learn is None]
CASES = [(name, metric, "cpu") for name in BUILT for metric in ("ip", "l2", "cosine")]
ON_GPU = [(name, metric, "cuda") for name, metric, _ in CASES if recipes.load(name).codebook.kind != "graph"]


@pytest.fixture(
    scope="module",
    params=[*CASES, *(pytest.param(one, marks=pytest.mark.gpu) for one in ON_GPU)],
    ids=lambda case: "-".join(case[: 2 if case[2] == "cpu" else 3]),
)
def case(request):
    name, metric, device = request.param
    if device == "cuda" and (why := annvq.gpu.device.devices()[1]):
        pytest.skip(why)
    table = pa.table({"group": np.arange(N) % 7})
    return name, metric, annvq.build(BASE, name, metric=metric, attributes=table, seed=3).to(device)


def built(beside, *arguments, **options):
    """Build an index on the device of another."""
    return annvq.build(*arguments, **options).to(getattr(beside, "device", "cpu"))


def same(a, b):
    assert a.ids.tolist() == b.ids.tolist()
    assert a.scores.tobytes() == b.scores.tobytes()


def test_recall_is_what_the_recipe_promises(case):
    name, metric, index = case
    floor = recipes.load(name).expect.recall
    assert recall(index.search(QUERIES, K).ids, exact(BASE, QUERIES, metric)) >= floor


def test_exhaustive_search_is_at_least_as_good(case):
    _, metric, index = case
    wanted = exact(BASE, QUERIES, metric)
    usual = recall(index.search(QUERIES, K).ids, wanted)
    full = recall(index.search(QUERIES, K, nprobe=10**6, rerank=N).ids, wanted)
    assert full >= usual - 1e-9
    if index.recipe.refine == "fp32" or index.recipe.codebook.kind == "fp32":
        assert full == 1.0


def test_results_do_not_depend_on_threads_or_batches(case):
    _, _, index = case
    whole = index.search(QUERIES, K, threads=1)
    same(whole, index.search(QUERIES, K, threads=3))
    parts = [index.search(QUERIES[i : i + 7], K, threads=2) for i in range(0, len(QUERIES), 7)]
    same(whole, annvq.Hits(np.concatenate([p.ids for p in parts]), np.concatenate([p.scores for p in parts])))


def test_order_and_scores(case):
    _, _, index = case
    hits = index.search(QUERIES, 50)
    assert (np.diff(hits.scores, axis=1) <= 0).all()
    assert all(len(set(row)) == 50 for row in hits.ids.tolist())


def test_saved_and_opened_it_answers_the_same(case, tmp_path):
    _, _, index = case
    index.save(tmp_path / "index")
    with annvq.open(tmp_path / "index") as opened:
        same(index.search(QUERIES, K), opened.search(QUERIES, K))
        opened.verify()
        assert opened.recipe == index.recipe
        assert opened.stats()["bytes_per_vector"] == index.stats()["bytes_per_vector"]


def test_a_filter_gives_k_where_k_exist(case):
    _, _, index = case
    for expression, allowed in ((pc.field("group") == 3, np.arange(N) % 7 == 3),):
        hits = index.search(QUERIES, K, filter=expression)
        assert allowed[hits.ids].all()
    rare = np.array([5, 17, 1234, 2999])
    hits = index.search(QUERIES, 3, filter=rare)
    assert np.isin(hits.ids, rare).all()
    few = index.search(QUERIES, 10, filter=rare)
    assert (np.sort(few.ids[:, :4], axis=1) == np.sort(rare)).all()
    assert (few.ids[:, 4:] == -1).all()
    mask = np.zeros(N, bool)
    mask[rare] = True
    same(few, index.search(QUERIES, 10, filter=mask))
    none = index.search(QUERIES, 2, filter=np.array([], np.int64))
    assert (none.ids == -1).all()


def test_a_filter_that_every_row_passes_changes_nothing(case):
    _, metric, index = case
    rng = np.random.default_rng(4)
    left = np.arange(N)
    changed = built(index, BASE[:2500], index.recipe, metric=metric, train=BASE, seed=3)
    for step in ("as built", "with segments", "after removals", "compacted"):
        if step == "with segments":
            changed.add(BASE[2500:])
        elif step == "after removals":
            gone = rng.permutation(N)[: N - 100]
            changed.remove(gone)
            left = np.setdiff1d(left, gone)
        elif step == "compacted":
            changed.compact()
        count = len(changed)
        everything = [np.ones(count, bool), left, changed.prepare_filter(np.ones(count, bool))]
        for queries, k, options in (
            (QUERIES, K, {}),
            (QUERIES[0], K, {}),
            (QUERIES[0], 3, {"nprobe": 1, "threads": 1}),
            (QUERIES[:5], 40, {"nprobe": 2, "rerank": 300, "threads": 2}),
        ):
            plain = changed.search(queries, k, **options)
            for given in everything:
                same(plain, changed.search(queries, k, filter=given, **options))
        radius = float(plain.scores[0, -1]) * (-1 if metric == "l2" else 1)
        plain = changed.range_search(QUERIES[:3], radius, nprobe=2)
        for given in everything:
            found = changed.range_search(QUERIES[:3], radius, nprobe=2, filter=given)
            assert found.ids.tolist() == plain.ids.tolist()
            assert found.scores.tobytes() == plain.scores.tobytes()


def test_recall_does_not_fall_when_most_rows_are_removed(case, monkeypatch):
    """A filter that few rows pass finds more than this, because it looks further: here it may not."""
    monkeypatch.setattr(view, "_WIDENING", 0.0)
    monkeypatch.setattr(view, "_PER_ROW", np.inf)
    _, metric, index = case
    changed = built(index, BASE, index.recipe, metric=metric, seed=3)
    left = np.sort(np.random.default_rng(6).permutation(N)[:300])
    usual = recall(index.search(QUERIES, K, nprobe=2, filter=left).ids, left[exact(BASE[left], QUERIES, metric)])
    changed.remove(np.setdiff1d(np.arange(N), left))
    found = changed.search(QUERIES, K, nprobe=2)
    assert recall(found.ids, left[exact(BASE[left], QUERIES, metric)]) >= usual
    changed.compact()
    same(found, changed.search(QUERIES, K, nprobe=2))


def test_segments_do_not_change_results(case):
    _, metric, index = case
    again = built(index, BASE[:2000], index.recipe, metric=metric, train=BASE, seed=3)
    whole = built(index, BASE, index.recipe, metric=metric, train=BASE, seed=3)
    for start, stop in ((2000, 2700), (2700, 2990), (2990, 3000)):
        again.add(BASE[start:stop])
    assert again.stats()["segments"] > 1
    # Every segment has a graph of its own, and not every walk finds all; with so long a queue, all rows are scored.
    depth = {"rerank": N} if index.recipe.codebook.kind == "graph" else {}
    same(whole.search(QUERIES, K, **depth), again.search(QUERIES, K, **depth))
    again.compact()
    assert again.stats()["segments"] == 1
    same(whole.search(QUERIES, K), again.search(QUERIES, K))


def test_removed_rows_are_gone_and_the_others_stay(case):
    _, metric, index = case
    other = built(index, BASE, index.recipe, metric=metric, seed=3)
    first = other.search(QUERIES, 1).ids[:, 0]
    gone = np.unique(first)
    other.remove(gone)
    assert len(other) == N - len(gone)
    before = other.search(QUERIES, K, nprobe=10**6, rerank=N)
    assert not np.isin(before.ids, gone).any()
    other.compact()
    assert other.stats()["deleted"] == 0
    same(before, other.search(QUERIES, K, nprobe=10**6, rerank=N))
    with pytest.raises(annvq.errors.UnknownIdError):
        other.remove(gone[:1])


def test_range_search_agrees_with_search(case):
    _, metric, index = case
    hits = index.search(QUERIES[:5], 20, nprobe=10**6, rerank=N)
    for q in range(5):
        cut = float((hits.scores[q, 9] + hits.scores[q, 10]) / 2)
        found = index.range_search(QUERIES[q], -cut if metric == "l2" else cut, nprobe=10**6)
        assert found.offsets.tolist() == [0, len(found.ids)]
        assert (found.scores >= np.float32(cut)).all()
        assert set(found.ids.tolist()) == set(hits.ids[q, :10].tolist())


def test_reconstruction_is_near_the_vector(case):
    _, metric, index = case
    ids = np.array([2999, 0, 77])
    wanted = unit(BASE[ids]) if metric == "cosine" else BASE[ids]
    got = index.reconstruct(ids)
    assert got.dtype == np.float32
    error = np.linalg.norm(got - wanted, axis=1) / np.linalg.norm(wanted, axis=1)
    assert error.max() < 0.6
    if index.recipe.codebook.kind == "fp32" or index.recipe.refine == "fp32":
        np.testing.assert_allclose(got, wanted, rtol=1e-6, atol=1e-7)


def test_the_same_seed_gives_the_same_codes(case):
    name, metric, index = case
    again = built(index, BASE, name, metric=metric, seed=3, threads=2)
    same(index.search(QUERIES, K), again.search(QUERIES, K))
    for a, b in zip(index.rows.current.snapshot.segments, again.rows.current.snapshot.segments, strict=True):
        for key in a.arrays:
            assert a.arrays[key].tobytes() == b.arrays[key].tobytes()


def test_tune_reaches_its_target(case):
    name, metric, index = case
    other = built(index, BASE, name, metric=metric, seed=3)
    report = other.tune(QUERIES[:20], k=K, recall=0.8)
    assert (other.nprobe, other.rerank) == (report.chosen.nprobe, report.chosen.rerank)
    assert report.chosen.recall >= 0.8 or not report.reached
    assert report.chosen.qps > 0
