"""Building a multi-vector index: learn from a sample of documents, then encode all of them batch by batch."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from annvq.arguments import as_count, as_path
from annvq.codebooks.accelerator import check_accelerator
from annvq.errors import ParameterError, RecipeError, ShapeError
from annvq.index.rows.attributes import as_attributes
from annvq.index.rows.segment import Segment
from annvq.index.search.params import SearchParams
from annvq.index.train import sample_size, train
from annvq.index.trained import Trained
from annvq.index.values import settled
from annvq.index.versions.stream import SegmentStream
from annvq.index.versions.versioned import VersionedRows
from annvq.kernels import threads as pool
from annvq.multivector.fde import FixedDimensionalEncoder
from annvq.multivector.ragged import Ragged, concatenated
from annvq.multivector.recipe import MultiVectorRecipe, load
from annvq.multivector.source import DocumentSource
from annvq.multivector.tokens import TokenStore
from annvq.progress import READING, Progress, listening
from annvq.storage import Store

_BATCH_VECTORS = 1 << 16
_BATCH_BYTES = 1 << 26  # of encodings
_SEGMENT_BYTES = 1 << 28  # after which a streamed build starts a new segment
_SAMPLE = 1 << 14  # documents that the index of encodings learns from, at least
_CENTROIDS_PROBED = 8  # per query vector, until tuning says otherwise
_UNKNOWN_FACTOR = 16  # a stream longer than its sample is taken to be this many times as long


def build(
    documents: Any,
    recipe: MultiVectorRecipe | str | os.PathLike[str],
    *,
    offsets: Any,
    ids: Any,
    attributes: Any,
    seed: int,
    threads: int | None,
    progress: bool | Callable[[int, int | None], object] | Progress,
    path: str | os.PathLike[str] | None,
) -> VersionedRows:
    """Build the rows of a `MultiVectorIndex`; parameters and errors are those of `MultiVectorIndex.build`."""
    made, seed, workers = load(recipe), as_count("seed", seed, least=0), pool.resolve(threads)
    folder = None if path is None else as_path(path)
    if offsets is not None and isinstance(documents, Iterator | DocumentSource):
        raise ParameterError("offsets go with flat vectors; an iterator yields sets of vectors")
    if isinstance(documents, DocumentSource):
        n, batches = documents.count, _checked(documents.batches())
        ids = documents.ids() if ids is None else ids
    elif isinstance(documents, Iterator):
        n, batches = None, _checked(documents)
    else:
        whole = Ragged.of(documents, offsets).without_empty("documents")
        n, batches = len(whole), iter([whole])
    with listening(progress) as report:
        return _built(n, batches, made, ids, attributes, seed, workers, report, folder)


def _built(
    n: int | None,
    batches: Iterator[Ragged],
    made: MultiVectorRecipe,
    ids: Any,
    attributes: Any,
    seed: int,
    workers: int,
    report: Progress,
    folder: Path | None,
) -> VersionedRows:
    report.begin(READING)
    head = [next(batches, Ragged(np.empty((0, 1), np.float32), np.zeros(1, np.int64)))]
    wanted = _SAMPLE if made.index.nlist in ("auto", None) else max(_SAMPLE, sample_size(made.index, None))
    while sum(len(batch) for batch in head) < wanted and (batch := next(batches, None)) is not None:
        head.append(batch)
    trained = _learn(concatenated(head), n, wanted, made, seed, workers, report)
    attributes = None if attributes is None else as_attributes(attributes, n)
    nprobe = _CENTROIDS_PROBED if made.candidates_by == "centroids" else trained.default_depth.nprobe

    def encode(store: Store | None) -> list[Segment]:
        return _encode(head, batches, n, trained, ids, attributes, workers, report, store)

    return VersionedRows.build(trained, encode, folder, SearchParams(nprobe, made.candidates))


def _checked(batches: Iterator[Any]) -> Iterator[Ragged]:
    done, dim = 0, None
    for batch in batches:
        sets = Ragged.of(batch, dim=dim, first=done).without_empty("documents", done)
        done, dim = done + len(sets), sets.dim
        if len(sets):
            yield sets


def _learn(
    head: Ragged, n: int | None, wanted: int, recipe: MultiVectorRecipe, seed: int, threads: int, report: Progress
) -> Trained:
    """Train the index of encodings and the token store on the documents at hand."""
    if len(head) == 0:
        raise ShapeError("no documents: an index of documents learns from at least one")
    length = n if n is not None else len(head) if len(head) < wanted else _UNKNOWN_FACTOR * len(head)
    encoder = FixedDimensionalEncoder(dim=head.dim, **asdict(recipe.encoder))
    resolved = replace(recipe.index, name=recipe.name).resolve(length, encoder.output_dim, "ip")
    check_accelerator(resolved)
    size = min(len(head), max(min(wanted, _SAMPLE), 0 if resolved.nlist is None else 32 * settled(resolved.nlist)))
    rng = np.random.default_rng(seed)
    chosen = head if size == len(head) else head[np.sort(rng.choice(len(head), size, replace=False))]
    if resolved.nlist is not None and len(chosen) < settled(resolved.nlist):
        raise RecipeError(f"nlist = {resolved.nlist} lists cannot be learned from {len(chosen)} documents")
    report.begin("encoding a sample", len(chosen))
    encodings = encoder.encode_documents(chosen, threads=threads)
    trained = train(resolved, encodings, "ip", seed=seed, threads=threads, report=report)
    del encodings
    rows = np.arange(len(chosen.vectors))
    most = TokenStore.sample_size(recipe.tokens)
    if len(rows) > most:
        rows = np.sort(rng.choice(rows, most, replace=False))
    report.begin("training codes of documents' vectors")
    settings = {"encoder": asdict(recipe.encoder), "candidates_by": recipe.candidates_by}
    sample = chosen.vectors[rows].astype(np.float32)
    return replace(trained, extension=TokenStore.train(recipe.tokens, sample, settings, seed=seed, threads=threads))


def _encode(
    head: list[Ragged],
    rest: Iterator[Ragged],
    n: int | None,
    trained: Trained,
    ids: Any,
    attributes: Any,
    threads: int,
    report: Progress,
    store: Store | None,
) -> list[Segment]:
    """Encode all documents into segments; ``head`` is emptied in the process."""
    tokens = trained.extension
    assert isinstance(tokens, TokenStore)
    encoder = FixedDimensionalEncoder(dim=tokens.dim, **tokens.settings["encoder"])
    stream = SegmentStream(trained, n, ids, attributes, store, rows="documents", threads=threads, report=report)
    waiting_bytes = 0

    def all_batches() -> Iterator[Ragged]:
        while head:
            yield head.pop(0)
        yield from rest

    most = max(1, _BATCH_BYTES // (4 * encoder.output_dim))
    for batch in all_batches():
        for part in _cut(batch, most):
            sets = part.floats()
            vectors = encoder.encode_documents(sets, threads=threads)
            stream.add(vectors, tokens.encode(sets.vectors, sets.offsets, threads))
            waiting_bytes += len(part) * (trained.bytes_per_vector + 16) + len(sets.vectors) * tokens.bytes_per_token
            if waiting_bytes > _SEGMENT_BYTES and (store is not None or n is None):
                stream.cut()
                waiting_bytes = 0
    return stream.finished()


def _cut(batch: Ragged, most: int) -> Iterator[Ragged]:
    """Cut a batch into parts of at most ``most`` documents and about `_BATCH_VECTORS` vectors."""
    start = 0
    while start < len(batch):
        end = int(np.searchsorted(batch.offsets, batch.offsets[start] + _BATCH_VECTORS, side="right")) - 1
        end = min(max(end, start + 1), start + most, len(batch))
        yield batch[start:end]
        start = end
