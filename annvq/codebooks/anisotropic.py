"""Score-aware training and encoding of a product codebook, for inner products.

Errors along a vector x change its inner product with the queries that score it high; errors perpendicular to it
hardly do. The loss eta |r_par|^2 + |r_perp|^2 weighs them accordingly (Guo et al. 2020, "Accelerating large-scale
inference with anisotropic vector quantization", theorem 3.3). x is the original vector, even if the codes are of its
residual.
"""

from __future__ import annotations

from numbers import Real

import numpy as np

from annvq.arguments import as_count
from annvq.errors import ParameterError
from annvq.kernels import threads as pool
from annvq.kernels.clusters import aware4, nearest4
from annvq.kernels.clusters.lloyd import fill_squared_norms
from annvq.kernels.codes import noise_shaping
from annvq.kernels.codes.encode import ProductSites, product_decode, product_encode, product_sites
from annvq.kernels.registers.tiles import LANES, aligned, readonly

ROUNDS = 3  # of coordinate descent; more of them change little beside the codes' error
_NITER = 2  # alternations of codes and centroids; more of them change no recall
_ROWS_A_TASK = 512


def eta_from_threshold(T: float, d: int) -> float:
    """Return eta for unit vectors of dimension d, if inner products above T are those that matter.

    eta = (d - 1) T^2 / (1 - T^2) (Guo et al. 2020, theorem 3.3), but at least 1, below which errors along the vector
    would count less than others.

    Raises
    ------
    ParameterError
        T is not between 0 and 1.

    """
    d = as_count("d", d)
    if not isinstance(T, Real) or not 0 < T < 1:
        raise ParameterError(f"the threshold T of unit vectors must lie between 0 and 1, not {T!r}")
    return max(1.0, (d - 1) * T * T / (1 - T * T))


def unit_directions(directions: np.ndarray) -> np.ndarray:
    """Return directions (n, d) float32 scaled to unit norm; zero rows stay zero."""
    squares = np.empty(len(directions))  # each summed in the order of the dimensions, which a GPU can do as well
    fill_squared_norms(readonly(np.ascontiguousarray(directions)), squares)
    norms = np.sqrt(squares)[:, None]
    return np.divide(directions, norms, out=np.zeros_like(directions), where=norms > 0, casting="same_kind")


def loss(vectors: np.ndarray, decoded: np.ndarray, directions: np.ndarray, eta: float) -> float:
    """Return the mean over rows of eta |r_par|^2 + |r_perp|^2; all arrays are (n, d) float32."""
    errors = vectors.astype(np.float64) - decoded
    along = (errors * unit_directions(directions)).sum(axis=1)
    return float((np.square(errors).sum(axis=1) + (eta - 1) * np.square(along)).mean())


def encode(
    rows: np.ndarray, directions: np.ndarray, shape: tuple[int, ...], sites: ProductSites, eta: float, threads: int
) -> np.ndarray:
    """Return codes (n, M) uint8 of low loss: the nearest entries, improved by coordinate descent.

    Parameters
    ----------
    rows, directions
        (n, d) float32: the vectors that are coded, and those along which errors weigh eta.
    shape, sites
        The shape (M, ksub, dsub) of the codebooks, and what `product_sites` makes of them.
    eta, threads
        The weight, and the number of threads; the codes do not depend on the latter.

    """
    M, ksub, dsub = shape
    codes = np.empty((len(rows), M), np.uint8)

    def encode_rows(part: slice) -> None:
        some, along = readonly(rows[part]), readonly(directions[part])
        if (ksub, dsub) == (nearest4.ENTRIES, nearest4.DIMENSIONS):
            aware4.encode_aware(some, along, M, *sites, np.float32(eta), ROUNDS, codes[part])
            return
        panel, scores, dots = aligned(M * dsub * LANES), aligned(ksub * LANES), aligned(ksub * LANES)
        product_encode(some, M, ksub, dsub, *sites, panel, codes[part])
        panel.reshape(M * dsub, LANES)[some.shape[1] :] = -sites.shift[some.shape[1] :, None]
        lanes = aligned(M * dsub * LANES)
        lanes[some.shape[1] * LANES :] = 0
        noise_shaping.descend(
            some, readonly(unit_directions(along)), M, ksub, dsub, *sites, np.float32(eta), ROUNDS,
            panel, lanes, scores, dots, codes[part],
        )  # fmt: skip

    pool.run(encode_rows, pool.slices(len(rows), -(-len(rows) // _ROWS_A_TASK)), threads)
    return codes


def improve(codebooks: np.ndarray, rows: np.ndarray, directions: np.ndarray, eta: float, threads: int) -> np.ndarray:
    """Return codebooks (M, ksub, dsub) float32 of lower loss: codes and centroids are improved in turn.

    Parameters are those of `encode`; ``codebooks`` come from k-means.
    """
    M, _, dsub = codebooks.shape
    padded, along = (_padded(array, M * dsub) for array in (rows, unit_directions(directions)))
    for _ in range(_NITER):
        codes = encode(rows, directions, codebooks.shape, product_sites(codebooks), eta, threads)
        codebooks = _update(codebooks, padded, along, codes, eta)
    return codebooks


def _padded(rows: np.ndarray, width: int) -> np.ndarray:
    return readonly(np.pad(rows, [(0, 0), (0, width - rows.shape[1])]))


def _update(codebooks: np.ndarray, rows: np.ndarray, along: np.ndarray, codes: np.ndarray, eta: float) -> np.ndarray:
    """Move the centroids, one sub-space after another, to where the loss of the codes is least."""
    M, ksub, dsub = codebooks.shape
    decoded = np.empty(rows.shape, np.float32)
    product_decode(readonly(codes), readonly(codebooks), decoded)
    projections = ((rows.astype(np.float64) - decoded) * along).sum(axis=1)
    lhs, rhs = np.empty((ksub, dsub, dsub)), np.empty((ksub, dsub))
    moved = codebooks.copy()
    for m in range(M):
        noise_shaping.normal_equations(rows, along, projections, codes, m, codebooks[m], eta, lhs, rhs)
        used = lhs[:, 0, 0] > 0
        moved[m][used] = np.linalg.solve(lhs[used], rhs[used][..., None])[..., 0]
        noise_shaping.move_projections(along, codes, m, codebooks[m], moved[m], projections)
    return moved
