"""Smaller codebooks made by clustering the codes of a large one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from annvq.arguments import as_count
from annvq.codebooks import KMeans
from annvq.errors import ParameterError
from annvq.kernels.clusters.assign import assign
from annvq.learn.runtime import torch
from annvq.tokenizers.quantizers.frozen import KMeansTokenizer
from annvq.tokenizers.quantizers.sim import SimVQ
from annvq.tokenizers.quantizers.vector import VectorQuantizer
from annvq.tokenizers.tokenizer import array_of_table

if TYPE_CHECKING:
    from torch import Tensor

_SEEDED = 4096  # codes: with more, choosing a start far apart takes longer than all iterations


@dataclass(frozen=True)
class Shrunk:
    """A codebook of fewer codes.

    Parameters
    ----------
    quantizer
        A quantizer with the new codes, to be used or fine-tuned.
    mapping
        (k,) int64: the new code of each old one, so that ``mapping[codes]`` are tokens at the lower rate.

    """

    quantizer: VectorQuantizer
    mapping: Tensor


def shrink_codebook(
    quantizer: VectorQuantizer | SimVQ | KMeansTokenizer,
    codebook_size: int,
    *,
    counts: Any = None,
    niter: int = 25,
    seed: int = 0,
) -> Shrunk:
    """Cluster the codes of a trained quantizer (Mao et al. 2023, "Extreme Image Compression using Fine-tuned VQGANs").

    This is k-means over the codes, then, with ``counts``, weighted by their use.

    Parameters
    ----------
    quantizer
        A quantizer with one codebook of k codes.
    codebook_size
        Number of codes of the new one, at most k.
    counts
        (k,) how often each code is used, at least 0; codes with 0 are ignored. None: all count equally.
    niter, seed
        Iterations and seed of the clustering.

    Raises
    ------
    ParameterError
        The quantizer is of another kind, or fewer codes are in use than the new codebook has.

    """
    if not isinstance(quantizer, VectorQuantizer | SimVQ | KMeansTokenizer):
        kind = type(quantizer).__name__
        raise ParameterError(f"{kind}: expected a VectorQuantizer, a SimVQ or a KMeansTokenizer")
    is_vector = isinstance(quantizer, VectorQuantizer)
    codes = array_of_table(quantizer.codes_table()) if is_vector else quantizer.to_codebook().centroids
    size = as_count("codebook_size", codebook_size, most=len(codes))
    weights = _weights(counts, len(codes))
    used = weights > 0
    if used.sum() < size:
        raise ParameterError(f"only {int(used.sum())} codes are used, fewer than the {size} asked for")
    centroids = _clusters(codes[used], weights[used], size, niter, seed)
    made = _like(quantizer, size)
    made.set_codes(centroids)
    labels, _ = assign(codes, centroids, metric="l2", threads=torch.get_num_threads())
    return Shrunk(made, torch.from_numpy(labels).long().to(made.codebook.device))


def _weights(counts: Any, size: int) -> np.ndarray:
    if counts is None:
        return np.ones(size)
    given = counts.detach().cpu() if isinstance(counts, torch.Tensor) else counts
    try:
        weights = np.asarray(given, np.float64)
    except (TypeError, ValueError) as error:
        raise ParameterError(f"counts must be {size} finite numbers of at least 0: {error}") from None
    if weights.shape != (size,) or not np.isfinite(weights).all() or (weights < 0).any():
        raise ParameterError(f"counts must be {size} finite numbers of at least 0, not of shape {weights.shape}")
    return weights


def _clusters(codes: np.ndarray, weights: np.ndarray, size: int, niter: int, seed: int) -> np.ndarray:
    threads = torch.get_num_threads()
    init = "k-means++" if size <= _SEEDED else "random"
    start = KMeans.train(codes, size, niter=niter, init=init, seed=seed, sample=len(codes), threads=threads)
    centroids = start.centroids
    if (weights == weights[0]).all():
        return centroids
    for _ in range(niter):
        labels, _ = assign(codes, centroids, metric="l2", threads=threads)
        totals = np.bincount(labels, weights=weights, minlength=size)
        sums = np.zeros(centroids.shape)
        np.add.at(sums, labels, codes * weights[:, None])
        means = np.where((totals > 0)[:, None], sums / np.maximum(totals, 1e-300)[:, None], centroids)
        if np.array_equal(means.astype(np.float32), centroids):
            break
        centroids = means.astype(np.float32)
    return centroids


def _like(quantizer: VectorQuantizer | SimVQ | KMeansTokenizer, size: int) -> VectorQuantizer:
    """Return a quantizer of this many codes, with the same projection and way of learning."""
    if not isinstance(quantizer, VectorQuantizer):
        return VectorQuantizer(quantizer.dim, size)
    made = VectorQuantizer(quantizer.dim, size, quantizer.learning, code_dim=quantizer.projection.code_dim)
    made.projection.load_state_dict(quantizer.projection.state_dict())
    return made.to(quantizer.codebook.device).train(quantizer.training)
