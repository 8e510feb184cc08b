"""Retrieval quality on a data set in BEIR's layout, embedded by a sentence-transformers model."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from annvq.arguments import as_count
from annvq.bench import multivector
from annvq.bench.multivector import JudgedTokens
from annvq.bench.quality import DEPTH, JudgedVectors, Quality, Tuning, measure, measure_index
from annvq.errors import AnnvqError, ParameterError
from annvq.evaluation import BeirDataset, evaluate
from annvq.evaluation.embeddings import as_model_name, cached_embeddings, model_key
from annvq.index import recipe as recipes
from annvq.multivector.recipe import is_multivector
from annvq.progress import Progress

DEFAULT_RECIPES = (
    "flat",
    "ivf-flat",
    "ivf-sq8",
    "opq-ivf-pq8",
    "ivf-pq-fastscan",
    "ivf-rabitq",
    "small",
    "balanced",
    "fast",
)
_TUNING_QUERIES = 1000
OWN = "each recipe's own defaults"
TOKENS = "last hidden states of the model's tokens, scaled to length one, without special tokens and punctuation"


def is_learned(recipe: str) -> bool:
    """Return whether a recipe needs queries to learn from."""
    return recipe != "auto" and not is_multivector(recipe) and recipes.load(recipe).learn is not None


@dataclass(frozen=True)
class BeirBench:
    """What to measure.

    Parameters
    ----------
    model
        Name or folder of a sentence-transformers model.
    recipes
        annvq recipes, as names or strings.
    split
        The split whose judgements are reported.
    threads
        For building and searching; None: all CPUs.
    tune
        Recall@10 that every index is tuned to before it is measured, on queries of another split
        (dev, else train) or, if there is none, on every other query of this one, which are then
        not reported. None: each recipe's own search parameters.
    queries
        The largest number of queries to measure, evenly spaced; None: all.
    bfloat16
        Whether the model computes token embeddings in bfloat16; embeddings of whole texts are not affected.

    """

    model: str | os.PathLike[str]
    recipes: tuple[str, ...] = DEFAULT_RECIPES
    split: str = "test"
    threads: int | None = None
    tune: float | None = None
    queries: int | None = None
    bfloat16: bool = False

    def __post_init__(self) -> None:
        as_model_name(self.model)
        if self.queries is not None:
            as_count("queries", self.queries, least=1 if self.tune is None else 2)
        for recipe in self.recipes:
            if not is_multivector(recipe):
                recipes.check(recipe)  # before minutes are spent on embedding
            if self.tune is not None and (is_learned(recipe) or is_multivector(recipe)):
                raise ParameterError(f"recipe {recipe!r} is learned or multi-vector: it is not tuned here")
        if self.tune is not None and not 0 < self.tune <= 1:
            raise ParameterError(f"tune is a recall above 0 and at most 1, got {self.tune}")


@dataclass(frozen=True)
class BeirResult:
    """What was asked for, the figures of every recipe, and why a recipe has none."""

    config: dict[str, Any]
    qualities: list[Quality]
    failed: dict[str, str]

    def rows(self) -> list[dict[str, Any]]:
        """Return one row per recipe."""
        return [quality.row() for quality in self.qualities]


def run(
    folder: Path, bench: BeirBench, cache: Path, progress: Progress, keep: Callable[[BeirResult], None]
) -> BeirResult:
    """Embed a data set (or take its embeddings from ``cache``) and measure every recipe.

    After every recipe ``keep`` is called with all results so far, for training can take hours and be interrupted. A
    recipe that is refused does not end the run unless it is the only one.

    Raises
    ------
    DataFormatError, RecipeError, MissingExtraError

    """
    evaluate({}, {})  # fails now if pytrec_eval is missing, before minutes are spent on embedding
    dataset = BeirDataset.read(folder, bench.split)
    of = len(dataset.queries)
    if bench.queries is not None:
        dataset = dataset.with_queries(bench.queries)
    if not dataset.queries or not dataset.documents:
        counts = f"{len(dataset.documents)} documents and {len(dataset.queries)} judged queries"
        raise ParameterError(f"{dataset.name}, split {bench.split!r}: {counts}, expected at least one of each")
    tokens = truth = None
    if any(is_multivector(recipe) for recipe in bench.recipes):
        tokens = JudgedTokens.embedded(dataset, bench.model, cache, progress=progress, bfloat16=bench.bfloat16)
        truth = multivector.Truth.of(tokens, bench.threads)
    judged, tuning, how = None, None, OWN
    if not bench.recipes or not all(map(is_multivector, bench.recipes)):  # multi-vector ones use no whole texts
        judged, tuning, how = _tuning(folder, _embedded(dataset, bench, cache, progress), bench, cache, progress)
    config = {
        "data": dataset.name,
        "split": dataset.split,
        **model_key(bench.model),
        "documents": len(dataset.documents),
        "queries": len(dataset.queries) if judged is None else len(judged.queries),
        **({"queries_of_the_split": of} if bench.queries is not None else {}),
        "dim": _dim(judged, tokens),
        "metric": "ip",
        "depth": DEPTH,
        "threads": bench.threads,
        "search_parameters": how,
        **({"token_embeddings": TOKENS, "bfloat16": bench.bfloat16} if tokens is not None else {}),
        "recipes": list(bench.recipes),
    }

    def measured(recipe: str) -> Quality:
        if is_multivector(recipe):
            assert tokens is not None
            assert truth is not None
            return multivector.measure(tokens, truth, recipe, bench.threads)[0]
        assert judged is not None
        if is_learned(recipe):
            return _learned(folder, dataset, judged, recipe, bench, cache, progress)
        return measure(judged, recipe, threads=bench.threads, tuning=tuning)[0]

    result = BeirResult(config, [], {})
    for number, recipe in enumerate(bench.recipes, 1):
        progress.begin(f"{recipe} ({number} of {len(bench.recipes)})")
        try:
            result.qualities.append(measured(recipe))
        except AnnvqError as error:
            if len(set(bench.recipes)) == 1:
                raise
            result.failed[recipe] = str(error)
        keep(result)
    return result


def _dim(judged: JudgedVectors | None, tokens: JudgedTokens | None) -> int:
    """Return the dimension of the embeddings of whole texts or, if there are none, of tokens."""
    if judged is not None:
        return judged.documents.shape[1]
    assert tokens is not None
    return tokens.documents.dim


def _learned(
    folder: Path,
    dataset: BeirDataset,
    judged: JudgedVectors,
    recipe: str,
    bench: BeirBench,
    cache: Path,
    progress: Progress,
) -> Quality:
    """Train a recipe on the train split, choose on dev, and measure it with the queries as it asks them.

    Checkpoints are kept beside the embeddings, so that an interrupted training resumes.
    """
    from annvq.learn.collection import LearningCollection  # torch takes seconds to import
    from annvq.learn.data import Texts
    from annvq.learn.methods import learning_method

    method = learning_method(str(recipes.load(recipe).learn))(recipe=recipe)
    collection = LearningCollection.read(folder, bench.model, cache, progress=progress)
    out = cache.parent / "learned" / f"{dataset.name}-{Path(recipe).stem}"
    begin = time.perf_counter()
    learned = collection.learn(method, named=False, out=out, threads=bench.threads, progress=progress)
    build_s = time.perf_counter() - begin
    names = [dataset.queries[name] for name in judged.query_ids]
    asked = replace(judged, queries=learned.queries(Texts(names, judged.queries)))
    return measure_index(asked, recipe, learned.index, build_s, threads=bench.threads)


def _embedded(dataset: BeirDataset, bench: BeirBench, cache: Path, progress: Progress) -> JudgedVectors:
    return JudgedVectors(
        documents=cached_embeddings(cache, bench.model, dataset.documents, "document", progress=progress),
        queries=cached_embeddings(cache, bench.model, dataset.queries, "query", progress=progress),
        document_ids=tuple(dataset.documents),
        query_ids=tuple(dataset.queries),
        qrels=dataset.qrels,
    )


def _tuning(
    folder: Path, judged: JudgedVectors, bench: BeirBench, cache: Path, progress: Progress
) -> tuple[JudgedVectors, Tuning | None, str]:
    """Return the queries to report, the queries to tune on, and a description of the latter."""
    if bench.tune is None:
        return judged, None, OWN
    others = [split for split in ("dev", "train") if split in BeirDataset.splits(folder) and split != bench.split]
    if others:
        texts = BeirDataset.read(folder, others[0]).queries
        texts = {qid: text for qid, text in texts.items() if qid not in judged.qrels}
        texts = dict(list(texts.items())[:_TUNING_QUERIES])
        queries = cached_embeddings(cache, bench.model, texts, "query", progress=progress)
        how = f"tuned to recall@10 {bench.tune} on {len(queries)} queries of the split {others[0]}"
        return judged, Tuning(queries, bench.tune), how
    if len(judged.queries) < 2:
        raise ParameterError("a single query cannot be held out for tuning")
    how = f"tuned to recall@10 {bench.tune} on every other query, the rest reported"
    return _odd_queries(judged), Tuning(np.ascontiguousarray(judged.queries[::2]), bench.tune), how


def _odd_queries(judged: JudgedVectors) -> JudgedVectors:
    names = judged.query_ids[1::2]
    return JudgedVectors(
        documents=judged.documents,
        queries=np.ascontiguousarray(judged.queries[1::2]),
        document_ids=judged.document_ids,
        query_ids=names,
        qrels={qid: judged.qrels[qid] for qid in names},
    )
