"""Training an index's shared parts on a sample of its vectors."""

from __future__ import annotations

import numpy as np

from annvq.codebooks import KMeans, ProductCodebook, Rotation, ScalarCodebook
from annvq.codebooks.rotation import OPQ_ITERATIONS, ByteRotation
from annvq.errors import ParameterError, RecipeError
from annvq.index.codes.kinds import KINDS
from annvq.index.codes.tablecodes import CODEBOOK_ROWS
from annvq.index.recipe import Recipe
from annvq.index.trained import Trained
from annvq.index.values import settled
from annvq.progress import Progress

_PER_LIST = 64  # training vectors per centroid: more cost time and gain little (Faiss: 39 to 256)
_LEAST = 1 << 15
_ITERATIONS, _FEWER = 10, 6  # of k-means for lists, and for many lists, which take long to learn
_MANY_TO_LEARN = 256  # with four iterations more, searches of 8 of 490 lists, or of more, find 0.001 more
_ROWS_LOOKED_AT = 4096
_MOST_LOST = 0.01  # share of the variance that rounding to float16 may lose
_MANY_LISTS = 768  # from here on scanning their centroids' codes takes less time than scoring them all


def sample_size(recipe: Recipe, n: int | None) -> int:
    """Return how many vectors training wants of ``n`` (None: unknown)."""
    nlist = recipe.nlist if isinstance(recipe.nlist, int) else 0
    wanted = max(_LEAST, _PER_LIST * nlist)
    return wanted if n is None else min(wanted, n)


def train(
    recipe: Recipe,
    sample: np.ndarray,
    metric: str,
    *,
    seed: int,
    threads: int,
    report: Progress | None = None,
    zero: str = "error",
    integers: np.dtype | None = None,
) -> Trained:
    """Learn rotation, centroids and codebooks.

    Parameters
    ----------
    recipe
        Resolved.
    sample
        (n, d) float32, of unit norm if the metric is cosine, of 0 and 1 if it is hamming.
    metric
        "ip", "l2", "cosine" or "hamming".
    seed, threads
        The result depends on the seed and not on the threads.
    report
        Told what is being learned.
    zero
        What the index makes of zero vectors, see `Trained`.
    integers
        int8 or uint8 if the vectors are such numbers, which 8-bit scalars then keep without loss; else None.

    """
    report = report or Progress()
    dim = sample.shape[1]
    if len(sample) == 0 and _needs_training(recipe):
        raise ParameterError(f"recipe {recipe.name!r} learns from vectors and got none: give some, or use 'flat'")
    asked = recipe.codebook
    if "fp16" in (recipe.refine, asked.kind) or (asked.kind, asked.nbits) == ("graph", 16):
        _check_float16(sample[:_ROWS_LOOKED_AT])
    rotation = _rotation(recipe, sample, metric, seed, threads, report)
    if isinstance(recipe.dims, float):
        assert rotation is not None
        recipe = recipe.settle_dims(min(dim, rotation.dim_out))
    whole = None if integers is None or metric == "cosine" else integers
    mean = None
    if recipe.refine is not None and metric != "hamming":
        mean = sample.mean(axis=0, dtype=np.float64).astype(np.float32) if whole is None else np.zeros(dim, np.float32)
    rotated = _rotated(rotation, sample, mean, threads)
    center = None
    spec, kind = recipe.codebook, KINDS[recipe.codebook.kind]
    if metric == "l2" and kind.is_centered(spec):
        is_mean = rotated is sample and whole is None and mean is not None
        center = mean if is_mean else rotated.mean(axis=0, dtype=np.float64).astype(np.float32)
        rotated = rotated - center
    centroids = None
    if recipe.nlist is not None:
        nlist = settled(recipe.nlist)
        niter = _FEWER if nlist >= _MANY_TO_LEARN else _ITERATIONS
        report.begin(f"training {nlist:,} lists", niter)
        centroids = KMeans.train(rotated, nlist, niter=niter, seed=seed, threads=threads, progress=report.at).centroids
    elif kind.needs_centre:
        centroids = rotated.mean(axis=0, keepdims=True, dtype=np.float64).astype(np.float32)
    report.begin("training codes")
    if whole is not None and spec.kind == "sq8" and recipe.rotation in (None, "truncate"):
        codebook = ScalarCodebook.of_integers(whole, rotated.shape[1])
    else:
        codebook = kind.train(spec, rotated, centroids, metric, seed=seed, threads=threads)
    coarse = None
    if centroids is not None and len(centroids) >= _MANY_LISTS:
        M = -(-centroids.shape[1] // 2)
        coarse = ProductCodebook.train(centroids, M=M, nbits=4, seed=seed, threads=threads)
    refine = None
    if recipe.refine == "sq8":
        refine = ScalarCodebook.train(sample) if whole is None else ScalarCodebook.of_integers(whole, dim)
    return Trained(recipe, metric, dim, rotation, centroids, codebook, refine, coarse, center, zero=zero, mean=mean)


def _check_float16(sample: np.ndarray) -> None:
    """Raise RecipeError if float16 rounds away what distinguishes vectors (n, d) from each other."""
    with np.errstate(over="ignore", invalid="ignore"):  # what is too large is found when it is coded
        lost = np.square(sample - sample.astype(np.float16), dtype=np.float64).sum(axis=1)
    spread = sample.var(axis=0, dtype=np.float64).sum() if len(sample) else 0.0
    if spread > 0 and np.isfinite(lost).all() and lost.mean() > _MOST_LOST * spread:
        share = min(100, 100 * lost.mean() / spread)
        raise RecipeError(
            f"float16 would lose {share:.0f} % of what tells these vectors apart: they are too small or too far "
            "from zero; scale or shift them, or use refine 'lvq8x8' or 'fp32' ('fast', 'exact-refine')"
        )


def _rotated(rotation: Rotation | None, sample: np.ndarray, mean: np.ndarray | None, threads: int) -> np.ndarray:
    """Return a sample as `Trained.encode` rotates vectors: in bytes if a refine store has the last word."""
    if rotation is None:
        return sample
    if mean is None:
        return rotation.apply(sample, threads=threads)
    return ByteRotation(rotation, mean).apply(sample, threads)


def _needs_training(recipe: Recipe) -> bool:
    learns = KINDS[recipe.codebook.kind].codebook is not None
    return learns or recipe.nlist is not None or recipe.refine == "sq8"


def _rotation(
    recipe: Recipe, sample: np.ndarray, metric: str, seed: int, threads: int, report: Progress
) -> Rotation | None:
    spec = recipe.codebook
    if recipe.rotation == "pca":
        assert recipe.dims is not None
        report.begin("training a projection")
        dsub = int(spec.M.removeprefix("d/")) if isinstance(spec.M, str) else -(-int(recipe.dims) // settled(spec.M))
        return Rotation.pca(sample[:CODEBOOK_ROWS], recipe.dims, dsub=dsub, keep_mean=metric != "l2", seed=seed)
    if recipe.rotation == "truncate":
        return Rotation.truncation(sample.shape[1], int(recipe.dims or 0))
    if recipe.rotation == "opq":
        report.begin("training a rotation", OPQ_ITERATIONS)
        return Rotation.opq(
            sample[:CODEBOOK_ROWS], settled(spec.M), nbits=settled(spec.nbits), seed=seed, threads=threads,
            progress=report.at,
        )  # fmt: skip
    if recipe.rotation == "random" and not KINDS[spec.kind].rotates_itself:
        return Rotation.random(sample.shape[1], seed)
    return None
