"""Measure how many candidates multi-vector search needs, and what the encoding's parameters do.

Token embeddings of a data set in BEIR's layout; exact are the documents of largest Chamfer similarity. Prints, for
every way to candidates, the recall of exact top 1, 10 and 100 among 10 to 2,000 candidates, and how many candidates
reach 0.95 of the top 10; then correlation of the encoding's inner products with Chamfer similarity by each parameter.
Queries are those of the test split, at most 200, evenly spaced. Writes two pictures beside the JSON. Needs the extras
text and plot.

    python bench/multivector.py DIR --model MODEL [--json FILE] [--out FOLDER]
"""

import argparse
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
from figures import Figures, machine_line

import annvq
from annvq.bench.multivector import JudgedTokens
from annvq.evaluation import BeirDataset
from annvq.multivector import FixedDimensionalEncoder, MultiVectorIndex, Ragged, chamfer
from annvq.multivector.recipe import load

QUERIES, DEPTHS, TOPS, GOAL = 200, (10, 20, 50, 100, 200, 500, 1000, 2000), (1, 10, 100), 0.95
SHOWN = (20, 100, 500)  # in the table; the picture has all
ENCODERS = {"10,240 numbers": {}, "sketched to 2,048": {"final_dim": 2048}, "5,120": {"repetitions": 10}}


def ways(documents: Ragged, threads: int) -> Iterator[tuple[str, MultiVectorIndex]]:
    """Yield an index for every way to candidates."""
    plain = load("chamfer-exact")
    flat, made = plain.index, {}
    for name, changes in ENCODERS.items():
        encoder = replace(load("muvera").encoder, **changes)
        made[f"encoding, {name}"] = replace(plain, candidates_by="encoding", encoder=encoder, index=flat)
    made["mean vector"] = replace(plain, candidates_by="encoding")
    made["muvera (product codes)"] = load("muvera")
    made["muvera-4bit"] = load("muvera-4bit")
    made["single vectors"] = replace(load("single-vector-heuristic"), candidates_by="tokens", tokens=plain.tokens)
    made["single vectors, distinct"] = replace(load("single-vector-heuristic"), tokens=plain.tokens)
    made["centroid interaction"] = load("centroid-interaction")
    for name, recipe in made.items():
        yield name, MultiVectorIndex.build(documents, recipe, threads=threads)


def places(found: list[np.ndarray], exact: np.ndarray) -> np.ndarray:
    """Return each exact document's place among the candidates (nq, k), a large number where it is none."""
    out = np.full(exact.shape, 1 << 30)
    for q, ids in enumerate(found):
        where = {int(name): place for place, name in enumerate(ids)}
        out[q] = [where.get(int(name), 1 << 30) for name in exact[q]]
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
    asked = parser.parse_args()
    dataset = BeirDataset.load(asked.folder, "test")
    judged = JudgedTokens.embedded(dataset, asked.model, asked.out / "embeddings", shown=True)
    documents = judged.documents
    queries = judged.queries[:: -(-len(judged.queries) // QUERIES)]
    scores = chamfer(queries, documents, threads=asked.threads)
    exact = np.argsort(-scores, axis=1, kind="stable")[:, : max(TOPS)]
    title = f"{dataset.name}: {len(documents):,} documents, {len(documents.vectors):,} vectors, {len(queries)} queries"
    columns = [f"top {top} in {depth}" for top in TOPS for depth in SHOWN if depth >= top]
    figures = Figures(title, ["candidates by", f"needed for {GOAL} of top 10", *columns])
    curves = {}
    for name, index in ways(documents, asked.threads):
        most = max(DEPTHS)
        if name == "single vectors":  # hits count, and several may be of one document: each depth is its own search
            at = {depth: places(index.find_candidates(queries, depth), exact) < depth for depth in DEPTHS}
        else:
            nprobe = index.stats()["nlist"] if "centroid" not in name else 8
            found = places(index.find_candidates(queries, most, nprobe=nprobe), exact)
            at = {depth: found < depth for depth in DEPTHS}
        recalls = {top: [float(at[depth][:, :top].mean()) for depth in DEPTHS] for top in TOPS}
        curves[name] = recalls
        enough = np.interp(GOAL, recalls[10], np.log(DEPTHS)) if max(recalls[10]) >= GOAL else np.inf
        needed = float(np.exp(enough)) if recalls[10][0] < GOAL else float(DEPTHS[0])
        row = [recalls[top][DEPTHS.index(depth)] for top in TOPS for depth in SHOWN if depth >= top]
        figures.add(name, needed, *row)
    line = machine_line(annvq=annvq.__version__)
    figures.show(line, ["--json", str(asked.json)] if asked.json else [])
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
