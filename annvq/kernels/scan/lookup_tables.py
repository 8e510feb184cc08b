"""Look-up tables of queries: what each centroid of each sub-space contributes to the score."""

from __future__ import annotations

from annvq.kernels.compile.jit import kernel
from annvq.kernels.registers import simd


@kernel
def fill_tables(queries, transposed, squared, tables):
    """Fill ``tables (nq, M, ksub)``.

    Parameters
    ----------
    queries
        (nq, M * dsub) float32.
    transposed
        (M, dsub, ksub) float32: the codebooks with the centroids in the last axis; ksub is a multiple
        of 16.
    squared
        Whether an entry is -|q_m - c_mj|^2 rather than <q_m, c_mj>.
    tables
        Output, float32. Each entry is summed in the order of the dimensions.

    """
    M, dsub, ksub = transposed.shape
    for m in range(M):  # outside: a sub-space's centroids are read once for all queries
        for q in range(queries.shape[0]):
            for j in range(0, ksub, 16):
                total = simd.zero_f32x16()
                for i in range(dsub):
                    element = simd.splat_f32(queries[q, m * dsub + i])
                    centroid = simd.load_f32x16(transposed, (m * dsub + i) * ksub + j)
                    if squared:
                        element = simd.sub(element, centroid)
                        centroid = element
                    total = simd.fma(element, centroid, total)
                if squared:
                    total = simd.sub(simd.zero_f32x16(), total)
                simd.store_f32x16(tables, (q * M + m) * ksub + j, total)
