"""Measure recall and speed at equal memory: codes alone, without a refine store, all of which are scanned.

Budgets are 1/16, 1/8 and 1/4 of float32's bytes. The script prints recall@10 against exact search and the queries per
second of one batch on one thread, for annvq, Faiss and ScaNN; the first half of the queries warms up, the second is
reported. Beside every peer stands how much faster annvq is at the peer's recall, which it may reach in fewer lists,
in at most a tenth more bytes; its codes and lists are chosen on the first half. Faiss's OPQ trains for minutes, and
with long codes for most of an hour. The script needs the extra bench.

    python bench/equal_memory.py DATA.npz [--shares 16,8,4] [--without CODES] [--json FILE]
"""

import argparse
import time
from collections.abc import Callable, Iterator
from importlib.metadata import version

import faiss
import numpy as np
import scann
from figures import Figures, machine_line

import annvq
from annvq.index.recipe import CodebookSpec, Recipe

K, QUERIES, PASSES = 10, 400, 3

Search = Callable[[np.ndarray], np.ndarray]


def annvq_recipes(d: int, share: int) -> Iterator[tuple[str, Recipe]]:
    """Yield recipes whose codes take at most ``4 d / share`` bytes."""
    size = 4 * d // share
    residual = {"residual": True, "score_aware": 0.2}
    if 2 * size <= d:
        yield f"PQ{2 * size}x4", Recipe(nlist="auto", codebook=CodebookSpec(kind="pq", M=2 * size, nbits=4, **residual))
    if size <= d:
        yield (
            f"OPQ{size}x8",
            Recipe(nlist="auto", rotation="opq", codebook=CodebookSpec(kind="pq", M=size, nbits=8, **residual)),
        )
    bits = (size - 8) * 8 // d
    if bits >= 1:
        yield (
            f"RaBitQ{bits}",
            Recipe(
                nlist="auto", rotation="random", codebook=CodebookSpec(kind="rabitq", nbits=min(bits, 8), residual=True)
            ),
        )
    if size == d:
        yield "SQ8", Recipe(nlist="auto", codebook=CodebookSpec(kind="sq8"))


def faiss_strings(d: int, share: int) -> list[str]:
    """Return Faiss's factory strings for codes of a budget."""
    size = 4 * d // share
    strings = [f"PQ{size}x8", f"OPQ{size},PQ{size}x8"] if size <= d // 2 else []
    strings += [f"PQ{2 * size}x4fs"] if 2 * size <= d else []
    strings += ["RaBitQ"] if share == 16 else []
    strings += {16: [], 8: ["SQ4"], 4: ["SQ8"]}[share]
    return strings


def searches(
    base: np.ndarray, metric: str, share: int, without: list[str], own: dict[str, annvq.Index]
) -> Iterator[tuple[str, str, float, float, Search]]:
    """Yield library, index, bytes per vector, seconds of build and search of each index of a budget but ``without``.

    annvq's come first, and are kept in ``own``.
    """
    n, d = base.shape
    for name, recipe in annvq_recipes(d, share):
        start = time.perf_counter()
        index = annvq.build(base, recipe, metric=metric, threads=2)
        seconds = time.perf_counter() - start
        own[name] = index
        yield "annvq", name, index.stats()["bytes_per_vector"], seconds, _with(index, index.stats()["nlist"])
    for string in (string for string in faiss_strings(d, share) if string not in without):
        faiss.omp_set_num_threads(2)
        kind = faiss.METRIC_L2 if metric == "l2" else faiss.METRIC_INNER_PRODUCT
        made = faiss.index_factory(d, string, kind)
        if isinstance(made, faiss.IndexPQ):
            made.do_polysemous_training = False
        start = time.perf_counter()
        made.train(base)
        made.add(base)
        seconds = time.perf_counter() - start
        size = faiss.serialize_index(made).nbytes / n
        yield "Faiss", string, size, seconds, lambda q, i=made: i.search(q, K)[1]
    if share in (16, 8):
        aware = {} if metric == "l2" else {"anisotropic_quantization_threshold": 0.2}
        distance = "squared_l2" if metric == "l2" else "dot_product"
        start = time.perf_counter()
        builder = scann.scann_ops_pybind.builder(base, K, distance).score_ah(2 if share == 16 else 1, **aware)
        searcher = builder.set_n_training_threads(2).build()
        seconds = time.perf_counter() - start
        yield "ScaNN", f"AH({2 if share == 16 else 1})", 4 * d / share, seconds, lambda q: searcher.search_batched(q)[0]


def recall_of(found: np.ndarray, truth: np.ndarray) -> float:
    """Return the share of true neighbours (nq, K) that were found."""
    return float(np.mean([np.isin(f, t).mean() for f, t in zip(found, truth, strict=True)]))


def speed(search: Search, queries: np.ndarray) -> float:
    """Return the queries per second of the fastest of some passes."""
    passes = []
    for _ in range(PASSES):
        start = time.perf_counter()
        search(queries)
        passes.append(time.perf_counter() - start)
    return len(queries) / min(passes)


def fewest_lists(index: annvq.Index, queries: np.ndarray, truth: np.ndarray, recall: float) -> int | None:
    """Return the fewest lists, a power of two or all, with which codes reach a recall; None if they do not."""
    every = index.stats()["nlist"]
    for nprobe in [*(1 << power for power in range(every.bit_length()) if 1 << power < every), every]:
        if recall_of(index.search(queries, K, nprobe=nprobe).ids, truth) >= recall:
            return nprobe
    return None


def beside(
    indexes: dict[str, annvq.Index], peer: Search, queries: np.ndarray, truth: np.ndarray
) -> tuple[str, int, float, float] | None:
    """Find annvq's fastest codes that reach a peer's recall on the first half of the queries, in as few lists.

    Returns codes, lists, and on the second half the recall and the speed as a multiple of the peer's, measured by
    turns; None if no codes reach it.
    """
    ask, check = queries[:QUERIES], queries[QUERIES:]
    least = recall_of(peer(ask), truth[:QUERIES])
    found = []
    for name, index in indexes.items():
        nprobe = fewest_lists(index, ask, truth[:QUERIES], least)
        if nprobe is not None:
            found.append((speed(_with(index, nprobe), ask), name, nprobe))
    if not found:
        return None
    _, name, nprobe = max(found)
    own = _with(indexes[name], nprobe)
    ratios = [speed(own, check) / speed(peer, check) for _ in range(PASSES)]
    return name, nprobe, recall_of(own(check), truth[QUERIES:]), float(np.median(ratios))


def _with(index: annvq.Index, nprobe: int) -> Search:
    return lambda q: index.search(q, K, nprobe=nprobe, threads=1).ids


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("data")
    parser.add_argument("--shares", default="16,8,4")
    parser.add_argument("--without", action="append", default=[], help="a factory string of Faiss; repeatable")
    parser.add_argument("--json")
    asked = parser.parse_args()
    data = np.load(asked.data)
    metric = str(data["metric"])
    base, queries = data["base"].astype(np.float32), data["query"][: 2 * QUERIES].astype(np.float32)
    truth = annvq.build(base, "flat", metric=metric).search(queries, K).ids
    figures = Figures(
        f"codes only, {len(base):,} x {base.shape[1]}",
        ["share of float32", "library", "codes", "bytes/vector", "recall@10", "queries/s", "build s, 2 threads",
         "annvq's fastest of this recall", "lists", "its recall@10", "times as fast"],
    )  # fmt: skip
    for share in (int(part) for part in asked.shares.split(",")):
        own: dict[str, annvq.Index] = {}
        for library, name, size, seconds, search in searches(base, metric, share, asked.without, own):
            faiss.omp_set_num_threads(1)
            search(queries[:QUERIES])
            recall = recall_of(search(queries[QUERIES:]), truth[QUERIES:])
            row = [f"1/{share}", library, name, size, recall, speed(search, queries[QUERIES:]), seconds]
            as_small = {key: index for key, index in own.items() if index.stats()["bytes_per_vector"] <= 1.1 * size}
            compared = None if library == "annvq" else beside(as_small, search, queries, truth)
            figures.add(*row, *(compared or ("", "", "", "")))
    versions = {"annvq": annvq.__version__, "faiss": faiss.__version__, "scann": version("scann")}
    figures.show(machine_line(**versions), ["--json", asked.json] if asked.json else [])


if __name__ == "__main__":
    main()
