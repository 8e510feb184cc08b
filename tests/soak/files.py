"""Trial: input files of every format with bytes changed are read or refused with an error of annvq's."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from limits import limit_memory

from annvq import io
from annvq.errors import AnnvqError

_MOST_MEMORY = 1 << 30  # beyond what the process holds


def written(rng: np.random.Generator, folder: Path) -> list[Path]:
    """Write a small file of every format."""
    n, dim = int(rng.integers(1, 70)), int(rng.integers(1, 20))
    vectors = rng.normal(size=(n, dim)).astype(np.float32)
    words = [f"é{i}" for i in range(n)]
    np.save(folder / "a.npy", vectors)
    np.savez(folder / "a.npz", vectors=vectors, ids=np.array(words))
    table = pa.table({"id": words, "vector": pa.array(list(vectors))})
    pq.write_table(table, folder / "a.parquet", row_group_size=int(rng.integers(1, n + 1)))
    with pa.ipc.new_file(folder / "a.arrow", table.schema) as writer:
        writer.write_table(table)
    with open(folder / "a.fvecs", "wb") as opened:
        for row in vectors:
            opened.write(np.int32(dim).tobytes() + row.tobytes())
    found = [folder / f"a.{suffix}" for suffix in ("npy", "npz", "parquet", "arrow", "fvecs")]
    try:
        import h5py
    except ImportError:
        return found
    with h5py.File(folder / "a.hdf5", "w") as opened:
        opened["vectors"] = vectors
        opened["ids"] = words
    return [*found, folder / "a.hdf5"]


def trial(rng: np.random.Generator, folder: Path) -> Counter:
    """Run one trial; return counts of what was done."""
    counts: Counter = Counter()
    paths = written(rng, folder)
    limit_memory(_MOST_MEMORY)
    for path in paths:
        raw = path.read_bytes()
        for _ in range(60):
            path.write_bytes(mutated(rng, raw))
            counts["files"] += 1
            try:
                source = io.open_vectors(path)
                for batch in source.batches(50):
                    np.isfinite(batch).all()
                source.ids()
            except AnnvqError:
                counts["refused"] += 1
    return counts


def mutated(rng: np.random.Generator, raw: bytes) -> bytes:
    """Return bytes that are flipped, cut, repeated or replaced here and there."""
    made = bytearray(raw)
    draw = rng.random()
    if draw < 0.15:
        return bytes(made[: int(rng.integers(0, len(made)))])
    if draw < 0.25:
        at, length = int(rng.integers(0, len(made))), int(rng.integers(1, 64))
        return bytes(made[:at] + made[at : at + length] * 2 + made[at + length :])
    for _ in range(int(rng.choice([1, 1, 2, 8, 40]))):
        at = int(rng.integers(0, len(made))) if rng.random() < 0.5 else int(rng.integers(0, min(300, len(made))))
        made[at] = int(rng.choice([0, 1, 0x7F, 0x80, 0xFF, made[at] ^ (1 << int(rng.integers(8)))]))
    return bytes(made)
