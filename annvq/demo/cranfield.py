"""The demo's data: 1,400 abstracts, 225 questions, judgements, and MiniLM embeddings of both.

Made by bench/make_demo_data.py; data/README.md says where they come from.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from annvq.bench.quality import JudgedVectors
from annvq.evaluation import BeirDataset

_DATA = Path(__file__).parent / "data"


def texts() -> BeirDataset:
    """Return titles and first words of the abstracts, the questions, and the judgements."""
    return BeirDataset.read(_DATA)


def embeddings(dataset: BeirDataset) -> JudgedVectors:
    """Return the embeddings (384 dimensions, float32 of unit length) with the judgements."""
    return JudgedVectors(
        documents=_unit(np.load(_DATA / "documents.npy", allow_pickle=False)),
        queries=_unit(np.load(_DATA / "queries.npy", allow_pickle=False)),
        document_ids=tuple(dataset.documents),
        query_ids=tuple(dataset.queries),
        qrels=dataset.qrels,
    )


def _unit(stored: np.ndarray) -> np.ndarray:
    """Undo what storing as float16 did to the lengths."""
    vectors = stored.astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
