"""Residual codes by beam search: after every stage, the few best sums of centroids (beams) are kept."""

from __future__ import annotations

import numpy as np

from annvq.kernels.clusters.assign import tile_scores
from annvq.kernels.compile.jit import kernel
from annvq.kernels.compile.scratch import empty
from annvq.kernels.registers.tiles import LANES


@kernel
def _expand(scores, errors, first_lane, live, ksub, kept_errors, kept):
    """Keep the best extensions of the ``live`` beams of one vector, each as lane * ksub + code; return how many.

    The error of an extension is the error of the beam less twice the extension's score <r, c> - |c|^2 / 2. Equal errors
    go to the lower code, then to the earlier beam.
    """
    count = np.int64(0)
    for j in range(ksub):
        for b in range(live):
            lane = first_lane + b
            error = errors[lane] - np.float32(2.0) * scores[j * LANES + lane]
            if count == kept.size:
                if not error < kept_errors[count - 1]:
                    continue
            else:
                count += 1
            place = count - 1
            while place > 0 and error < kept_errors[place - 1]:
                kept_errors[place] = kept_errors[place - 1]
                kept[place] = kept[place - 1]
                place -= 1
            kept_errors[place] = error
            kept[place] = lane * ksub + j
    return count


@kernel
def _place_rows(vectors, first, count, beam, panel, errors):
    """Write each vector to the first of its ``beam`` lanes, and its squared norm to ``errors``.

    The other lanes are set to zero.
    """
    panel[:] = np.float32(0.0)
    for v in range(count):
        norm = 0.0
        for i in range(vectors.shape[1]):
            x = vectors[first + v, i]
            panel[i * LANES + v * beam] = x
            norm += np.float64(x) * np.float64(x)
        errors[v * beam] = norm


@kernel
def beam_encode(vectors, codebooks, bias, beam, panel, next_panel, scores, codes):
    """Fill ``codes (n, M)`` with the best codes that a beam search finds.

    Parameters
    ----------
    vectors
        (n, d) float32.
    codebooks, bias
        (M, ksub, d) float32, and (M * ksub,) float32: -|c|^2 / 2 of every centroid.
    beam
        Number of partial codes that are kept per vector, 1 to LANES. Each takes one lane of a panel.
    panel, next_panel
        Scratch, (d * LANES,) float32: the residuals of the partial codes.
    scores
        Scratch, (ksub * LANES,) float32.
    codes
        Output, (n, M) uint8.

    """
    M, ksub, d = codebooks.shape
    flat = codebooks.reshape(codebooks.size)
    n = vectors.shape[0]
    vectors_a_panel = LANES // beam
    errors = empty(LANES, np.float32)
    partial = empty((LANES, M), np.uint8)
    longer = empty((LANES, M), np.uint8)
    kept_errors = empty((vectors_a_panel, beam), np.float32)
    kept = empty((vectors_a_panel, beam), np.int64)
    for first in range(0, n, vectors_a_panel):
        count = min(vectors_a_panel, n - first)
        _place_rows(vectors, first, count, beam, panel, errors)
        live = np.int64(1)
        for m in range(M):
            tile_scores(panel, 0, d, flat, m * ksub * d, bias, m * ksub, ksub, scores)
            found = np.int64(0)
            for v in range(count):
                found = _expand(scores, errors, v * beam, live, ksub, kept_errors[v], kept[v])
            live = found  # it is the same for all vectors
            for v in range(count):
                for b in range(live):
                    lane, source, code = v * beam + b, kept[v, b] // ksub, kept[v, b] % ksub
                    errors[lane] = kept_errors[v, b]
                    longer[lane, :m] = partial[source, :m]
                    longer[lane, m] = code
                    base = (m * ksub + code) * d
                    for i in range(d):
                        next_panel[i * LANES + lane] = panel[i * LANES + source] - flat[base + i]
            panel, next_panel = next_panel, panel
            partial, longer = longer, partial
        for v in range(count):
            codes[first + v] = partial[v * beam]
