"""Measure multi-vector recipes beside fast-plaid: queries per second at equal recall, build, bytes, memory.

All libraries get the same token embeddings and threads, and each runs in a process of its own. The true neighbours
are the 10 documents of largest Chamfer similarity of the uncompressed vectors. Of some 100 test queries, or
--queries, evenly spaced, every other one is used to choose the setting of each library; the others are reported. The
script needs the extras text and torch. Each of fast-plaid's wheels is made for one version of torch and crashes with
another. fast-plaid may therefore be installed in an environment of its own, together with numba; --plaid-python names
its Python (measured: pip install torch==2.11.0 fast-plaid==1.7.0.2110 fastkmeans numba).

    python bench/multivector_peers.py DIR --model MODEL [--threads N] [--recipe R ...] [--nbits 4,2] \
        [--queries N] [--plaid-python PYTHON] [--json FILE] [--out FOLDER]
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from figures import Figures, machine_line

import annvq

K, PASSES, GOALS = 10, 2, (0.90, 0.95, 0.99)
Search = Callable[[int, int], list[list[int]]]


@dataclass
class Measured:
    """One setting of one library: recall of the choosing and of the reported queries, and queries per second."""

    setting: str
    chosen_by: float
    recall: float
    batch: float
    single: float


@dataclass
class Tokens:
    """Documents and queries, flat with offsets, and the exact ids (nq, K)."""

    vectors: np.ndarray
    offsets: np.ndarray
    queries: np.ndarray
    query_offsets: np.ndarray
    exact: np.ndarray

    def documents(self) -> list[np.ndarray]:
        """Return every document's vectors in float32."""
        return [part.astype(np.float32) for part in np.split(self.vectors, self.offsets[1:-1])]

    def asked(self) -> list[np.ndarray]:
        """Return every query's vectors in float32."""
        return [part.astype(np.float32) for part in np.split(self.queries, self.query_offsets[1:-1])]


def annvq_settings(tokens: Tokens, recipe: str, threads: int) -> Iterator[tuple[str, float, float, Search]]:
    """Build, then yield setting, seconds of build, bytes per document and search."""
    from annvq.multivector import MultiVectorIndex, Ragged

    few = Ragged(tokens.vectors, tokens.offsets)[:3000]
    MultiVectorIndex.build(few, recipe, threads=threads).search(tokens.asked()[:2], K, threads=threads)  # compiles
    start = time.perf_counter()
    index = MultiVectorIndex.build(tokens.vectors, recipe, offsets=tokens.offsets, threads=threads)
    seconds = time.perf_counter() - start
    size = sum(index.stats()["bytes_per_document"].values())
    asked, nlist = tokens.asked(), index.stats()["nlist"]
    probes = sorted({max(1, nlist // share) for share in (1, 2, 4, 8, 16)})
    for nprobe in probes:
        for candidates in (10, 20, 40, 80, 160, 320, 480, 640, 960, 1280):

            def search(begin: int, end: int, c: int = candidates, n: int = nprobe) -> list[list[int]]:
                return index.search(asked[begin:end], K, candidates=c, nprobe=n, threads=threads).ids.tolist()

            yield f"nprobe {nprobe} of {nlist}, {candidates} candidates", seconds, size, search


def plaid_settings(tokens: Tokens, nbits: int, threads: int) -> Iterator[tuple[str, float, float, Search]]:
    """Build fast-plaid, then yield what `annvq_settings` yields."""
    import torch
    from fast_plaid import search as plaid

    torch.set_num_threads(threads)
    asked = [torch.from_numpy(one) for one in tokens.asked()]
    with tempfile.TemporaryDirectory() as folder:
        index = plaid.FastPlaid(index=str(Path(folder) / "index"), device="cpu")
        documents = [torch.from_numpy(one) for one in tokens.documents()]
        start = time.perf_counter()
        index.create(documents_embeddings=documents, nbits=nbits)
        seconds = time.perf_counter() - start
        size = sum(f.stat().st_size for f in Path(folder).rglob("*") if f.is_file()) / len(documents)
        del documents
        for probes in (2, 4, 8):
            for full in (32, 64, 128, 256):

                def search(begin: int, end: int, p: int = probes, f: int = full) -> list[list[int]]:
                    found = index.search(asked[begin:end], top_k=K, n_full_scores=f, n_ivf_probe=p, show_progress=False)
                    return [[name for name, _ in ranked] for ranked in found]

                yield f"n_ivf_probe {probes}, n_full_scores {full}", seconds, size, search


def measure(path: str, library: str, threads: int) -> None:
    """Build and sweep one library, print a line per setting; called in a process of its own, which may crash."""
    arrays = np.load(path)
    tokens = Tokens(**{name: arrays[name] for name in arrays.files})
    kind, _, what = library.partition(":")
    settings = (
        plaid_settings(tokens, int(what), threads) if kind == "fast-plaid" else annvq_settings(tokens, what, threads)
    )
    nq = len(tokens.exact)
    peak = 0.0
    for setting, seconds, size, search in settings:
        peak = peak or resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        found = search(0, nq)
        shares = np.array([len(set(f) & set(t)) / K for f, t in zip(found, tokens.exact.tolist(), strict=True)])
        few = min(nq, 50)
        row = Measured(
            setting, float(shares[::2].mean()), float(shares[1::2].mean()),
            nq / fastest(lambda s=search: s(0, nq)),
            few / fastest(lambda s=search, n=few: [s(q, q + 1) for q in range(n)]),
        )  # fmt: skip
        print(json.dumps({**asdict(row), "build_s": seconds, "bytes": size, "peak_gib": peak}), flush=True)


def plaid_version(python: str) -> str:
    """Return fast-plaid's version in an environment."""
    code = "from importlib.metadata import version as v; print(v('fast-plaid'), 'on torch', v('torch'))"
    return subprocess.run([python, "-c", code], stdout=subprocess.PIPE, text=True, check=True).stdout.strip()


def fastest(call: Callable[[], object]) -> float:
    """Return the least seconds of some calls."""
    best = float("inf")
    for _ in range(PASSES):
        start = time.perf_counter()
        call()
        best = min(best, time.perf_counter() - start)
    return best


def embedded(asked: argparse.Namespace) -> tuple[str, Tokens]:
    """Return what is measured, and the tokens."""
    from annvq.bench.multivector import JudgedTokens
    from annvq.evaluation import BeirDataset
    from annvq.multivector import chamfer

    dataset = BeirDataset.read(asked.folder, "test")
    judged = JudgedTokens.embedded(dataset, asked.model, asked.out / "embeddings")
    queries, documents = judged.queries[:: -(-len(judged.queries) // asked.queries)], judged.documents
    exact = np.argsort(-chamfer(queries, documents, threads=asked.threads), axis=1, kind="stable")[:, :K]
    title = f"{dataset.name}: {len(documents):,} documents, {len(documents.vectors):,} vectors of {documents.dim}"
    return title, Tokens(documents.vectors, documents.offsets, queries.vectors, queries.offsets, exact)


def main() -> None:
    """Measure every library and print."""
    if sys.argv[1:2] == ["--one"]:
        measure(sys.argv[2], sys.argv[3], int(sys.argv[4]))
        return
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--model", required=True)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--recipe", action="append")
    parser.add_argument("--nbits", default="4,2", help="of fast-plaid")
    parser.add_argument("--queries", type=int, default=100)
    parser.add_argument("--plaid-python", default=sys.executable)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--out", type=Path, default=Path("bench-out"))
    asked = parser.parse_args()
    title, tokens = embedded(asked)
    libraries = [f"annvq:{recipe}" for recipe in asked.recipe or ("muvera", "muvera-4bit", "centroid-interaction")]
    libraries += [f"fast-plaid:{bits}" for bits in asked.nbits.split(",") if bits]
    figures = Figures(
        f"{title}, {asked.threads} threads, {len(tokens.exact)} queries, half of them reported",
        [
            "library",
            "build s",
            "peak GiB",
            "bytes/document",
            "recall@10 of",
            "reached",
            "batch q/s",
            "single q/s",
            "at",
        ],
    )
    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder) / "tokens.npz")
        np.savez(path, **vars(tokens))
        many = str(asked.threads)
        where = {"PYTHONPATH": str(Path(annvq.__file__).parents[1])}
        environment = {**os.environ, **where, "RAYON_NUM_THREADS": many, "OMP_NUM_THREADS": many}
        for library in libraries:
            python = asked.plaid_python if library.startswith("fast-plaid") else sys.executable
            command = [python, __file__, "--one", path, library, many]
            rows = []
            with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
                assert process.stdout is not None
                for line in process.stdout:
                    if line.startswith("{"):
                        rows.append(json.loads(line))
                        print(library, line.strip(), file=sys.stderr)  # a setting can take minutes
            if process.returncode:
                print(f"{library} ended with {process.returncode} after {len(rows)} settings", file=sys.stderr)
            for goal in GOALS if rows else ():
                good = [row for row in rows if row["chosen_by"] >= goal]
                best = max(good or rows, key=lambda row: row["batch"] if good else row["chosen_by"])
                figures.add(
                    library, best["build_s"], best["peak_gib"], best["bytes"], goal, best["recall"], best["batch"],
                    best["single"], best["setting"],
                )  # fmt: skip
    versions = {"annvq": annvq.__version__}
    if asked.nbits:
        versions["fast-plaid"] = plaid_version(asked.plaid_python)
    figures.show(machine_line(**versions), ["--json", str(asked.json)] if asked.json else [])


if __name__ == "__main__":
    main()
