"""JPQ, RepCONC and Distill-VQ: configurations of one trainer, from documents and queries to an index."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np

import annvq
from annvq import vectors as door
from annvq.arguments import as_path, as_weight
from annvq.errors import ParameterError, ShapeError
from annvq.evaluation.embeddings import Side
from annvq.index import recipe as recipes
from annvq.index.index import Index
from annvq.index.recipe import Recipe
from annvq.kernels import threads as pool
from annvq.learn.data import QuerySet, Texts
from annvq.learn.learned import Learned, check_out
from annvq.learn.parts import encoder as encoders
from annvq.learn.parts.encoder import TextEncoder
from annvq.learn.parts.start import Start
from annvq.learn.parts.student import RATES, check_recipe
from annvq.learn.step.objectives import Clustering, Contrast, Distillation, Ranking
from annvq.learn.step.proposals import Proposals
from annvq.learn.training.trainer import Report, Run, Trainer
from annvq.progress import Progress, listening

_METRICS = ("ip", "cosine")
_EVERY_STAGE = frozenset({"epochs", "batch", "most_steps", "measure_every", "patience", "seed", "rates"})
# The papers' rates (encoder 5e-6; centroids 5e-6 to 2e-4) are for hundreds of thousands of queries; with tens of
# thousands, centroids hardly move at them. These were chosen by squadshifts' dev queries.
_ENCODER_RATE, _CODEBOOK_RATE = 2e-5, 5e-4
Stages = Callable[[frozenset[str]], list[Trainer]]


@dataclass(frozen=True, kw_only=True)
class Method:
    """A starting recipe, stages of training, and an index at the end; `JPQ`, `RepCONC` and `DistillVQ` return one.

    Parameters
    ----------
    name
        Name of the method.
    recipe
        Recipe of the index, with product or residual codes and no refine store: name, factory string or `Recipe`.
    trainers
        Returns the stages, given the parts that an index and its queries have: keys of
        `annvq.learn.parts.student.RATES`. ``dataclasses.replace(JPQ(), trainers=...)`` trains with your own stages.
    metric
        "ip" or "cosine".
    seed
        Seed of the index, and of the choice of queries that are held out.
    uses_labels
        Whether it learns only from relevant documents.

    """

    name: str
    recipe: Recipe | str | os.PathLike[str]
    trainers: Stages
    metric: str = "ip"
    seed: int = 0
    uses_labels: bool = True

    def __post_init__(self) -> None:
        self.trainers(frozenset(RATES))  # what a trainer refuses is refused now, not after an index was built

    @property
    def wants_encoder(self) -> bool:
        """Whether the first stage trains an encoder, if there is one."""
        return bool({"query_encoder", "encoder"} & set(self.trainers(frozenset(RATES))[0].train))

    def fit(
        self,
        documents: Any,
        queries: Any,
        *,
        relevance: Any = None,
        dev_queries: Any = None,
        dev_relevance: Any = None,
        encoder: Any = None,
        ids: Any = None,
        out: str | os.PathLike[str] | None = None,
        resume: bool = True,
        threads: int | None = None,
        report: Report | None = None,
        progress: bool | Progress = False,
    ) -> Learned:
        """Build an index of the documents, and learn its codes and other trained parts from queries.

        Parameters
        ----------
        documents
            (n, d) vectors or, with ``encoder``, texts or `Texts`.
        queries
            (nq, d) vectors or, with ``encoder``, texts or `Texts`.
        relevance
            Pairs (m, 2) of query row and document row; None: the original embeddings' best documents are used instead.
        dev_queries, dev_relevance
            Queries by which the best step is chosen; None: a tenth of the queries is held out.
        encoder
            A sentence-transformers model, its name or folder, which embeds texts and may be trained.
        ids
            Ids of the documents in the index, as for `annvq.build`.
        out
            Folder for checkpoints, the index, the encoder, history and pictures; None: nothing is written.
        resume
            Whether to continue from checkpoints in ``out``.
        threads
            Default: all CPUs.
        report
            A function that is called with every measurement.
        progress
            True, or a `annvq.progress.Progress`: how far it is.

        Raises
        ------
        ParameterError
            The metric is one for which no codes are learned.
        AnnvqError
            The input cannot be learned from, see `Trainer.fit`; the message says what is wrong.

        """
        if self.metric not in _METRICS:
            raise ParameterError(f"metric {self.metric!r}: codes are learned for inner products, 'ip' or 'cosine'")
        workers, folder = pool.resolve(threads), None if out is None else as_path(out)
        recipe = replace(recipes.load(self.recipe), learn=None)
        check_recipe(recipe)
        if folder is not None:
            check_out(folder)
        with listening(progress) as heard:
            model = None if encoder is None else encoders.load(encoder)
            vectors, texts = _vectors(documents, model, "document", "documents", self.metric, heard)
            train, dev = self._queries(queries, relevance, dev_queries, dev_relevance, model, vectors, heard)
            index = annvq.build(
                vectors, recipe, metric=self.metric, ids=ids, seed=self.seed, threads=workers, progress=heard
            )
            return self._learned(index, vectors, texts, train, dev, model, folder, resume, workers, report, heard)

    def _learned(
        self, index: Index, vectors: np.ndarray, texts: tuple[str, ...] | None, train: QuerySet, dev: QuerySet,
        model: TextEncoder | None, folder: Path | None, resume: bool, workers: int, report: Report | None,
        heard: Progress,
    ) -> Learned:  # fmt: skip
        """Go through the stages."""
        recipe = index.recipe
        trained = index.rows.current.trained
        parts = {"codebook"}
        parts |= {"centroids"} if trained.centroids is not None else set()
        parts |= {"rotation"} if trained.rotation is not None else set()
        if model is not None and train.texts is not None:
            parts |= {"query_encoder"} if texts is None else {"query_encoder", "encoder"}
        state = Start.of(index, vectors, encoder=model, texts=texts, threads=workers)
        runs: list[Run] = []
        for number, how in enumerate(self.trainers(frozenset(parts))):
            if recipe.codebook.kind == "rvq" and how.assignment in ("soft", "balanced"):
                how = replace(how, assignment="nearest")  # its sub-spaces are not assigned one by one
            stage = None if folder is None else folder / f"stage-{number}"
            runs.append(
                how.fit(state, train, dev, folder=stage, resume=resume, threads=workers, report=report, progress=heard)
            )
            state = runs[-1].end()
        learned = Learned.of(self.name, index, runs)
        if folder is not None:
            learned.save(folder)
        return learned

    def _queries(
        self, queries: Any, relevance: Any, dev: Any, dev_relevance: Any, model: TextEncoder | None, rows: np.ndarray,
        heard: Progress,
    ) -> tuple[QuerySet, QuerySet]:  # fmt: skip
        n, dim = rows.shape
        vectors, texts = _vectors(queries, model, "query", "queries", self.metric, heard)
        train = QuerySet.of(vectors, texts, relevance, n, dim, "queries")
        if self.uses_labels:
            train = train.labelled()
        elif len(train.labelled()) < len(train):  # judgements of some: the original embeddings judge all
            train = replace(train, relevance=None)
        if dev is None:
            if dev_relevance is not None:
                raise ParameterError("dev_relevance without dev_queries: give both, or neither")
            return train.split(self.seed)
        vectors, texts = _vectors(dev, model, "query", "dev queries", self.metric, heard)
        return train, QuerySet.of(vectors, texts, dev_relevance, n, dim, "dev queries")


def _vectors(
    given: Any, model: TextEncoder | None, side: Side, name: str, metric: str, heard: Progress
) -> tuple[np.ndarray, tuple[str, ...] | None]:
    """Return vectors (n, d) float32 of what is given, and the texts if it is texts."""
    if isinstance(given, Texts):
        vectors = door.as_matrix(given.vectors, name=name)
        if len(given.texts) != len(vectors):
            raise ShapeError(f"{len(vectors)} {name} with {len(given.texts)} texts")
        return door.for_metric(vectors, metric, name), tuple(given.texts)
    is_text = isinstance(given, Sequence) and len(given) > 0 and all(isinstance(text, str) for text in given)
    if not is_text:
        return door.for_metric(door.as_matrix(given, name=name), metric, name), None
    if model is None:
        raise ParameterError(f"{name} are texts: give an encoder, or vectors")
    texts = tuple(given)
    heard.begin(f"embedding {name}", len(texts))
    return model.encode(texts, side, heard.at), texts


def JPQ(*, recipe: Recipe | str | os.PathLike[str] = "jpq", metric: str = "ip", **changes: Any) -> Method:
    """Return JPQ: codes stay fixed; query encoder and centroids are trained on negatives found by the live index.

    Zhan et al. 2021, "Jointly Optimizing Query Encoder and Product Quantization to Improve Retrieval Performance". If
    queries are vectors, an adapter takes the encoder's place. If few documents have training queries,
    ``objectives=((1.0, Ranking(cut=200)), (1.0, Distillation(teacher="current")))`` holds the codes to the encoder's
    order of all others (docs/performance.md, "Learned codes").

    Parameters
    ----------
    recipe, metric
        As for `Method`.
    changes
        Fields of `Trainer` that replace the method's own; None keeps them. ``rates`` are merged with its own.

    Raises
    ------
    ParameterError
        Fields that `Trainer` does not have or refuses.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> documents, queries = rng.normal(size=(300, 32)), rng.normal(size=(60, 32))
    >>> relevant = [(query, query) for query in range(60)]  # rows of a query and a document
    >>> learned = annvq.learn.JPQ(recipe="OPQ8,PQ8x4", most_steps=5).fit(documents, queries, relevance=relevant)
    >>> learned.index
    Index(n=300, dim=32, metric='ip', recipe='OPQ8,PQ8x4')

    """
    return _method("jpq", _jpq, recipe, metric, changes)


def _jpq(parts: frozenset[str]) -> list[Trainer]:
    moving = "query_encoder" if "query_encoder" in parts else "adapter"
    return [
        Trainer(
            objectives=((1.0, Ranking(cut=200)),),
            train=("codebook", moving),
            proposals=Proposals(live=200),
            rates={"codebook": _CODEBOOK_RATE, "query_encoder": _ENCODER_RATE},
            batch=32,
            epochs=2,
        )
    ]


def RepCONC(
    *,
    recipe: Recipe | str | os.PathLike[str] = "repconc",
    metric: str = "ip",
    both: bool = False,
    clustering: float = 0.05,
    **changes: Any,
) -> Method:
    """Return RepCONC: codes are learned by clustering that uses all centroids equally, followed by JPQ.

    Zhan et al. 2022, "Learning Discrete Representations via Constrained Clustering for Effective and Efficient Dense
    Retrieval". If documents are vectors, their encoder stays as it is.

    Parameters
    ----------
    recipe, metric
        As for `JPQ`.
    both
        Whether one encoder is trained for queries and documents (both must be texts); otherwise only the queries' is.
    clustering
        Weight of the documents' reconstruction error. The paper's, 0.05, is for vectors that are not of unit length.
        Objectives among the changes replace it.
    changes
        As for `JPQ`. What sets how long and how fast a stage learns (epochs, batch, most_steps, measure_every,
        patience, seed, rates) applies to both stages, everything else to the first.

    Raises
    ------
    ParameterError
        Fields that `Trainer` does not have or refuses; a negative weight.

    """

    def stages(parts: frozenset[str]) -> list[Trainer]:
        moving = "query_encoder" if "query_encoder" in parts else "adapter"
        if both:
            if "encoder" not in parts:
                raise ParameterError("training both sides' encoder needs documents and queries as texts")
            moving = "encoder"
        first = Trainer(
            objectives=((1.0, Contrast()), (as_weight("clustering", clustering), Clustering())),
            train=("codebook", moving),
            proposals=Proposals(live=200, shown=1 if both else 8),
            assignment="balanced",
            rates={"codebook": _CODEBOOK_RATE, "query_encoder": _ENCODER_RATE, "encoder": _ENCODER_RATE},
            batch=128,
            epochs=4,
        )
        return [first, *_jpq(parts - {"encoder"})]

    return _method("repconc", stages, recipe, metric, changes)


def DistillVQ(*, recipe: Recipe | str | os.PathLike[str] = "distill-vq", metric: str = "ip", **changes: Any) -> Method:
    """Return Distill-VQ: codebooks and lists are distilled, without labels, from the embeddings' ranking of documents.

    Xiao et al. 2022, "Distill-VQ: Learning Retrieval Oriented Vector Quantization By Distilling Knowledge from Dense
    Embeddings". The encoder is frozen unless ``train`` names it. In the paper codes follow the centroids; here they
    stay fixed, unless the changes name another assignment.

    Parameters
    ----------
    recipe, metric, changes
        As for `JPQ`.

    Raises
    ------
    ParameterError
        Fields that `Trainer` does not have or refuses.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> documents, queries = rng.normal(size=(300, 32)), rng.normal(size=(60, 32))
    >>> learned = annvq.learn.DistillVQ(recipe="OPQ8,PQ8x4", most_steps=5).fit(documents, queries)
    >>> learned.index
    Index(n=300, dim=32, metric='ip', recipe='OPQ8,PQ8x4')

    """
    return _method("distill-vq", _distill_vq, recipe, metric, changes, uses_labels=False)


def _distill_vq(parts: frozenset[str]) -> list[Trainer]:
    return [
        Trainer(
            objectives=((1.0, Distillation()),),
            train=("codebook", *(["centroids"] if "centroids" in parts else [])),
            proposals=Proposals(teacher=200, shown=64, random=16),
            rates={"codebook": 2e-3, "centroids": 1e-3},
            batch=64,
            epochs=6,
        )
    ]


def _method(
    name: str, own: Stages, recipe: Any, metric: str, changes: Mapping[str, Any], uses_labels: bool = True
) -> Method:
    """Return a method whose stages use a user's settings in place of its own."""
    changes = dict(changes)
    options = changes.pop("options", {})
    if options:
        warnings.warn("options={...} will go: give its entries themselves", DeprecationWarning, stacklevel=3)
        changes |= options
    known = sorted(entry.name for entry in fields(Trainer))
    for field in changes:
        if field not in known:
            raise ParameterError(f"option {field!r}: expected one of {', '.join(known)}")
    asked = {field: value for field, value in changes.items() if value is not None}
    rates = asked.pop("rates", {})

    def stages(parts: frozenset[str]) -> list[Trainer]:
        return [
            replace(
                stage,
                **{f: v for f, v in asked.items() if not number or f in _EVERY_STAGE},
                rates={**stage.rates, **rates},
            )
            for number, stage in enumerate(own(parts))
        ]

    return Method(
        name=name,
        recipe=recipe or name,
        trainers=stages,
        metric=metric,
        seed=asked.get("seed", 0),
        uses_labels=uses_labels,
    )


LEARNING_METHODS: dict[str, Callable[..., Method]] = {"jpq": JPQ, "repconc": RepCONC, "distill-vq": DistillVQ}


def learning_method(name: str) -> Callable[..., Method]:
    """Return the function that makes the method of this name; ParameterError for an unknown name."""
    if name not in LEARNING_METHODS:
        raise ParameterError(f"unknown method {name!r}: expected one of {', '.join(LEARNING_METHODS)}")
    return LEARNING_METHODS[name]
