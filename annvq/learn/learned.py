"""The result of training: an ordinary index, the query encoder, the history."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from annvq.arguments import as_path
from annvq.errors import MissingExtraError, ParameterError, StorageError
from annvq.index.index import Index
from annvq.index.versions.versioned import VersionedRows
from annvq.io.replacing import replacing
from annvq.learn.codes.health import CodeHealth
from annvq.learn.data import QuerySet, Texts
from annvq.learn.parts import encoder as encoders
from annvq.learn.training import pictures
from annvq.learn.training.trainer import Run
from annvq.storage.filesystem import LOCAL
from annvq.storage.folders import check_replaceable


@dataclass(frozen=True)
class Learned:
    """The result of a method.

    Parameters
    ----------
    method
        Its name.
    index
        The index of the documents with learned codes; it is searched with what `queries` returns.
    start
        The same index before training.
    health
        Use of the codes before and after training.
    history
        The history of every stage: one entry per measurement.

    """

    method: str
    index: Index
    start: Index
    health: dict[str, dict[str, float]]
    history: list[list[dict[str, float]]]
    _last: Run

    @classmethod
    def of(cls, method: str, start: Index, runs: list[Run]) -> Learned:
        """Build from the untrained index and the finished stages.

        Parameters
        ----------
        method
            Its name.
        start
            The index before training, of one segment.
        runs
            The finished stages, at least one, in their order.

        """
        first, last = runs[0], runs[-1]
        (segment,) = start.rows.current.snapshot.segments
        ids = segment.ids.reorder(np.argsort(segment.positions))
        trained = last.student.to_trained()
        rows = VersionedRows.from_codes(trained, last.labels, {"codes": last.codes}, ids, start.nprobe)
        before, after = (CodeHealth.of(codes, last.ksub).row() for codes in (first.begun.codes, last.codes))
        history = [run.progress.history for run in runs]
        return cls(method, Index(rows), start, {"before": before, "after": after}, history, last)

    def queries(self, given: Any) -> np.ndarray:
        """Return the vectors (nq, d) float32 with which the index is to be searched for queries.

        Parameters
        ----------
        given
            Texts or `Texts` if an encoder was trained, otherwise vectors.

        Raises
        ------
        ParameterError, ShapeError, DtypeError, NonFiniteError
            Texts without an encoder; input that is not vectors, or vectors of another dimension.

        """
        dim = self.index.dim
        if isinstance(given, Texts):
            return self._last.query_vectors(QuerySet.of(given.vectors, given.texts, None, 0, dim, "queries"))
        if isinstance(given, list | tuple) and given and isinstance(given[0], str):
            encoder = self._last.student.encoder
            if encoder is None:
                raise ParameterError("texts, but no encoder was given: expected vectors")
            return self.queries(Texts(given, encoder.encode(given, "query")))
        return self._last.query_vectors(QuerySet.of(given, None, None, 0, dim, "queries"))

    @property
    def documents(self) -> np.ndarray:
        """The documents' vectors (n, d) float32, made by the trained encoder if it was trained for both sides."""
        return self._last.documents

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Write ``index``, ``encoder`` or ``adapter.npy``, ``history.json`` and pictures into a folder.

        Those of an earlier training run are replaced or removed; other files stay. With several processes, all call it
        and the first one writes.
        """
        place = as_path(folder)
        self._last.devices.by_first(lambda: self._save(place))

    def _save(self, folder: Path) -> None:
        check_out(folder)
        folder.mkdir(parents=True, exist_ok=True)
        self.index.save(folder / "index")
        self._remove_former(folder)
        student = self._last.student
        documents = self._last.end().document_encoder
        if student.encoder is not None and (student.adapter is not None or student.encoder_moves):
            encoders.save(student.encoder, student.adapter, folder / "encoder")
            if documents is not None:
                encoders.save(documents, None, folder / "document-encoder")
        elif student.adapter is not None:
            with replacing(folder / "adapter.npy") as partial, open(partial, "wb") as opened:
                np.save(opened, student.adapter.matrix())
        about = {"method": self.method, "health": self.health, "stages": self.history}
        with replacing(folder / "history.json") as partial:
            partial.write_text(json.dumps(about, indent=1) + "\n")
        for number, history in enumerate(self.history):
            with contextlib.suppress(MissingExtraError):  # pictures are optional
                pictures.training(history, folder / f"stage-{number}.png", f"{self.method}, stage {number + 1}")

    def _remove_former(self, folder: Path) -> None:
        """Remove what a training run with more parts or stages left there, which would not match the new index."""
        for name in ("encoder", "document-encoder"):
            shutil.rmtree(folder / name, ignore_errors=True)
        (folder / "adapter.npy").unlink(missing_ok=True)
        stages = len(self.history)
        while (folder / f"stage-{stages}").is_dir() or (folder / f"stage-{stages}.png").exists():
            shutil.rmtree(folder / f"stage-{stages}", ignore_errors=True)
            (folder / f"stage-{stages}.png").unlink(missing_ok=True)
            stages += 1


def check_out(folder: Path) -> None:
    """Raise a StorageError if results cannot be written to a folder: better before hours of training than after."""
    for place in (folder, folder / "index"):
        if place.exists() and not place.is_dir():
            raise StorageError(f"{place.name} is a file: expected a folder, or none yet")
    check_replaceable(LOCAL, folder / "index")
