"""Semantic search as sentence-transformers offers it with Faiss and usearch, here with an annvq index."""

from __future__ import annotations

import time
from typing import Any

import numpy as np

import annvq
from annvq.arguments import as_choice, as_count
from annvq.errors import MissingExtraError, ParameterError

_SCALAR = ("int8", "uint8")
_BITS = ("binary", "ubinary")


def semantic_search_annvq(
    query_embeddings: Any,
    corpus_embeddings: Any = None,
    corpus_index: annvq.Index | None = None,
    corpus_precision: str = "float32",
    top_k: int = 10,
    ranges: Any = None,
    calibration_embeddings: Any = None,
    rescore: bool = True,
    rescore_multiplier: int = 2,
    exact: bool = True,
    output_index: bool = False,
) -> tuple[Any, ...]:
    """Return the nearest embeddings of every query, as `semantic_search_faiss` and `semantic_search_usearch` do.

    Parameters
    ----------
    query_embeddings
        (nq, d) floats, or embeddings that are quantized as the corpus is, which are not rescored.
    corpus_embeddings
        (n, d), or (n, d / 8) for bits, of the corpus precision. Either these or an index must be given.
    corpus_index
        An index that holds them: what an earlier call returned, or any `annvq.Index` of inner products or, for bits, of
        metric "hamming".
    corpus_precision
        "float32", "int8", "uint8", "binary" or "ubinary", as for ``quantize_embeddings``.
    top_k
        The number of results per query; fewer where the index holds fewer.
    ranges
        (2, d): the least and largest value of every dimension, by which the corpus was quantized to "int8" or "uint8".
        Default: those of ``calibration_embeddings`` or, without them, of the queries.
    calibration_embeddings
        (m, d) floats to take the ranges from.
    rescore
        Whether ``top_k * rescore_multiplier`` candidates are scored again by the float query's inner products with the
        decoded embeddings. It changes nothing for "float32" or quantized queries.
    rescore_multiplier
        The number of candidates that are scored again, per result.
    exact
        Whether a new index scans all vectors; otherwise the recipe "auto" chooses one. Bits are always scanned.
    output_index
        Whether the index is returned as well.

    Returns
    -------
    tuple
        ``[[{"corpus_id": ..., "score": ...}, ...], ...]`` and the seconds that the search took; with ``output_index``
        the index, too. Scores are inner products; those of bits that are not rescored are numbers of bits that differ,
        smaller is closer, as the functions beside this one return them.

    Raises
    ------
    ParameterError
        Both or neither of embeddings and index are given, or an argument is not one that is accepted.
    MissingExtraError
        Queries are to be quantized, and sentence-transformers is not installed.

    """
    precision = as_choice("corpus_precision", corpus_precision, ("float32", *_SCALAR, *_BITS))
    if (corpus_embeddings is None) == (corpus_index is None):
        raise ParameterError("give either corpus_embeddings or corpus_index")
    k, multiplier = as_count("top_k", top_k), as_count("rescore_multiplier", rescore_multiplier)
    index = _built(_array(corpus_embeddings), precision, exact) if corpus_index is None else corpus_index
    if (index.metric == "hamming") != (precision in _BITS):
        raise ParameterError(f"corpus_precision {precision!r} does not fit an index of metric {index.metric!r}")
    queries = np.atleast_2d(_array(query_embeddings))
    floats = None
    if precision != "float32" and queries.dtype.kind == "f":
        if precision in _SCALAR and ranges is None and calibration_embeddings is not None:
            ranges = _ranges(_array(calibration_embeddings))
        elif precision in _SCALAR and ranges is None and len(queries) > 1:
            ranges = _ranges(queries)
        floats = queries if rescore else None
        queries = _quantized(queries, precision, ranges)
    started = time.perf_counter()
    if floats is None:
        found = index.search(queries, k).to_lists()
        sign = -1 if precision in _BITS else 1
        results = [[{"corpus_id": one, "score": sign * score} for one, score in pairs] for pairs in found]
    else:
        found = index.search(queries, k * multiplier).to_lists()
        results = [
            _rescored(index, query, [one for one, _ in pairs], precision, ranges, k)
            for query, pairs in zip(floats, found, strict=True)
        ]
    seconds = time.perf_counter() - started
    return (results, seconds, index) if output_index else (results, seconds)


def _array(given: Any) -> np.ndarray:
    return given.detach().cpu().numpy() if hasattr(given, "detach") else np.asarray(given)


def _built(embeddings: np.ndarray, precision: str, exact: bool) -> annvq.Index:
    if precision in _BITS:
        return annvq.build(embeddings, "flat", metric="hamming")
    return annvq.build(embeddings, "flat" if exact else "auto", metric="ip")


def _ranges(embeddings: np.ndarray) -> np.ndarray:
    return np.stack([embeddings.min(axis=0), embeddings.max(axis=0)])


def _quantized(queries: np.ndarray, precision: str, ranges: Any) -> np.ndarray:
    try:
        from sentence_transformers import quantize_embeddings  # pyright: ignore  # which looks into this very file
    except ImportError as error:
        raise MissingExtraError("sentence-transformers", "text") from error
    return np.asarray(quantize_embeddings(queries, precision=precision, ranges=ranges))


def _rescored(
    index: annvq.Index, query: np.ndarray, ids: list[Any], precision: str, ranges: Any, k: int
) -> list[dict[str, Any]]:
    """Return the k of these ids whose decoded embeddings have the largest inner products with a float query."""
    if not ids:
        return []
    decoded = index.reconstruct(ids)
    if precision in _BITS:
        decoded = np.unpackbits(decoded, axis=1)[:, : len(query)]
    else:
        least, largest = np.asarray(ranges, np.float32)
        steps = (largest - least) / 255
        decoded = (decoded + np.float64(128 if precision == "int8" else 0)) * np.where(steps == 0, 1, steps) + least
    scores = decoded @ query.astype(np.float64)
    best = np.argsort(-scores, kind="stable")[:k]
    return [{"corpus_id": ids[place], "score": float(scores[place])} for place in best]
