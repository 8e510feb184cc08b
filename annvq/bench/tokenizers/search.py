"""Nearest images by their codes alone, compared with the nearest images in latent space."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from annvq.errors import ParameterError
from annvq.evaluation import exact_neighbors
from annvq.learn.runtime import torch
from annvq.tokenizers import to_index

if TYPE_CHECKING:
    from torch import Tensor

    from annvq.tokenizers import Tokenizer

K = 10
QUERIES = 1000


@dataclass(frozen=True)
class SearchFigures:
    """How many of the 10 nearest in latent space (L2, exact) a search by codes finds.

    Parameters
    ----------
    recall_codes
        Recall if queries, too, are given by their codes alone.
    recall_latents
        Recall if queries are vectors that were never quantized.
    bytes_per_image, latent_bytes
        Bytes of the index's codes, and of the vectors as float32.
    images, queries
        The number of each.

    """

    recall_codes: float
    recall_latents: float
    bytes_per_image: float
    latent_bytes: int
    images: int
    queries: int

    def row(self) -> dict[str, Any]:
        """Return the figures for JSON."""
        return asdict(self)


@torch.no_grad()
def measure_search(tokenizer: Tokenizer, items: Tensor, queries: Tensor) -> SearchFigures | None:
    """Measure, or return None if the tokenizer's codes cannot be scanned.

    Parameters
    ----------
    tokenizer
        A tokenizer in eval mode.
    items, queries
        Vectors (n, ..., dim) and (nq, ..., dim), of which the first 1,000 queries are taken.

    """
    queries = queries[:QUERIES]
    codes = _encoded(tokenizer, items)
    try:
        index = to_index(tokenizer, codes, "l2")
    except ParameterError:  # more than 256 codes per codebook, or tables that are too large
        return None
    latents, asked = items.flatten(1).numpy(), queries.flatten(1).numpy()
    nearest = exact_neighbors(latents, asked, K, "l2")[0]
    decoded = tokenizer.decode(_encoded(tokenizer, queries)).flatten(1).numpy()
    threads = torch.get_num_threads()
    found = [index.search(vectors, k=K, threads=threads).ids for vectors in (decoded, asked)]
    shared = [np.mean([len(np.intersect1d(*pair)) for pair in zip(nearest, ids)]) / K for ids in found]
    return SearchFigures(
        recall_codes=float(shared[0]),
        recall_latents=float(shared[1]),
        bytes_per_image=float(index.stats()["bytes_per_vector"]),
        latent_bytes=latents.shape[1] * 4,
        images=len(latents),
        queries=len(asked),
    )


def _encoded(tokenizer: Tokenizer, vectors: Tensor) -> Tensor:
    return torch.cat([tokenizer.encode(part) for part in vectors.split(1000)])
