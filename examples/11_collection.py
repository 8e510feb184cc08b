"""Texts with metadata: what goes in comes back, and rows change as a whole."""

import tempfile
from pathlib import Path

import numpy as np

import annvq

WORDS = ("river", "bank", "money", "boat")


def embed(texts: list[str]) -> np.ndarray:
    """Stand in for a sentence-transformers model, whose `encode` a collection would call."""
    return np.array([[text.count(word) + 0.1 for word in WORDS] for text in texts], np.float32)


path = Path(tempfile.mkdtemp()) / "notes"
with annvq.Collection.create(embed, path=path) as notes:
    notes.add(
        ["a boat on the river", "the bank lends money", "the bank of the river"],
        [{"source": "novel", "page": 3}, {"source": "news", "tags": ["finance"]}, {"source": "novel", "page": 9}],
        ["n1", "n2", "n3"],
    )
    for record in notes.search("river bank", k=2):
        print(f"{record.similarity:.2f}", record.id, record.text, record.metadata)
    print("novels beyond page 5:", [one.id for one in notes.get(filter={"source": "novel", "page": {"$gt": 5}})])
    notes.upsert(["money in the bank"], [{"source": "news"}], ["n2"])

with annvq.Collection.open(path, embed) as reader:
    print("kept:", reader.get(["n2"])[0].text)
