"""A judged text collection in BEIR's layout, embedded and ready to learn from."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from annvq.arguments import as_path
from annvq.errors import ParameterError
from annvq.evaluation import BeirDataset
from annvq.evaluation.embeddings import Side, as_model_name, cached_embeddings
from annvq.learn.data import Texts
from annvq.learn.learned import Learned
from annvq.learn.methods import Method
from annvq.learn.training import processes
from annvq.learn.training.devices import Devices
from annvq.learn.training.trainer import Report
from annvq.progress import Progress


@dataclass(frozen=True)
class LearningCollection:
    """Documents, train and dev queries as texts and vectors, and pairs of query row and document row.

    Without a dev split, `Method.fit` holds out some train queries.
    """

    name: str
    model: str
    documents: Texts
    document_ids: tuple[str, ...]
    train: Texts
    train_pairs: np.ndarray
    dev: Texts | None
    dev_pairs: np.ndarray | None

    @classmethod
    def read(
        cls,
        folder: str | os.PathLike[str],
        model: str | os.PathLike[str],
        cache: str | os.PathLike[str],
        *,
        split: str = "train",
        progress: bool | Progress = False,
    ) -> LearningCollection:
        """Read a folder and embed what the cache does not hold.

        If there are several processes, the first one embeds and the others read the cache.

        Parameters
        ----------
        folder
            A folder in BEIR's layout.
        model
            Name or folder of a sentence-transformers model.
        cache
            Folder of embeddings, created if it does not exist.
        split
            Judgements to learn from.
        progress
            True, or a `annvq.progress.Progress`: how far embedding is.

        Raises
        ------
        DataFormatError, ParameterError, MissingExtraError
            Files that cannot be read; a test split to learn from; no model.

        """
        if split == "test":
            raise ParameterError("the test split is what results are reported on: learn from another")
        devices = Devices()
        given = (as_path(folder), as_model_name(model), as_path(cache), split, progress)
        if processes.are_several():
            devices.by_first(lambda: cls._read(*given))
        return cls._read(*given)

    @classmethod
    def _read(cls, folder: Path, model: str, cache: Path, split: str, progress: bool | Progress) -> LearningCollection:
        dataset = BeirDataset.read(folder, split)
        documents = _texts(cache, model, dataset.documents, "document", progress)
        rows = {name: row for row, name in enumerate(dataset.documents)}
        dev, dev_pairs = None, None
        if "dev" in BeirDataset.splits(folder) and split != "dev":
            held = BeirDataset.read(folder, "dev")
            dev, dev_pairs = _texts(cache, model, held.queries, "query", progress), _pairs(held, rows)
        train = _texts(cache, model, dataset.queries, "query", progress)
        return cls(
            dataset.name, model, documents, tuple(dataset.documents), train, _pairs(dataset, rows), dev, dev_pairs
        )  # fmt: skip

    def learn(
        self,
        method: Method,
        *,
        named: bool = True,
        out: str | os.PathLike[str] | None = None,
        resume: bool = True,
        threads: int | None = None,
        report: Report | None = None,
        progress: bool | Progress = False,
    ) -> Learned:
        """Fit a method; judgements are ignored if it needs none.

        ``named`` says whether the index holds the documents' ids; otherwise it holds row numbers.
        """
        labels = method.uses_labels
        return method.fit(
            self.documents,
            self.train,
            relevance=self.train_pairs if labels else None,
            dev_queries=self.dev,
            dev_relevance=self.dev_pairs if labels else None,
            encoder=self.model if method.wants_encoder else None,
            ids=list(self.document_ids) if named else None,
            out=out,
            resume=resume,
            threads=threads,
            report=report,
            progress=progress,
        )


def _texts(cache: Path, model: str, texts: dict[str, str], side: Side, progress: bool | Progress) -> Texts:
    vectors = cached_embeddings(cache, model, texts, side, progress=progress)
    return Texts(tuple(texts.values()), vectors)


def _pairs(dataset: BeirDataset, rows: dict[str, int]) -> np.ndarray:
    """Return (m, 2) rows of queries and their relevant documents, of those that the collection holds."""
    pairs = [
        (number, rows[name])
        for number, query in enumerate(dataset.queries)
        for name, grade in dataset.qrels[query].items()
        if grade > 0 and name in rows
    ]
    return np.array(pairs, np.int64).reshape(-1, 2)
