"""Measure how many candidates multi-vector search needs, and what the encoding's parameters do.

The data are token embeddings of a data set in BEIR's layout; the exact neighbours are the documents of largest
Chamfer similarity. For every way to find candidates, the script prints which share of the exact top 1, 10 and 100 is
among 10 to 2,000 candidates, and how many candidates hold 0.95 of the top 10. It then prints the correlation of the
encoding's inner products with Chamfer similarity by each parameter, and draws a picture of both. With --way it prints
the table of some ways only. Queries are those of the test split, at most 200, evenly spaced. The script needs the
extras text and plot.

    python bench/multivector.py DIR --model MODEL [--way W ...] [--bfloat16] [--json FILE] [--out FOLDER]
"""

import argparse
import itertools
from dataclasses import replace
from pathlib import Path

import numpy as np
from figures import Figures, machine_line

import annvq
from annvq.bench.multivector import JudgedTokens
from annvq.evaluation import BeirDataset
from annvq.multivector import FixedDimensionalEncoder, MultiVectorIndex, Ragged, chamfer
from annvq.multivector.recipe import MultiVectorRecipe, load

QUERIES, DEPTHS, TOPS, GOAL = 200, (10, 20, 50, 100, 200, 500, 1000, 2000), (1, 10, 100), 0.95
NOWHERE = 1 << 30
HITS = "single vectors"
SHOWN = (20, 100, 500)  # in the table; the picture has all
ENCODERS = {"10,240 numbers": {}, "sketched to 2,048": {"final_dim": 2048}, "5,120": {"repetitions": 10}}


def ways() -> dict[str, MultiVectorRecipe]:
    """Return a recipe for every way to find candidates except `HITS`."""
    plain = load("chamfer-exact")
    flat, made = plain.index, {}
    for name, changes in ENCODERS.items():
        encoder = replace(load("muvera").encoder, **changes)
        made[f"encoding, {name}"] = replace(plain, candidates_by="encoding", encoder=encoder, index=flat)
    made["mean vector"] = replace(plain, candidates_by="encoding")
    made["muvera (product codes)"] = load("muvera")
    made["muvera-4bit"] = load("muvera-4bit")
    made["single vectors, distinct"] = replace(load("single-vector-heuristic"), tokens=plain.tokens)
    made["centroid interaction"] = load("centroid-interaction")
    return made


def hit_places(queries: Ragged, documents: Ragged, exact: np.ndarray, threads: int) -> np.ndarray:
    """Return how many hits of single vectors come before each exact document's (nq, k), a large number where none is.

    Every vector of a query is searched over the vectors of all documents; first hits come first, then second hits and
    so on. Several may be of one document.
    """
    most = -(-max(DEPTHS) // int(np.diff(queries.offsets).min()))
    index = annvq.build(documents.vectors, "flat", metric="ip", threads=threads)
    hits = index.search(queries.vectors, most, threads=threads).ids
    owners = np.searchsorted(documents.offsets, hits, side="right") - 1
    out = np.full(exact.shape, NOWHERE)
    for q, (begin, end) in enumerate(itertools.pairwise(queries.offsets)):
        names, firsts = np.unique(owners[begin:end].T.ravel(), return_index=True)
        where = dict(zip(names.tolist(), firsts.tolist(), strict=True))
        out[q] = [where.get(int(name), NOWHERE) for name in exact[q]]
    return out


def places(found: list[np.ndarray], exact: np.ndarray) -> np.ndarray:
    """Return each exact document's place among the candidates (nq, k), a large number if it is none of them."""
    out = np.full(exact.shape, NOWHERE)
    for q, ids in enumerate(found):
        where = {int(name): place for place, name in enumerate(ids)}
        out[q] = [where.get(int(name), NOWHERE) for name in exact[q]]
    return out


def correlation(queries: Ragged, documents: Ragged, scores: np.ndarray, **parameters: int | None) -> float:
    """Return the mean correlation over queries of an encoding's inner products with Chamfer similarity."""
    encoder = FixedDimensionalEncoder(dim=documents.dim, **parameters)
    found = encoder.encode_queries(queries) @ encoder.encode_documents(documents).T
    return float(np.mean([np.corrcoef(a, b)[0, 1] for a, b in zip(found, scores, strict=True)]))


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--model", required=True)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--out", type=Path, default=Path("bench-out"))
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--way", action="append", help="to candidates, as named in the table; by default all")
    parser.add_argument("--bfloat16", action="store_true", help="compute token embeddings in bfloat16")
    asked = parser.parse_args()
    known = ways()
    if not {*(asked.way or ())} <= {*known, HITS}:
        parser.error(f"--way is one of {', '.join([*known, HITS])}")
    dataset = BeirDataset.read(asked.folder, "test")
    judged = JudgedTokens.embedded(dataset, asked.model, asked.out / "embeddings", bfloat16=asked.bfloat16)
    documents = judged.documents
    queries = judged.queries[:: -(-len(judged.queries) // QUERIES)]
    scores = chamfer(queries, documents, threads=asked.threads)
    exact = np.argsort(-scores, axis=1, kind="stable")[:, : max(TOPS)]
    title = f"{dataset.name}: {len(documents):,} documents, {len(documents.vectors):,} vectors, {len(queries)} queries"
    title += ", in bfloat16" if asked.bfloat16 else ""
    columns = [f"top {top} in {depth}" for top in TOPS for depth in SHOWN if depth >= top]
    figures = Figures(title, ["candidates by", f"needed for {GOAL} of top 10", *columns])
    curves = {}

    def measured(name: str, found: np.ndarray) -> None:
        recalls = {top: [float((found[:, :top] < depth).mean()) for depth in DEPTHS] for top in TOPS}
        curves[name] = recalls
        enough = np.interp(GOAL, recalls[10], np.log(DEPTHS)) if max(recalls[10]) >= GOAL else np.inf
        needed = float(np.exp(enough)) if recalls[10][0] < GOAL else float(DEPTHS[0])
        row = [recalls[top][DEPTHS.index(depth)] for top in TOPS for depth in SHOWN if depth >= top]
        figures.add(name, needed, *row)

    for name, recipe in known.items():
        if asked.way is not None and name not in asked.way:
            continue
        index = MultiVectorIndex.build(documents, recipe, threads=asked.threads)
        nprobe = index.stats()["nlist"] if "centroid" not in name else 8
        measured(name, places(index.find_candidates(queries, max(DEPTHS), nprobe=nprobe), exact))
    if asked.way is None or HITS in asked.way:
        measured(HITS, hit_places(queries, documents, exact, asked.threads))
    line = machine_line(annvq=annvq.__version__)
    figures.show(line, ["--json", str(asked.json)] if asked.json else [])
    if asked.way is not None:
        return
    few = documents[: min(2000, len(documents))]
    sweeps = {
        "repetitions": [{"repetitions": r} for r in (2, 5, 10, 20, 40)],
        "simhash_bits": [{"simhash_bits": b} for b in (1, 2, 3, 4, 5, 6)],
        "projection_dim": [{"projection_dim": p} for p in (2, 4, 8, 16, 32)],
    }
    errors = {
        what: [(next(iter(p.values())), correlation(queries, few, scores[:, : len(few)], **p)) for p in points]
        for what, points in sweeps.items()
    }
    table = Figures(f"{dataset.name}: correlation with Chamfer similarity", ["parameter", "value", "correlation"])
    for what, points in errors.items():
        for value, found_correlation in points:
            table.add(what, value, found_correlation)
    table.show(line, [])
    draw(curves, errors, title, asked.out / f"{dataset.name}-candidates.png")


def draw(curves: dict, errors: dict, title: str, target: Path) -> None:
    """Draw recall against candidates, and correlation against each parameter."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(2, 3, figsize=(15, 9))
    for axis, top in zip(axes[0], TOPS, strict=True):
        for name, recalls in curves.items():
            axis.semilogx(DEPTHS, recalls[top], "o-", label=name, markersize=3)
        axis.set(xlabel="candidates", ylabel=f"share of the exact top {top} among them", title=f"top {top}")
        axis.grid(alpha=0.3)
    axes[0][0].legend(fontsize=7)
    for axis, (what, points) in zip(axes[1], errors.items(), strict=True):
        axis.plot(*zip(*points, strict=True), "o-")
        axis.set(xlabel=what, ylabel="correlation with Chamfer similarity")
        axis.grid(alpha=0.3)
    figure.suptitle(title)
    figure.tight_layout()
    figure.savefig(target, dpi=120)
    print(f"picture: {target}")


if __name__ == "__main__":
    main()
