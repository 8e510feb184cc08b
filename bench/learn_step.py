"""Measure where a training step's time goes: encoder, live search, scores, gradients.

The configuration is JPQ's (32 queries, the live index's best 200), on a judged collection, with the encoder of queries
trained. The script needs the extra bench.

    python bench/learn_step.py DIR --model MODEL [--bytes 48] [--steps 20] [--out DIR] [--json FILE]
"""

import argparse
import itertools
import time
from pathlib import Path

import numpy as np
import torch
from figures import Figures, machine_line

import annvq
from annvq.learn import JPQ, QuerySet, Relevance, Start
from annvq.learn.collection import LearningCollection
from annvq.learn.parts import encoder as encoders
from annvq.learn.training.trainer import Run


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--model", required=True)
    parser.add_argument("--bytes", type=int, default=48)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--out", type=Path, default=Path("bench-out"))
    parser.add_argument("--json")
    asked = parser.parse_args()
    collection = LearningCollection.read(asked.folder, asked.model, asked.out / "embeddings")
    documents = np.asarray(collection.documents.vectors)
    index = annvq.build(documents, f"OPQ{asked.bytes},PQ{asked.bytes}", metric="ip")
    threads = torch.get_num_threads()
    start = Start.of(index, documents, encoder=encoders.load(asked.model), threads=threads)
    pairs = Relevance.of(collection.train_pairs, len(collection.train.texts), len(documents))
    queries = QuerySet(np.asarray(collection.train.vectors), tuple(collection.train.texts), pairs)
    (how,) = JPQ().trainers(frozenset({"codebook", "query_encoder"}))
    run = Run(how, start, queries, queries.part(np.arange(20)), threads)
    run.student.train()
    spent: dict[str, float] = {}
    for step in range(-3, asked.steps):  # three to warm up
        rows = run._rows(step + 3)
        marks = [("", time.perf_counter())]

        def mark(name: str, marks: list = marks) -> None:
            marks.append((name, time.perf_counter()))

        vectors = run._query_vectors(rows)
        mark("encoder, forward")
        run.live.update(run.student.to_trained())
        mark("tables of the live index")
        run.live.search(vectors.detach().numpy(), 200, threads)
        mark("live search, 200 of all documents")
        batch = run.batch(rows, np.random.default_rng(step + 3))
        mark("all of the batch: the three above, gathering, scores")
        loss = sum(weight * objective(batch) for weight, objective in how.objectives)
        mark("loss")
        loss.backward()
        mark("gradients")
        if step >= 0:
            for (_, before), (name, after) in itertools.pairwise(marks):
                spent[name] = spent.get(name, 0.0) + after - before
    figures = Figures(
        f"{collection.name}: a JPQ step of {how.batch} queries, {asked.bytes} bytes per vector, {threads} threads",
        ["part", "ms per step"],
    )
    for name, seconds in spent.items():
        figures.add(name, 1000 * seconds / asked.steps)
    figures.show(
        machine_line(annvq=annvq.__version__, torch=torch.__version__), ["--json", asked.json] if asked.json else []
    )


if __name__ == "__main__":
    main()
