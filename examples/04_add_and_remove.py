"""An index on disk that changes while others read it."""

import tempfile
from pathlib import Path

import numpy as np

import annvq

rng = np.random.default_rng(0)
vectors = rng.normal(size=(5_000, 48)).astype(np.float32)
path = Path(tempfile.mkdtemp()) / "index"
annvq.build(vectors, recipe="IVF64,PQ24x4fsr,Refine(SQ8)", metric="l2").save(path)

reader = annvq.open(path)
query = rng.normal(size=(1, 48)).astype(np.float32)

with annvq.open(path, mode="rw") as writer:  # one writer at a time: a second one gets LockedError
    writer.add(query, ids=[1_000_000])  # on disk when the call returns
    writer.remove(np.arange(100))
    print("writer  ", writer.search(query, k=1).ids[0], len(writer))

    print("reader  ", reader.search(query, k=1).ids[0], len(reader))  # still the version it opened
    print("reopened", annvq.open(path).search(query, k=1).ids[0])

    try:
        writer.add(query, ids=[1_000_000])
    except annvq.errors.DuplicateIdError as error:
        print("refused ", error)

    writer.compact()
    print("compact ", writer.stats()["segments"], "segment,", writer.stats()["deleted"], "deleted")
