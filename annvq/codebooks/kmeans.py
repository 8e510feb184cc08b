"""k-means, which makes the coarse lists of an index and the stages of a residual codebook."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from annvq.arguments import as_choice, as_count, as_flag, as_function, as_weight
from annvq.arrays import offsets_of
from annvq.codebooks.accelerator import Points, in_place_of_cpu
from annvq.codebooks.arrays import (
    LONGEST,
    TRAINED_ON,
    as_niter,
    as_short_rows,
    finite,
    frozen,
    generator,
    part,
    stored_array,
    stored_setting,
    training_rows,
    workers,
)
from annvq.codebooks.seeding import INITS, seed_centroids
from annvq.errors import CorruptIndexError, ParameterError
from annvq.kernels import threads as pool
from annvq.kernels.clusters.assign import assign, assign_many, assign_to, sites
from annvq.kernels.clusters.lloyd import fill_squared_norms, sum_members
from annvq.kernels.clusters.propose import byte_sites, labels_of
from annvq.kernels.registers.tiles import readonly
from annvq.metrics import CODE_METRICS
from annvq.vectors import check_lengths

ITERATIONS = 10  # at most, by default
_FADE = 0.8  # of the penalties that even lists out, from one iteration to the next
_SPLIT = 1.0 / 1024  # how far towards a member the second centroid of a split cluster starts


@dataclass(frozen=True, eq=False)
class KMeans:
    """Centroids and the metric by which vectors are assigned to them.

    Parameters
    ----------
    centroids
        (k, d) float32.
    metric
        ``"l2"`` or ``"ip"``.

    Raises
    ------
    ShapeError, DtypeError, NonFiniteError, ParameterError
        In the constructor and all methods: the arrays, vectors or arguments given do not fit or are outside their
        range.

    Examples
    --------
    >>> vectors = np.random.default_rng(0).normal(size=(1000, 32))
    >>> lists = annvq.codebooks.KMeans.train(vectors, 16)
    >>> labels, scores = lists.assign(vectors)
    >>> labels.shape, lists.centroids.shape
    ((1000,), (16, 32))

    """

    centroids: np.ndarray
    metric: str = "l2"

    def __post_init__(self) -> None:
        object.__setattr__(self, "centroids", part("centroids", self.centroids, 2))
        object.__setattr__(self, "metric", as_choice("metric", self.metric, CODE_METRICS))

    @classmethod
    def train(
        cls,
        vectors: Any,
        k: int,
        *,
        metric: str = "l2",
        niter: int = ITERATIONS,
        init: str = "random",
        spherical: bool | None = None,
        balance: float = 0.0,
        sample: int | None = None,
        seed: int = 0,
        threads: int | None = None,
        progress: Callable[[int], object] | None = None,
    ) -> KMeans:
        """Train centroids with Lloyd's algorithm.

        Parameters
        ----------
        vectors
            (n, d), n >= k.
        k
            Number of centroids. There may be fewer distinct vectors.
        metric
            How a vector is assigned: by the smallest squared distance or the largest inner product.
        niter
            The maximum number of iterations; training ends earlier when no vector changes its centroid.
        init
            ``"random"`` starts from k of the vectors; ``"k-means++"`` from vectors that are far from each other (Arthur
            and Vassilvitskii 2007), which is better if clusters are clear, and takes k passes over 32 k vectors.
        spherical
            Whether centroids are scaled to unit norm. None: only with "ip", under which means of different norm would
            compete unequally (Faiss does the same).
        balance
            0 to 1. Larger clusters get a penalty, and so lose vectors at their border: each iteration
            keeps 0.8 of it and adds ``balance * e / 20 * log(size * k / n)``, where e is the mean squared
            distance and the logarithm is clipped at 1. Values above 1 would overshoot.
        sample
            The number of vectors to train on, drawn at random. None: 256 k.
        seed
            The seed of the sample, the start and the splits. The result depends on nothing else but the vectors.
        threads
            None for all CPUs.
        progress
            A function that is called with the number of iterations done.

        Raises
        ------
        ParameterError
            There are fewer vectors than centroids, or an argument is outside its range.

        """
        k, niter = as_count("k", k), as_niter(niter)
        metric, init = as_choice("metric", metric, CODE_METRICS), as_choice("init", init, INITS)
        count, rng = workers(threads), generator(seed)
        unit = metric == "ip" if spherical is None else as_flag("spherical", spherical)
        balance, progress = _share("balance", balance), as_function("progress", progress)
        rows = training_rows(vectors, 256 * k if sample is None else sample, rng, least=k)
        check_lengths(rows, TRAINED_ON, longest=LONGEST)
        centroids = _normalized(seed_centroids(rows, k, init, rng, count), unit)
        run = _Run(rows, metric, unit, balance, rng, count)
        return cls(frozen(run.improve(centroids, niter, progress)), metric)

    @property
    def k(self) -> int:
        """Number of centroids."""
        return self.centroids.shape[0]

    @property
    def dim(self) -> int:
        """Dimension of the vectors."""
        return self.centroids.shape[1]

    def assign(self, vectors: Any, n: int = 1, *, threads: int | None = None) -> tuple[np.ndarray, np.ndarray]:
        """Return the nearest centroids and their scores (inner product, or minus squared distance).

        Parameters
        ----------
        vectors
            (nv, d).
        n
            How many centroids per vector, 1 to k.
        threads
            None for all CPUs; the result does not depend on it.

        Returns
        -------
        labels, scores
            int32 and float32, (nv,) for n = 1, else (nv, n), ordered by descending score, then by ascending label.

        """
        n = as_count("n", n, most=self.k)
        rows, count = as_short_rows(vectors, self.dim), workers(threads)
        if n == 1:
            labels, scores = assign(rows, self.centroids, metric=self.metric, threads=count)
        else:
            labels, scores = assign_many(rows, self.centroids, metric=self.metric, n_best=n, threads=count)
        return labels, finite(scores, "scores")

    def config(self) -> dict[str, Any]:
        """Return the settings, which are all that is not an array."""
        return {"metric": self.metric}

    def arrays(self) -> dict[str, np.ndarray]:
        """Return the arrays by name."""
        return {"centroids": self.centroids}

    @classmethod
    def from_arrays(cls, config: dict[str, Any], arrays: dict[str, np.ndarray]) -> KMeans:
        """Build from `config` and `arrays`; CorruptIndexError if they do not fit."""
        metric = stored_setting(config, "metric")
        if not isinstance(metric, str) or metric not in CODE_METRICS:
            raise CorruptIndexError(f"k-means metric {metric!r} is none of {', '.join(CODE_METRICS)}")
        return cls(stored_array(arrays, "centroids", (None, None)), metric)


def _share(name: str, value: float) -> float:
    number = as_weight(name, value)
    if number > 1:
        raise ParameterError(f"{name} must be 0 to 1, not {value!r}")
    return number


def _normalized(centroids: np.ndarray, unit: bool) -> np.ndarray:
    if not unit:
        return centroids
    norms = np.sqrt(np.square(centroids, dtype=np.float64).sum(axis=1, keepdims=True))
    return (centroids / np.where(norms > 0, norms, 1)).astype(np.float32)


@dataclass
class _Run:
    """One run of Lloyd's algorithm on (n, d) rows."""

    rows: np.ndarray
    metric: str
    unit: bool
    balance: float
    rng: np.random.Generator
    threads: int

    @cached_property
    def norms(self) -> np.ndarray:
        """The squared norms of the rows, (n,) float64, which only penalties and empty clusters need."""
        norms = np.empty(len(self.rows))
        fill_squared_norms(readonly(self.rows), norms)
        return norms

    @cached_property
    def there(self) -> Points | None:
        """The rows where another device does the work, or None."""
        accelerator = in_place_of_cpu()
        return None if accelerator is None else accelerator.points(self.rows)

    def improve(self, centroids: np.ndarray, niter: int, progress: Callable[[int], object] | None = None) -> np.ndarray:
        """Return the centroids after at most ``niter`` iterations."""
        penalties = np.zeros(len(centroids))
        before = None
        for done in range(niter):
            if progress is not None:
                progress(done)
            labels = self._labels(centroids, penalties)
            if before is not None and np.array_equal(labels, before):
                break
            before = labels
            counts = np.bincount(labels, minlength=len(centroids))
            narrow = np.uint16 if len(centroids) <= 1 << 16 else np.int32  # 16 bits are sorted by bytes
            order, starts = np.argsort(labels.astype(narrow), kind="stable"), offsets_of(counts)
            sums = self._sums(order, starts)
            if self.balance or not counts.all():
                squares = np.bincount(labels, weights=self.norms, minlength=len(centroids))
                spreads = squares - np.square(sums).sum(axis=1) / np.maximum(counts, 1)
            else:
                spreads = np.empty(0)
            if self.balance:
                penalties = _FADE * penalties + self._penalties(counts, spreads)
            means = np.where((counts > 0)[:, None], sums / np.maximum(counts, 1)[:, None], centroids)
            centroids = means.astype(np.float32)
            self._split(centroids, counts, spreads, order, starts)
            centroids = _normalized(centroids, self.unit)
        return centroids

    def _labels(self, centroids: np.ndarray, penalties: np.ndarray) -> np.ndarray:
        if self.metric == "l2":
            prepared = byte_sites(centroids, penalties)
            return labels_of(self.rows, prepared, self.threads) if self.there is None else self.there.labels(prepared)
        return assign_to(self.rows, sites(centroids, self.metric, penalties), self.threads)[0]

    def _sums(self, order: np.ndarray, starts: np.ndarray) -> np.ndarray:
        """Return each cluster's sum of vectors, (k, d) float64."""
        if self.there is not None:
            return self.there.sums(order, starts)
        sums = np.empty((len(starts) - 1, self.rows.shape[1]))

        def add(part: slice) -> None:
            sum_members(readonly(self.rows), order, starts, part.start, part.stop, sums)

        pool.run(add, pool.slices(len(sums), 8 * self.threads), self.threads)
        return sums

    def _penalties(self, counts: np.ndarray, spreads: np.ndarray) -> np.ndarray:
        even = len(self.rows) / len(counts)
        spread = float(spreads.sum()) / len(self.rows)
        return self.balance * spread / 20 * np.clip(np.log((counts + 1) / (even + 1)), -1, 1)

    def _split(
        self,
        means: np.ndarray,
        counts: np.ndarray,
        spreads: np.ndarray,
        order: np.ndarray,
        starts: np.ndarray,
    ) -> None:
        """Place each empty cluster beside the mean of the cluster with the largest error, given the means so far.

        Spread decides rather than size: vectors that are all alike are not worth two centroids.
        """
        means_of = np.ones(len(counts))
        for empty in np.flatnonzero(counts == 0):
            widest = int(np.argmax(np.where(counts > 0, spreads / means_of, -np.inf)))
            means_of[widest] += 1
            members = order[starts[widest] : starts[widest + 1]]
            member = self.rows[members[self.rng.integers(len(members))]]
            means[empty] = means[widest] + np.float32(_SPLIT) * (member - means[widest])
