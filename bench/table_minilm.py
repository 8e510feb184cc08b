"""Compress a text encoder's word embeddings and measure its retrieval with the compressed table in place.

The methods are all that can be made from a trained table, at several ratios of the word embeddings' bytes. The
measure is nDCG@10 of exact search, for which documents and queries are embedded again. With --distill-steps, the
compressed table is then trained on the documents of every --text, without labels and queries, to give the same
sentence vectors as the original encoder; nothing else in the encoder moves. Frequencies are those of the words in
these texts; without texts, all rows count alike. Finished rows are kept in the JSON file and are not measured again.
To save time, --words cuts documents, and --bfloat16 lets all encoders multiply in that precision, for which some CPUs
have instructions. The script needs the extras text and train.

    python bench/table_minilm.py DIR --model MODEL --json FILE [--method M ...] [--ratio R ...]
        [--text DIR ...] [--distill-steps N] [--words N] [--bfloat16] [--split test]
"""

from __future__ import annotations

import argparse
import copy
import json
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import torch
from figures import Figures, machine_line
from sentence_transformers.util import batch_to_device
from torch.nn.attention import SDPBackend, sdpa_kernel

from annvq import tables
from annvq.bench.machine import describe
from annvq.errors import BudgetError
from annvq.evaluation import BeirDataset, exact_neighbors, run_from_ids
from annvq.evaluation.embeddings import encode, load_model
from annvq.evaluation.ranking import ndcg
from annvq.tables.models.compression import tables_of
from annvq.tables.models.recommendation import QUICK

RATIOS = (4.0, 10.0, 20.0, 50.0)
BATCH, WORDS, RATE, TEMPERATURE, LEAST = 32, 32, 1e-3, 0.05, 1 << 20
KEY = ("method", "ratio", "distill_steps", "words", "bfloat16", "text")


def quality(model: Any, dataset: BeirDataset, words: int | None, bfloat16: bool) -> float:
    """Return nDCG@10 of exact search with an encoder, with documents cut to ``words`` words."""
    with precision(model, bfloat16):
        documents = encode(model, [" ".join(text.split()[:words]) for text in dataset.documents.values()], "document")
        queries = encode(model, list(dataset.queries.values()), "query")
    ids = np.array(list(dataset.documents))
    rows, _ = exact_neighbors(documents, queries, 10)
    return ndcg(dataset.qrels, run_from_ids(list(dataset.queries), ids[rows]), 10)


def frequencies_of(model: Any, texts: list[str], rows: int) -> np.ndarray:
    """Return how often every token occurs in texts."""
    counts = np.zeros(rows, np.int64)
    for start in range(0, len(texts), 256):
        ids = model.tokenize(texts[start : start + 256])
        kept = ids["input_ids"][ids["attention_mask"].bool()].numpy()
        counts += np.bincount(kept, minlength=rows)
    return counts


def precision(model: Any, bfloat16: bool) -> AbstractContextManager[Any]:
    """Return the context that encoders run in."""
    return torch.autocast(model.device.type, torch.bfloat16) if bfloat16 else nullcontext()


def distill(model: Any, teacher: Any, texts: list[str], steps: int, bfloat16: bool) -> None:
    """Train an encoder's table to give another's vectors: 1 - cosine, and cross-entropy of similarities to all texts.

    Adam is used, with a learning rate that falls to zero.
    """
    (table,) = (module for module in model.modules() if isinstance(module, tables.Table))
    parameters = [p for p in table.parameters() if p.requires_grad]
    if not parameters:
        return
    texts = [" ".join(text.split()[:WORDS]) for text in texts]
    with precision(teacher, bfloat16):
        targets = torch.from_numpy(encode(teacher, texts, "document")).to(model.device)
    optimizer = torch.optim.Adam(parameters, lr=RATE)
    rng = np.random.default_rng(0)
    for parameter in model.parameters():
        parameter.requires_grad_(any(parameter is own for own in parameters))
    table.train(True)  # and nothing else: the teacher has no dropout
    for step in range(steps):
        chosen = rng.integers(0, len(texts), BATCH)
        features = batch_to_device(model.tokenize([texts[i] for i in chosen]), model.device)
        # of torch's kinds of attention, the plain one has the fastest gradient on CPUs
        with precision(model, bfloat16), sdpa_kernel(SDPBackend.MATH):
            found = model(dict(features))["sentence_embedding"].float()
        found = torch.nn.functional.normalize(found, dim=1)
        lists = torch.log_softmax(found @ targets.T / TEMPERATURE, 1)
        wanted = torch.softmax(targets[chosen] @ targets.T / TEMPERATURE, 1)
        loss = (1 - (found * targets[chosen]).sum(1)).mean() - (wanted * lists).sum(1).mean()
        loss = loss + table.penalty()
        optimizer.zero_grad()
        loss.backward()
        optimizer.param_groups[0]["lr"] = RATE * (1 - step / steps)
        optimizer.step()
        table.step_end()


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--model", required=True)
    parser.add_argument("--json", type=Path, required=True)
    parser.add_argument("--method", action="append")
    parser.add_argument("--ratio", action="append", type=float)
    parser.add_argument("--text", type=Path, action="append", default=[])
    parser.add_argument("--distill-steps", type=int, default=0)
    parser.add_argument("--words", type=int)
    parser.add_argument("--bfloat16", action="store_true")
    parser.add_argument("--split", default="test")
    asked = parser.parse_args()
    if asked.distill_steps and not asked.text:
        parser.error("--distill-steps needs --text: what is learned from")
    dataset = BeirDataset.read(asked.folder, asked.split)
    teacher = load_model(asked.model).eval()
    (name,) = tables_of(teacher, LEAST)
    words = teacher.get_submodule(name)
    texts, counts = [], None
    for folder in asked.text:
        texts += BeirDataset.read(folder, asked.split).documents.values()
    if texts:
        counts = frequencies_of(teacher, texts, words.num_embeddings)
    done = json.loads(asked.json.read_text())["rows"] if asked.json.exists() else []
    known = {tuple(row.get(name, False) for name in KEY): row for row in done}
    steps = asked.distill_steps
    figures = Figures(
        f"{dataset.name}: nDCG@10 with the {words.num_embeddings:,} x {words.embedding_dim} word embeddings compressed"
        + (f", {steps} steps of distillation" if steps else "")
        + (f", documents of at most {asked.words} words" if asked.words else "")
        + (", in bfloat16" if asked.bfloat16 else ""),
        ["method", "ratio", "bytes", "nDCG@10", "lost"],
    )

    def measured(method: str, ratio: float) -> dict[str, Any] | None:
        """Return a row, read from the file or measured now; None if the method cannot meet the ratio."""
        text = "" if method == "uncompressed" else " ".join(folder.resolve().name for folder in asked.text)
        key = (method, ratio, 0 if method == "uncompressed" else steps, asked.words, asked.bfloat16, text)
        if key not in known:
            model, size = teacher, 4 * words.weight.numel()
            if method != "uncompressed":
                model = copy.deepcopy(teacher)
                by_name = None if counts is None else {name: counts}
                try:
                    model = tables.compress(model, method, ratio=ratio, frequencies=by_name, min_bytes=LEAST)
                except BudgetError:
                    return None
                if steps:
                    distill(model, teacher, texts, steps, asked.bfloat16)
                size = model.get_submodule(name).nbytes
            found = quality(model.eval(), dataset, asked.words, asked.bfloat16)
            known[key] = {**dict(zip(KEY, key)), "bytes": size, "ndcg@10": found}
            result = {"name": dataset.name, "machine": describe(), "rows": list(known.values())}
            asked.json.write_text(json.dumps(result, indent=1))
        return known[key]

    full = measured("uncompressed", 1.0)
    assert full is not None
    figures.add("uncompressed", 1.0, full["bytes"], full["ndcg@10"], 0.0)
    for method in asked.method or QUICK:
        for ratio in asked.ratio or RATIOS:
            row = measured(method, ratio)
            if row is not None:
                figures.add(method, ratio, row["bytes"], row["ndcg@10"], full["ndcg@10"] - row["ndcg@10"])
    figures.show(machine_line(torch=torch.__version__), [])


if __name__ == "__main__":
    main()
