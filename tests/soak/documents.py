"""Trial: random changes of an index of documents, each of several vectors, beside exact Chamfer similarity."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
from changes import same

from annvq.errors import RecipeError
from annvq.multivector import MultiVectorIndex
from annvq.multivector import recipe as recipes


def trial(rng: np.random.Generator, folder: Path) -> Counter:
    """Run one trial; return counts of what was done."""
    dim = int(rng.choice([4, 8, 16, 24]))
    pool = rng.integers(-3, 4, (int(rng.integers(3, 40)), dim)).astype(np.float32)
    pool[:, 0] += (pool == 0).all(axis=1)

    def drawn(count: int) -> list[np.ndarray]:
        # A first vector that many documents share, as a model's first token.
        shared = pool[:1].repeat(count, axis=0)
        rest = [pool[rng.integers(0, len(pool), int(rng.integers(0, 6)))] for _ in range(count)]
        return [np.concatenate([shared[place : place + 1], more]) for place, more in enumerate(rest)]

    name = str(rng.choice(recipes.names()))
    first = drawn(int(rng.choice([33, 70, 300])))
    model = dict(enumerate(first))
    path = folder / "index" if rng.random() < 0.5 else None
    try:
        index = MultiVectorIndex.build(first, name, seed=int(rng.integers(5)), path=path)
    except RecipeError:  # too few vectors for its codes
        return Counter(refused=1)
    counts: Counter = Counter(indexes=1)
    following = len(model)
    for _ in range(int(rng.integers(2, 8))):
        draw = rng.random()
        if draw < 0.5 or len(model) < 5:
            more = drawn(int(rng.choice([1, 2, 40])))
            index.add(more)
            model |= dict(enumerate(more, following))
            following += len(more)
        elif draw < 0.85:
            names = list(model)
            gone = [names[place] for place in rng.permutation(len(names))[: int(rng.integers(1, 6))]]
            index.remove(gone)
            for one in gone:
                del model[one]
        else:
            index.compact()
        counts["changes"] += 1
        queries, k = drawn(3), int(rng.choice([1, 5, 40]))
        hits = index.search(queries, k, threads=int(rng.integers(1, 4)))
        _check(hits, model, k)
        single = [index.search([query], k, threads=1) for query in queries]
        assert hits.ids.tolist() == [one.ids[0].tolist() for one in single]
        whole = index.search(queries, k, candidates=10**6, nprobe=10**6)
        same(hits, index.search(queries, k, filter=np.ones(len(model), bool)))
        index.save(folder / "copy")
        with MultiVectorIndex.open(folder / "copy", "rw") as copy:
            copy.verify()
            copy.compact()
            same(hits, copy.search(queries, k))
            same(whole, copy.search(queries, k, candidates=10**6, nprobe=10**6))
        counts["searches"] += 8
        if path is not None and rng.random() < 0.3:
            index.close()
            index = MultiVectorIndex.open(path, "rw")
    index.verify()
    index.close()
    return counts


def _check(hits, model: dict, k: int) -> None:
    for ids, scores in zip(hits.ids.tolist(), hits.scores.tolist(), strict=True):
        got = [(name, score) for name, score in zip(ids, scores, strict=True) if name != -1]
        assert got == sorted(got, key=lambda hit: (-hit[1], hit[0]))
        assert set(dict(got)) <= set(model)
        assert len(dict(got)) == len(got) <= min(k, len(model))
