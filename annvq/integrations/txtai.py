"""txtai (extra "txtai"): an index for dense vectors, ``backend: annvq.integrations.txtai.Annvq``."""

from __future__ import annotations

from typing import Any

import numpy as np

import annvq
from annvq.errors import MissingExtraError

try:
    from txtai.ann import ANN
except ImportError as error:
    raise MissingExtraError("txtai", "txtai") from error


class Annvq(ANN):
    """txtai's interface of indexes over an index of annvq.

    txtai normalizes vectors itself, so the metric is the inner product. Where it makes packed bits of them
    (``quantize`` with a number), it is "hamming", and scores are the shares of equal bits. Settings stand in txtai's
    configuration under the class path: ``recipe`` (by default "auto"), and ``nprobe`` and ``rerank`` of searches.
    """

    def index(self, embeddings: np.ndarray) -> None:
        """Build the index of vectors (n, d), whose ids are 0 to n - 1."""
        bits = self.config.get("quantize")
        packed = isinstance(bits, int) and not isinstance(bits, bool) and bits > 0
        recipe = self.setting("recipe", "auto")
        self.backend: Any = annvq.build(embeddings, recipe, metric="hamming" if packed else "ip")
        self.config["offset"] = len(embeddings)
        self.metadata({"recipe": self.backend.recipe.name})

    def append(self, embeddings: np.ndarray) -> None:
        """Add vectors (n, d) under the ids that follow all that were ever given."""
        offset = self.config["offset"]
        self.backend.add(embeddings, ids=np.arange(offset, offset + len(embeddings)))
        self.config["offset"] = offset + len(embeddings)
        self.metadata()

    def delete(self, ids: Any) -> None:
        """Remove vectors; ids that the index does not hold are passed over."""
        self.backend.remove(np.asarray(ids, np.int64), missing="ignore")

    def search(self, queries: np.ndarray, limit: int) -> list[list[tuple[int, float]]]:
        """Return up to ``limit`` pairs of id and score for every query (nq, d)."""
        hits = self.backend.search(queries, limit, nprobe=self.setting("nprobe"), rerank=self.setting("rerank"))
        if hits.metric != "hamming":
            return hits.to_lists()
        dim = self.backend.dim
        return [[(label, 1 + score / dim) for label, score in found] for found in hits.to_lists()]

    def count(self) -> int:
        """Return the number of vectors."""
        return len(self.backend)

    def load(self, path: str) -> None:
        """Open what `save` wrote: vectors stay mapped, changes are made in memory, and the folder stays as it is."""
        self.backend = annvq.open(path, mode="copy")

    def save(self, path: str) -> None:
        """Write the index to a folder, all or nothing; an index that is already there is replaced."""
        self.backend.save(path)

    def close(self) -> None:
        """Release files and memory."""
        if self.backend is not None:
            self.backend.close()
        super().close()
