"""Measure learned codes on a judged collection: nDCG@10 on test queries that nothing was learned from.

For every budget of bytes a vector: OPQ, score-aware PQ, RaBitQ, Distill-VQ (frozen encoder, no labels), JPQ and
RepCONC (query encoder trained on the train split), each also in lists; and what explains part of the gain: exact
search and OPQ with JPQ's fine-tuned query encoder. Intervals are of a paired bootstrap over queries (95%, 10,000
samples), differences are to OPQ of the original encoder. Steps are chosen on the dev split. Needs the extra bench.

    python bench/learned.py DIR --model MODEL [--bytes 48,24,16] [--methods distill-vq,jpq,repconc] \
        [--epochs N] [--out DIR] [--json FILE]
"""

import argparse
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
from figures import Figures, machine_line

import annvq
from annvq.evaluation import BeirDataset, evaluate_per_query, run_from_ids
from annvq.evaluation.embeddings import cached_embeddings
from annvq.index.recipe import CodebookSpec, Recipe
from annvq.learn import METHODS, Texts
from annvq.learn.collection import Collection

METRIC, DEPTH, SAMPLES = "ndcg@10", 10, 10_000


class Judge:
    """nDCG@10 of every test query, and intervals of means."""

    def __init__(self, dataset: BeirDataset) -> None:
        self.dataset, self.names = dataset, list(dataset.documents)
        draws = np.random.default_rng(0).integers(0, len(dataset.queries), (SAMPLES, len(dataset.queries)))
        self.draws = draws.astype(np.int32)

    def values(self, index: annvq.Index, queries: np.ndarray) -> np.ndarray:
        """Return the measure (nq,) of a search."""
        found = index.search(queries, DEPTH).ids
        ids = [[self.names[row] for row in ranked if row >= 0] for ranked in found.tolist()]
        measured = evaluate_per_query(self.dataset.qrels, run_from_ids(list(self.dataset.queries), ids), [METRIC])
        return np.array([measured[query][METRIC] for query in self.dataset.queries])

    def interval(self, values: np.ndarray) -> str:
        """Return mean and 95% interval."""
        means = np.array([values[draw].mean() for draw in self.draws])
        low, high = np.percentile(means, [2.5, 97.5])
        return f"{values.mean():.4f} [{low:.4f}, {high:.4f}]"


def plain_recipes(d: int, size: int) -> dict[str, Recipe]:
    """Return what needs no queries, at the same bytes a vector."""
    made = {"OPQ": Recipe(rotation="opq", codebook=CodebookSpec(kind="pq", M=size, nbits=8))}
    if 2 * size <= d:
        aware = CodebookSpec(kind="pq", M=2 * size, nbits=4, score_aware=0.2)
        made["score-aware PQ, 4 bits"] = Recipe(codebook=aware)
    bits = (size - 8) * 8 // d
    if bits >= 1:
        made["RaBitQ"] = Recipe(rotation="random", codebook=CodebookSpec(kind="rabitq", nbits=bits))
    return made


def main() -> None:
    """Train, measure, print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--model", required=True)
    parser.add_argument("--bytes", default="48,24,16")
    parser.add_argument("--methods", default="distill-vq,jpq,repconc")
    parser.add_argument("--lists", type=int, default=0, help="also in so many lists")
    parser.add_argument("--epochs", type=int)
    parser.add_argument("--out", type=Path, default=Path("bench-out"))
    parser.add_argument("--json")
    asked = parser.parse_args()
    cache = asked.out / "embeddings"
    dataset = BeirDataset.load(asked.folder, "test")
    judge = Judge(dataset)
    collection = Collection.load(asked.folder, asked.model, cache)
    documents = np.asarray(collection.documents.vectors)
    queries = cached_embeddings(cache, asked.model, dataset.queries, "query")
    texts = Texts(tuple(dataset.queries.values()), queries)
    exact = annvq.build(documents, "flat", metric="ip")
    figures = Figures(
        f"{dataset.name}, {METRIC} of {len(queries):,} test queries, {len(documents):,} documents",
        ["bytes", "codes", "query encoder", METRIC, "less OPQ", "training s"],
    )
    figures.add(4 * documents.shape[1], "exact", "original", judge.interval(judge.values(exact, queries)), "", "")
    for size in (int(part) for part in asked.bytes.split(",")):
        base = np.zeros(len(queries))
        made = {}
        for name, recipe in plain_recipes(documents.shape[1], size).items():
            made[name] = annvq.build(documents, recipe, metric="ip")
            values = judge.values(made[name], queries)
            base = values if name == "OPQ" else base
            figures.add(size, name, "original", judge.interval(values), judge.interval(values - base), "")
        for method in asked.methods.split(","):
            for lists in (0, asked.lists) if asked.lists else (0,):
                recipe = replace(plain_recipes(documents.shape[1], size)["OPQ"], nlist=lists or None)
                how = METHODS[method](recipe=recipe, epochs=asked.epochs)
                folder = asked.out / "learned" / f"{dataset.name}-{method}-{size}-{lists}"
                start = time.perf_counter()
                learned = collection.learn(how, named=False, out=folder)
                seconds = time.perf_counter() - start
                found = learned.queries(texts)
                moved = "original" if np.array_equal(found, queries) else f"tuned by {method}"
                name = method + (f", {lists} lists" if lists else "")
                values = judge.values(learned.index, found)
                figures.add(
                    size, name, moved, judge.interval(values), judge.interval(values - base), f"{seconds:.0f}"
                )  # fmt: skip
                if moved != "original" and not lists:
                    for other, index in (("exact", exact), ("OPQ", made["OPQ"])):
                        values = judge.values(index, found)
                        figures.add(
                            4 * documents.shape[1] if other == "exact" else size, other, moved,
                            judge.interval(values), judge.interval(values - base), "",
                        )  # fmt: skip
    figures.show(machine_line(annvq=annvq.__version__), ["--json", asked.json] if asked.json else [])


if __name__ == "__main__":
    main()
