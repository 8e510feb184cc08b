"""Measure learned codes on a judged collection: nDCG@10 on test queries that nothing was learned from.

For every budget of bytes per vector, the methods are OPQ, score-aware PQ, RaBitQ, Distill-VQ (frozen encoder, no
labels), JPQ and RepCONC (the encoder of queries is trained on the train split), and RepCONC with the encoder of both
sides trained ("repconc-both"). With --lists, all are also measured in lists, of which an eighth is searched. To show
how much of a gain comes from a tuned encoder, exact search and OPQ with the same encoder stand below each method; the
last column is the difference to that OPQ. Intervals come from a paired bootstrap over queries (95%, 10,000 samples).
Steps are chosen on the dev split. The script needs the extra bench.

    python bench/learned.py DIR --model MODEL [--bytes 48,24,16] [--methods distill-vq,jpq,repconc,repconc-both] \
        [--lists N] [--epochs N] [--most-steps N] [--measure-every N] [--out DIR] [--json FILE]
"""

import argparse
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from itertools import product
from pathlib import Path

import numpy as np
from figures import Figures, machine_line

import annvq
from annvq.evaluation import BeirDataset, evaluate_per_query, run_from_ids
from annvq.evaluation.embeddings import cached_embeddings
from annvq.index.recipe import CodebookSpec, Recipe
from annvq.learn import JPQ, LEARNING_METHODS, Distillation, Learned, Ranking, RepCONC, Texts
from annvq.learn.collection import LearningCollection

METRIC, DEPTH, SAMPLES = "ndcg@10", 10, 10_000
MIXED = ((1.0, Ranking(cut=200)), (1.0, Distillation(teacher="current")))
LEARNERS: dict[str, Callable] = {
    **LEARNING_METHODS,
    "repconc-both": partial(RepCONC, both=True),
    "repconc-close": partial(RepCONC, clustering=1.0),
    "jpq-distilled": partial(JPQ, objectives=MIXED),
}


def shared_documents(folder: Path, dataset: BeirDataset) -> str:
    """Say how many documents that test queries ask for are also asked for in training, and may be learned by heart."""
    wanted, learned = (
        {document for judged in qrels.values() for document, grade in judged.items() if grade > 0}
        for qrels in (dataset.qrels, BeirDataset.read(folder, "train").qrels)
    )
    both = len(wanted & learned)
    return f"{both:,} of the {len(wanted):,} documents that test queries ask for are asked for in training"


class Judge:
    """nDCG@10 of every test query, and intervals of means."""

    def __init__(self, dataset: BeirDataset) -> None:
        self.dataset, self.names = dataset, list(dataset.documents)
        draws = np.random.default_rng(0).integers(0, len(dataset.queries), (SAMPLES, len(dataset.queries)))
        self.draws = draws.astype(np.int32)

    def values(self, index: annvq.Index, queries: np.ndarray) -> np.ndarray:
        """Return the measure (nq,) of a search, which covers an eighth of the lists if there are lists."""
        lists = index.recipe.nlist
        found = index.search(queries, DEPTH, nprobe=max(1, lists // 8) if isinstance(lists, int) else None).ids
        ids = [[self.names[row] for row in ranked if row >= 0] for ranked in found.tolist()]
        measured = evaluate_per_query(self.dataset.qrels, run_from_ids(list(self.dataset.queries), ids), [METRIC])
        return np.array([measured[query][METRIC] for query in self.dataset.queries])

    def interval(self, values: np.ndarray) -> str:
        """Return mean and 95% interval."""
        means = np.array([values[draw].mean() for draw in self.draws])
        low, high = np.percentile(means, [2.5, 97.5])
        return f"{values.mean():.4f} [{low:.4f}, {high:.4f}]"


def plain_recipes(d: int, size: int, lists: int) -> dict[str, Recipe]:
    """Return the recipes that need no queries, at the same bytes per vector, in ``lists`` lists (0: none)."""
    made = {"OPQ": Recipe(rotation="opq", codebook=CodebookSpec(kind="pq", M=size, nbits=8))}
    if 2 * size <= d:
        aware = CodebookSpec(kind="pq", M=2 * size, nbits=4, score_aware=0.2)
        made["score-aware PQ, 4 bits"] = Recipe(codebook=aware)
    bits = (size - 8) * 8 // d
    if bits >= 1:
        made["RaBitQ"] = Recipe(rotation="random", codebook=CodebookSpec(kind="rabitq", nbits=bits))
    return {named(name, lists): replace(recipe, nlist=lists or None) for name, recipe in made.items()}


def named(name: str, lists: int) -> str:
    """Return a name that says how many lists there are."""
    return f"{name}, {lists} lists" if lists else name


@dataclass(frozen=True)
class Table:
    """The figures of one collection."""

    judge: Judge
    documents: np.ndarray
    queries: np.ndarray
    figures: Figures

    def add(
        self, size: int, codes: str, encoder: str, values: np.ndarray, *less: np.ndarray | None, seconds=""
    ) -> None:
        """Add a row; ``less`` is what it is compared with."""
        gains = ["" if base is None else self.judge.interval(values - base) for base in less]
        self.figures.add(size, codes, encoder, self.judge.interval(values), *gains, seconds)

    def plain(self, size: int, lists: int) -> np.ndarray:
        """Measure what needs no learning; return OPQ's values."""
        base: np.ndarray | None = None
        for name, recipe in plain_recipes(self.documents.shape[1], size, lists).items():
            values = self.judge.values(annvq.build(self.documents, recipe, metric="ip"), self.queries)
            base = values if base is None else base
            self.add(size, name, "original", values, base, None)
        assert base is not None
        return base

    def learned(
        self, size: int, lists: int, name: str, learned: Learned, texts: Texts, base: np.ndarray, seconds: float
    ) -> None:
        """Measure a method's index, and what its encoder reaches without its codes."""
        found, dim = learned.queries(texts), self.documents.shape[1]
        values = self.judge.values(learned.index, found)
        if np.array_equal(found, self.queries):
            self.add(size, name, "original", values, base, base, seconds=f"{seconds:.0f}")
            return
        opq = named("OPQ", lists)
        same = self.judge.values(
            annvq.build(learned.documents, plain_recipes(dim, size, lists)[opq], metric="ip"), found
        )
        exact = self.judge.values(annvq.build(learned.documents, "flat", metric="ip"), found)
        self.add(size, name, f"of {name}", values, base, same, seconds=f"{seconds:.0f}")
        self.add(size, opq, f"of {name}", same, base, None)
        self.add(4 * dim, "exact", f"of {name}", exact, base, same)


def main() -> None:
    """Train, measure, print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--model", required=True)
    parser.add_argument("--bytes", default="48,24,16")
    parser.add_argument("--methods", default="distill-vq,jpq,repconc", help=", ".join(LEARNERS))
    parser.add_argument("--lists", type=int, default=0, help="also in so many lists")
    parser.add_argument("--epochs", type=int)
    parser.add_argument("--most-steps", type=int, help="of every stage")
    parser.add_argument("--measure-every", type=int, help="steps")
    parser.add_argument("--out", type=Path, default=Path("bench-out"))
    parser.add_argument("--json")
    asked = parser.parse_args()
    cache = asked.out / "embeddings"
    dataset = BeirDataset.read(asked.folder, "test")
    collection = LearningCollection.read(asked.folder, asked.model, cache)
    documents = np.asarray(collection.documents.vectors)
    queries = cached_embeddings(cache, asked.model, dataset.queries, "query")
    texts = Texts(tuple(dataset.queries.values()), queries)
    figures = Figures(
        f"{dataset.name}, {METRIC} of {len(queries):,} test queries, {len(documents):,} documents; "
        + shared_documents(asked.folder, dataset),
        ["bytes", "codes", "encoder", METRIC, "less OPQ, original encoder", "less OPQ, same encoder", "training s"],
    )
    table = Table(Judge(dataset), documents, queries, figures)
    exact = table.judge.values(annvq.build(documents, "flat", metric="ip"), queries)
    table.add(4 * documents.shape[1], "exact", "original", exact, None, None)
    sizes = [int(part) for part in asked.bytes.split(",")]
    for size, lists in product(sizes, (0, asked.lists) if asked.lists else (0,)):
        base = table.plain(size, lists)
        for method in asked.methods.split(","):
            recipe = plain_recipes(documents.shape[1], size, lists)[named("OPQ", lists)]
            how = LEARNERS[method](
                recipe=recipe, epochs=asked.epochs, most_steps=asked.most_steps, measure_every=asked.measure_every
            )
            start = time.perf_counter()
            learned = collection.learn(
                how, named=False, out=asked.out / "learned" / f"{dataset.name}-{method}-{size}-{lists}"
            )
            seconds = time.perf_counter() - start
            table.learned(size, lists, named(method, lists), learned, texts, base, seconds)
    figures.show(machine_line(annvq=annvq.__version__), ["--json", asked.json] if asked.json else [])


if __name__ == "__main__":
    main()
