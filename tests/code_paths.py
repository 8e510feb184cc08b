"""Print digests of what must be the same on every machine, as JSON.

`tests/test_code_paths.py` runs this under other instruction sets of torch, NumPy, its BLAS and annvq. Everything here
is said to follow from the numbers given alone; what is learned by LAPACK or by gradients is not.
"""

import hashlib
import json
import sys

import numpy as np


def digest(*arrays):
    found = hashlib.sha256()
    for array in arrays:
        array = np.asarray(array)
        found.update(f"{array.dtype} {array.shape}".encode())
        found.update(repr(array.tolist()).encode() if array.dtype == object else np.ascontiguousarray(array).tobytes())
    return found.hexdigest()[:16]


def vectors(seed, n, d, offset=0.0):
    """Return vectors of which many are the same, and many as far from each other as others."""
    rng = np.random.default_rng(seed)
    rows = np.round(rng.normal(size=(n, d)) * 4) / 4 + offset
    return rows[rng.integers(0, n // 2, n)].astype(np.float32)


def exact():
    from annvq.evaluation import exact_neighbors

    for metric in ("ip", "cosine", "l2"):
        for offset in (0.0, 1e7):
            base = vectors(1, 700, 9).astype(np.float64) + offset
            yield f"exact {metric} {offset:g}", exact_neighbors(base, base[:40] + 0.1, 15, metric)


def tokenizers():
    import torch

    from annvq.codebooks import ProductCodebook
    from annvq.learn.parts.mirrors import ProductMirror
    from annvq.tokenizers import VectorQuantizer
    from annvq.tokenizers.choosing.blocked import argmax
    from annvq.tokenizers.choosing.nearest import nearest

    rows, codes = vectors(2, 301, 7), vectors(3, 530, 7)
    for dtype in (torch.float32, torch.float64):
        asked, table = (torch.from_numpy(one).to(dtype) for one in (rows, codes))
        yield f"nearest {dtype}", (nearest(asked, table), nearest(asked + 1000, table + 1000))
        yield f"largest {dtype}", (nearest(asked, table, "ip"), argmax(asked, table, table[:, 0]))
        quantizer = VectorQuantizer(7, 530)
        quantizer.set_codes(codes)
        yield f"encode {dtype}", (quantizer.eval().to(dtype).encode(asked),)
    mirror = ProductMirror(ProductCodebook.train(codes, M=3, nbits=4, niter=3)).double()
    yield "mirror", (mirror.nearest(torch.from_numpy(rows).double()),)


def tables():
    from annvq.tables.methods.dedup import merged

    blocks = vectors(4, 300, 12)
    yield "dedup", merged(blocks, np.ones_like(blocks), 60, 0)


def indexes():
    import annvq
    from annvq.codebooks import KMeans

    base, queries = vectors(5, 3000, 24), vectors(6, 30, 24)
    trained = KMeans.train(base, 20, niter=4)
    yield "k-means", (trained.centroids, *trained.assign(queries, 5))
    for recipe, metric in (("flat", "l2"), ("IVF16,PQ12x4fs,Refine(SQ8)", "ip")):
        index = annvq.build(base, recipe, metric=metric)
        hits = index.search(queries, 20, **({} if recipe == "flat" else {"nprobe": 4}))
        yield f"{recipe} {metric}", (hits.ids, hits.scores)


def documents():
    from annvq.multivector import MultiVectorIndex, MultiVectorRecipe

    flat = vectors(7, 1200, 16)
    toml = "candidates_by='distinct-tokens'\ncandidates=20\n[index.codebook]\nkind='fp16'\n[tokens]\nkind='fp32'"
    index = MultiVectorIndex.build(flat.reshape(300, 4, 16), MultiVectorRecipe.from_toml(toml))
    hits = index.search(vectors(8, 12, 16).reshape(3, 4, 16), 10)
    yield "documents", (hits.ids, hits.scores)


PARTS = {"exact": exact, "tokenizers": tokenizers, "tables": tables, "indexes": indexes, "documents": documents}

if __name__ == "__main__":
    chosen = sys.argv[1:] or PARTS
    print(json.dumps({name: digest(*arrays) for part in chosen for name, arrays in PARTS[part]()}))
