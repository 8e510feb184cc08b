"""Measure where the time of multi-vector search goes: encoding documents, and a query's stages, on one thread.

The data are token embeddings of a data set in BEIR's layout, and up to 200 test queries; the recipe is muvera or
another. Encoding is compared with its matrix products alone (the same kernel on the same blocks), and the stages of a
query with the bytes that they read. The script needs the extra text.

    python bench/multivector_stages.py DIR --model MODEL [--recipe R] [--candidates N] [--json FILE] [--out FOLDER]
"""

import argparse
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
from figures import Figures, machine_line

import annvq
from annvq.bench.multivector import JudgedTokens
from annvq.codebooks import RaBitQCodebook
from annvq.evaluation import BeirDataset
from annvq.index.search.stages import search
from annvq.kernels.compile.jit import kernel
from annvq.kernels.registers.tiles import LANES, ROWS
from annvq.kernels.vectors import gemm
from annvq.multivector import MultiVectorIndex
from annvq.multivector.tokens import TokenStore

QUERIES, DOCUMENTS, PASSES, BLOCK = 200, 2000, 3, 64


@kernel
def products_alone(vectors, panels, columns, out):
    """Multiply blocks of vectors as the encoder does, and nothing else."""
    tile = np.empty(ROWS * LANES, np.float32)
    for start in range(0, vectors.shape[0], BLOCK):
        count = min(BLOCK, vectors.shape[0] - start)
        gemm.fill_products(vectors[start : start + count], panels, columns, tile, out[:count])


def fastest(call: Callable[[], object]) -> float:
    """Return the least seconds of some calls, the first not counted."""
    call()
    times = []
    for _ in range(PASSES):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return min(times)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--model", required=True)
    parser.add_argument("--recipe", default="muvera")
    parser.add_argument("--candidates", type=int, default=100)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--out", type=Path, default=Path("bench-out"))
    asked = parser.parse_args()
    dataset = BeirDataset.read(asked.folder, "test")
    judged = JudgedTokens.embedded(dataset, asked.model, asked.out / "embeddings")
    index = MultiVectorIndex.build(judged.documents, asked.recipe)
    line = machine_line(annvq=annvq.__version__)

    some = judged.documents[:DOCUMENTS].floats()
    encoder, panels = index.encoder, gemm.pack(index.encoder.matrix)
    columns = len(encoder.matrix)
    whole = fastest(lambda: encoder.encode_documents(some, threads=1))
    buffer = np.empty((BLOCK, columns), np.float32)
    alone = fastest(lambda: products_alone(some.vectors, panels, columns, buffer))
    encoding = Figures(
        f"{dataset.name}: encoding {len(some):,} documents, {len(some.vectors):,} vectors, one thread",
        ["what", "s", "vectors/s", "GFLOP/s", "share of it that the products alone take"],
    )
    work = 2e-9 * columns * encoder.dim * len(some.vectors)
    encoding.add("products alone", alone, len(some.vectors) / alone, work / alone, 1.0)
    encoding.add("encode_documents", whole, len(some.vectors) / whole, work / whole, alone / whole)
    encoding.show(line, [])

    queries = judged.queries[:: -(-len(judged.queries) // QUERIES)]
    one_each = [queries[i : i + 1] for i in range(len(queries))]
    now, store = index.rows.current, index._current()[1].tokens
    depth = replace(now.depth, rerank=asked.candidates)
    vectors = [encoder.encode_queries(one, threads=1) for one in one_each]
    found = [search(now.view, v, depth.rerank, depth, 1)[1][0] for v in vectors]
    prepared = [store.prepare(one.vectors) for one in one_each]
    segment = now.snapshot.segments[0]
    lengths = np.diff(segment.arrays["tokens.offsets"])
    stats = index.stats()
    scanned = sum(segment.arrays[name].nbytes for name in segment.arrays if name.startswith("codes"))
    scanned *= min(1.0, depth.nprobe / stats["nlist"])
    read = np.mean([lengths[rows].sum() for rows in found]) * store.bytes_per_token
    stages = Figures(
        f"{dataset.name}: a query of {np.mean(queries.lengths):.1f} vectors, {asked.recipe}, "
        f"{depth.rerank} candidates of {len(index):,}",
        ["stage", "us per query", "KB read", "GB/s"],
    )

    def add(name: str, size: float, call: Callable[[], object]) -> None:
        spent = fastest(call) / len(queries)
        stages.add(name, 1e6 * spent, size / 1e3, size / spent / 1e9)

    add("encode", encoder.matrix.nbytes, lambda: [encoder.encode_queries(one, threads=1) for one in one_each])
    add(
        "scan of encodings",
        scanned,
        lambda: [search(now.view, v, depth.rerank, depth, 1) for v in vectors],
    )
    add("prepare", 0.0, lambda: [_fresh(store, one.vectors) for one in one_each])
    add(
        "score candidates",
        read,
        lambda: [store.score(p, segment.arrays, rows) for p, rows in zip(prepared, found, strict=True)],
    )
    add("all", 0.0, lambda: [index.search(one, candidates=depth.rerank, threads=1) for one in one_each])
    stages.show(line, ["--json", str(asked.json)] if asked.json else [])


def _fresh(store: TokenStore, query: np.ndarray) -> object:
    prepared = store.prepare(query)
    if isinstance(store.codebook, RaBitQCodebook):
        return prepared.rabitq, prepared.center
    return prepared.bytes, prepared.centroid_scores


if __name__ == "__main__":
    main()
