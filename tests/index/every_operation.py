"""Warm up a recipe, then do everything that an index can do; print what still had to be compiled or loaded.

    python every_operation.py RECIPE [METRIC]

Kernels are counted wherever they come from, also from the cache on disk, so that a warm one hides nothing.
"""

import sys
import tempfile
from collections import Counter

import numpy as np

import annvq
from annvq import multivector
from annvq.index import warmup as warming
from annvq.index.search import fused
from annvq.index.search import stages as searching
from annvq.kernels.compile import cache
from annvq.multivector import recipe as multivector_recipes

needed = Counter()
doing = ["warmup"]


def count(kind):
    load = kind.load_overload

    def counted(self, sig, target_context):
        if doing[0] != "warmup":
            needed[f"{doing[0]}: {getattr(self, '_name', '?').split()[1]} {sig}"] += 1
        return load(self, sig, target_context)

    kind.load_overload = counted


def every_search(index, vectors, filters):
    """Search one query and several, few hits and many, few lists and all, in every form of query."""
    one, dim = vectors[0], vectors.shape[1]
    frozen = one.copy()
    frozen.flags.writeable = False
    for queries in (one, one[None], frozen, one.astype(np.float64), one.tolist(), vectors[:3], vectors[:200],
                    np.asfortranarray(vectors[:5]), vectors[:5, ::-1], np.empty((0, dim), np.float32)):  # fmt: skip
        for threads in (None, 1, 8):
            index.search(queries, threads=threads)
    for k in (1, 300, len(index), len(index) + 5):
        index.search(one, k)
        index.search(vectors[:3], k, nprobe=1)
    index.search(one, nprobe=10**6)
    index.search(vectors[:2], nprobe=10**6, threads=8)  # few queries: their lists are shared among threads
    index.search(one, nprobe=10**6, threads=8)
    index.search(one, nprobe=10**6, rerank=400)
    for some in filters:
        index.search(one, filter=some)
        index.search(vectors[:70], 400, filter=some)
        index.search(one, nprobe=10**6, threads=8, filter=some)
        index.range_search(vectors[:2], 1.0, filter=some)
    index.range_search(one, 1.0)
    index.range_search(vectors[:3], 0.0, nprobe=10**6)


def every_change(vectors, recipe, metric, ids, more_ids):
    import pyarrow.compute as pc

    def attributes(n):
        return {"even": [i % 2 == 0 for i in range(n)]}

    half = len(vectors) // 2
    doing[0] = "build"
    index = annvq.build(vectors[:half], recipe, metric=metric, ids=ids, attributes=attributes(half))
    with tempfile.TemporaryDirectory() as folder:
        doing[0] = "build of a stream"
        stream = (vectors[start : start + 500].astype(np.float16) for start in range(0, half, 500))
        annvq.build(stream, recipe, metric=metric, path=f"{folder}/stream", train=half).close()
        for state in ("built", "several segments", "compacted", "opened", "opened and changed"):
            doing[0] = state
            if state == "several segments":
                index.add(vectors[half:], ids=more_ids, attributes=attributes(len(vectors) - half))
                index.remove(list(ids[:5]))
            if state == "compacted":
                index.compact()
            if state.startswith("opened"):
                index.save(f"{folder}/saved {state}")
                index = annvq.open(f"{folder}/saved {state}", "rw")
            if state == "opened and changed":
                index.remove(list(more_ids[:3]))
                index.add(vectors[:40], ids=[type(ids[0])(10**6 + i) for i in range(40)], attributes=attributes(40))
            mask = np.arange(len(index)) % 3 > 0
            every_search(index, vectors, (mask, list(ids[10:60]), pc.field("even")))
            index.reconstruct(list(ids[10:20]))
            doing[0] = f"tune, {state}"
            index.tune(vectors[:3], 2)
        doing[0] = "compacted again"
        index.compact()
        index.search(vectors[:3])
        index.verify()


def documents(recipe, rng):
    import pyarrow.compute as pc

    def some(n, least=2):
        return [rng.normal(size=(int(t), 16)).astype(np.float32) for t in rng.integers(least, 9, n)]

    doing[0] = "build"
    build = multivector.MultiVectorIndex.build
    with tempfile.TemporaryDirectory() as folder:
        for ids in (list(range(300)), [f"document {i}" for i in range(300)]):
            index = build(some(300), recipe, ids=ids, attributes={"even": [i % 2 == 0 for i in range(300)]})
            for state in ("built", "several segments", "compacted", "opened"):
                doing[0] = state
                if state == "several segments":
                    new = [type(ids[0])(10**6 + i) for i in range(40)]
                    index.add(some(40), ids=new, attributes={"even": [True] * 40})
                    index.remove(ids[:4])
                if state == "compacted":
                    index.compact()
                if state == "opened":
                    index.save(f"{folder}/{type(ids[0]).__name__}")
                    index = multivector.MultiVectorIndex.open(f"{folder}/{type(ids[0]).__name__}", "rw")
                for queries in (some(1), some(5), some(3, least=1), some(2)[0]):
                    for threads in (1, 4):
                        index.search(queries, 3, threads=threads)
                        index.search(queries, 3, candidates=200, nprobe=4, threads=threads)
                        index.search(queries, 200, threads=threads)
                for some_rows in (np.arange(len(index)) % 2 == 0, ids[20:60], pc.field("even")):
                    index.search(some(2), 5, filter=some_rows)
                index.reconstruct(ids[10:12])
                doing[0] = f"tune, {state}"
                index.tune(some(2), 2)


if __name__ == "__main__":
    recipe = sys.argv[1]
    for kind in (cache._KernelCache, cache._NoCache):
        count(kind)
    rng = np.random.default_rng(1)
    if multivector_recipes.is_multivector(recipe):
        multivector.warmup(recipe)
        documents(recipe, rng)
    else:
        warming.warmup(recipe, metric=sys.argv[2] if len(sys.argv) > 2 else None)
        searching.SPLIT_ROWS = fused.SPLIT_ROWS = 64  # so that little data is shared among threads
        vectors = rng.normal(size=(3000, 24)).astype(np.float32)
        for metric in sys.argv[2:] or ("ip", "l2", "cosine"):
            for name in (int, lambda i: f"row {i}"):
                ids = [name(i) for i in range(1500)]
                every_change(vectors, recipe, metric, ids, [name(i) for i in range(1500, 3000)])
    for name, times in needed.items():
        print(times, name)
    print("needed:", len(needed))
