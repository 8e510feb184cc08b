"""Trial: random changes and searches of an index, of every recipe and metric, beside a model in NumPy."""

from __future__ import annotations

import pickle
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow.compute as pc
from model import EVERY, Model, Source, content, perform

import annvq
from annvq.index import recipe as recipes

METRICS = ("ip", "l2", "cosine")
FACTORY = ("IVF4,PQ2x4fs,Refine(Flat)", "IVF3,PQ2x8", "IVF5,SQ8", "IVF3,RaBitQ3", "PQ2x4fs,Refine(SQ8)", "IVF40,Flat")


def names() -> list[str]:
    """Return recipes that vectors alone are enough for."""
    return [name for name in recipes.names() if recipes.load(name).learn is None] + list(FACTORY)


def built(rng: np.random.Generator, recipe: str, metric: str, path: Path | None = None) -> tuple:
    """Return an index of random rows, its model and the source of more."""
    dim = int(rng.choice([4, 5, 8, 17, 24, 33, 48]))
    kind = str(rng.choice(["int", "str"]))
    source, model = Source(rng, dim, kind), Model(dim, metric, kind)
    few = not isinstance(recipes.load(recipe).nlist, int)
    count = int(rng.choice([1, 3, 31, 32, 33, 200, 400] if few else [40, 200, 400]))
    first = ("add", source.ids(model, count), source.vectors(count), source.attributes(count))
    sample = rng.normal(size=(2000, dim)).astype(np.float32)
    sample[:1000] = source.vectors(1000)
    _, ids, vectors, attributes = first
    index = annvq.build(
        vectors,
        recipe,
        ids=ids,
        attributes=attributes,
        metric=metric,
        train=sample,
        seed=int(rng.integers(9)),
        path=path,
    )
    model.apply(first)
    return index, model, source


def is_exact(index: annvq.Index) -> bool:
    """Return whether final scores of small whole numbers are exact."""
    floats = ("fp32", "fp16")
    return index.metric != "cosine" and (index.recipe.refine in floats or index.recipe.codebook.kind in floats)


def same(a: annvq.Hits, b: annvq.Hits) -> None:
    """Raise AssertionError unless two searches found the same."""
    assert a.ids.tolist() == b.ids.tolist()
    assert a.scores.tobytes() == b.scores.tobytes()


def agrees(index: annvq.Index, model: Model, queries: np.ndarray, k: int, **options) -> annvq.Hits:
    """Search in all lists; hits are the model's best where scores are exact, and in order and allowed anyway."""
    allowed = list(options.pop("allowed", model.rows))
    hits = index.search(queries, k, nprobe=EVERY, rerank=EVERY, **options)
    found = min(k, len(allowed))
    for query, ids, scores in zip(queries, hits.ids.tolist(), hits.scores.tolist(), strict=True):
        got = list(zip(ids, scores, strict=True))[:found]
        assert all(
            name in (-1, None) and score == -np.inf for name, score in zip(ids[found:], scores[found:], strict=True)
        )
        assert len(dict(got)) == found
        assert set(dict(got)) <= set(allowed)
        assert got == sorted(got, key=lambda hit: (-hit[1], hit[0]))
        if is_exact(index):
            assert got == model.exact(query, allowed)[:k]
    return hits


def allowed_by(rng: np.random.Generator, model: Model) -> list[tuple]:
    """Return pairs of a filter and the ids that it allows."""
    names = list(model.rows)
    mask = rng.random(len(names)) < rng.choice([0.02, 0.5, 0.98])
    some = [name for name, passes in zip(names, mask, strict=True) if passes]
    values = {name: attributes for name, (_, attributes) in model.rows.items()}
    number, word = int(rng.integers(0, 5)), str(rng.choice(["a", "é", "none"]))

    def holding(test) -> list:
        return [name for name in names if test(values[name])]

    small = holding(lambda row: row.get("n") is not None and row["n"] < number)
    named = holding(lambda row: row.get("s") == word)
    given: list[tuple] = [(mask, some)]
    for key, expression, allowed in (("n", pc.field("n") < number, small), ("s", pc.field("s") == word, named)):
        if any(key in row for row in values.values()):  # else there may be no such column
            given.append((expression, allowed))
    return [*given, (some, some)] if some else given


def check(rng: np.random.Generator, index: annvq.Index, model: Model, source: Source, folder: Path) -> Counter:
    """Look at an index from all sides."""
    counts: Counter = Counter()
    k, threads = int(rng.choice([1, 2, 10, 70])), int(rng.integers(1, 4))
    queries = source.queries(int(rng.choice([1, 2, 33])))
    assert len(index) == len(model.rows)
    assert content(index) == model.content()
    assert index.ids.tolist() == list(model.rows)
    whole = agrees(index, model, queries, k, threads=threads)
    same(whole, agrees(index, model, queries, k, threads=1))
    one = [index.search(query, k, nprobe=EVERY, rerank=EVERY, threads=1) for query in queries]
    same(whole, annvq.Hits(np.concatenate([hits.ids for hits in one]), np.concatenate([hits.scores for hits in one])))
    usual = index.search(queries, k, threads=threads)
    same(usual, index.search(queries, k, threads=1, filter=np.ones(len(model.rows), bool)))
    for given, allowed in allowed_by(rng, model):
        agrees(index, model, queries, k, threads=threads, filter=given, allowed=allowed)
        counts["filters"] += 1
    index.save(folder / "copy")
    with annvq.open(folder / "copy", "rw") as copy:
        copy.verify()
        copy.compact()
        assert content(copy) == model.content()
        same(usual, copy.search(queries, k))
        same(whole, copy.search(queries, k, nprobe=EVERY, rerank=EVERY))
    some = source.some(model, 30)
    rows = index.reconstruct(some)
    if is_exact(index) and some:
        assert rows.tolist() == [model.rows[name][0].tolist() for name in some]
    radius = float(rng.integers(-20, 60))
    found = index.range_search(queries[:1], radius, nprobe=EVERY)
    if is_exact(index):
        least = -radius if model.metric == "l2" else radius
        wanted = [hit for hit in model.exact(queries[0], list(model.rows)) if hit[1] >= least]
        assert list(zip(found.ids.tolist(), found.scores.tolist(), strict=True)) == wanted
    counts["searches"] += 6 + len(queries)
    return counts


def trial(rng: np.random.Generator, folder: Path) -> Counter:
    """Run one trial; return counts of what was done."""
    recipe, metric = str(rng.choice(names())), str(rng.choice(METRICS))
    on_disk = bool(rng.random() < 0.5)
    index, model, source = built(rng, recipe, metric, folder / "index" if on_disk else None)
    counts = Counter(indexes=1)
    readers: list = []
    for _ in range(int(rng.integers(3, 12))):
        change = source.change(model)
        perform(index, change)
        model.apply(change)
        counts["changes"] += 1
        if rng.random() < 0.5:
            counts += check(rng, index, model, source, folder)
        if on_disk and rng.random() < 0.3:
            index.close()
            index = annvq.open(folder / "index", "rw")
        if on_disk and rng.random() < 0.3:
            reader = annvq.open(folder / "index")
            readers.append((reader, model.copy(), source.queries(2)))
    for reader, then, queries in readers:
        agrees(reader, then, queries, 9)
        agrees(pickle.loads(pickle.dumps(annvq.open(folder / "index"))), model, queries, 9)
        reader.refresh()
        agrees(reader, model, queries, 9)
        reader.close()
    index.verify()
    counts += check(rng, index, model, source, folder)
    index.close()
    return counts
