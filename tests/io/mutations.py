"""Read many mutated copies of small files: `python mutations.py FOLDER COUNT SEED [SUFFIX ...]`.

Every read must give vectors or one of annvq's errors (or the system's), in little memory and time. The last line that
is printed before the process is killed says which file it was.
"""

import os
import resource
import signal
import sys
import traceback
from pathlib import Path

import numpy as np

from annvq import io
from annvq.errors import AnnvqError

MEMORY, SECONDS = 4 << 30, 10
ROWS = np.random.default_rng(0).normal(size=(40, 6)).astype(np.float32)
INTS, TEXTS = np.arange(40) * 3, [f"é{i:03}" for i in range(40)]
SUFFIXES = (".npy", ".npz", ".parquet", ".arrow", ".fvecs", ".bvecs", ".fbin", ".hdf5")


def write_seeds(folder, suffixes=SUFFIXES):
    """Write small files, one or more of a format; return their paths."""
    for suffix in suffixes:
        if suffix in (".npy", ".fvecs", ".fbin"):
            io.write(folder / f"plain{suffix}", ROWS)
        elif suffix == ".bvecs":
            io.write(folder / "plain.bvecs", (ROWS * 9).astype(np.uint8))
        else:
            io.write(folder / f"ints{suffix}", ROWS, INTS)
            io.write(folder / f"texts{suffix}", ROWS, TEXTS)
    if ".npz" in suffixes:
        np.savez_compressed(folder / "small.npz", vectors=ROWS, ids=INTS)
        np.savez(folder / "dataset.npz", base=ROWS, query=ROWS[:3], metric="l2", gt=INTS[:3, None] % 40)
    if ".parquet" in suffixes:
        import pyarrow as pa
        import pyarrow.parquet as pq

        lists = pa.table({"id": pa.array(TEXTS).dictionary_encode(), "v": ROWS.tolist()})
        pq.write_table(lists, folder / "lists.parquet", compression="zstd", row_group_size=9)
    if ".arrow" in suffixes:
        with pa_stream(folder / "stream.arrow") as write:
            write()
    if ".hdf5" in suffixes:
        write_hdf5(folder)
    return sorted(folder.iterdir())


def pa_stream(path):
    from contextlib import contextmanager

    import pyarrow as pa

    @contextmanager
    def opened():
        table = pa.table({"id": TEXTS, "v": ROWS.tolist()})
        with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_stream(sink, table.schema) as writer:
            yield lambda: writer.write_table(table, max_chunksize=9)

    return opened()


def write_hdf5(folder):
    import h5py

    with h5py.File(folder / "chunked.hdf5", "w") as file:
        file.create_dataset("vectors", data=ROWS, chunks=(7, 3), compression="gzip", shuffle=True)
        file.create_dataset("ids", data=TEXTS, dtype=h5py.string_dtype(), chunks=(7,))
    with h5py.File(folder / "dataset.hdf5", "w") as file:
        file["train"], file["test"], file["neighbors"] = ROWS, ROWS[:3], INTS[:3, None] % 40
        file.attrs["distance"] = "euclidean"


def mutated(content, rng):
    """Return a copy with some bytes changed, cut, doubled or set to what lengths and signs trip over."""
    out = bytearray(content)
    for _ in range(rng.integers(1, 5)):
        place, kind = int(rng.integers(0, len(out))), rng.integers(0, 6)
        if kind <= 1:
            out[place] ^= 1 << int(rng.integers(0, 8))
        elif kind == 2:
            out[place : place + 4] = rng.integers(0, 256, 4, np.uint8).tobytes()
        elif kind == 3:
            width = int(rng.choice([1, 2, 4, 8]))
            value = int(rng.choice([0, 1, 255, 1 << 31, (1 << 63) - 1])) & ((1 << 8 * width) - 1)
            out[place : place + width] = value.to_bytes(width, "little")
        elif kind == 4:
            out = out[: max(1, place)]
        else:
            other = int(rng.integers(0, len(out)))
            out[place : place + 16] = out[other : other + 16]
    return bytes(out)


def read_all(path):
    """Read what a build and a bench read of a file."""
    if path.name.startswith("dataset"):
        io.read_ann_dataset(path)
        return
    io.read_queries(path)
    source = io.open_vectors(path)
    source.ids()
    source.sample(5, 0)
    for _ in source.batches(16):
        pass


def main(folder, count, seed, *suffixes):
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    folder = Path(folder)
    (folder / "seeds").mkdir()
    faults = 0
    for path in write_seeds(folder / "seeds", suffixes or SUFFIXES):
        read_all(path)
        content = path.read_bytes()
        for number in range(int(count)):
            rng = np.random.default_rng([int(seed), number])
            changed = folder / path.name
            changed.write_bytes(mutated(content, rng))
            print(f"at {path.name} {number}", flush=True)
            signal.alarm(SECONDS)
            try:
                read_all(changed)
            except AnnvqError:
                pass
            except BaseException:
                faults += 1
                print(f"FAULT {path.name} {number}\n{traceback.format_exc()}", flush=True)
            signal.alarm(0)
            os.remove(changed)
    sys.exit(min(faults, 1))


if __name__ == "__main__":
    main(*sys.argv[1:])
