"""Building an index: choose a recipe, learn from a sample, encode batch by batch."""

from __future__ import annotations

import importlib
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from annvq import vectors as door
from annvq.arguments import as_choice, as_count, as_path
from annvq.codebooks.accelerator import Accelerator, accelerated_by, check_accelerator
from annvq.errors import NonFiniteError, ParameterError, RecipeError, ShapeError, ZeroVectorError
from annvq.index import recipe as recipes
from annvq.index.index import Index, refuse_for_cpu
from annvq.index.recipe import Recipe
from annvq.index.rows.attributes import as_attributes
from annvq.index.rows.segment import Segment
from annvq.index.train import sample_size
from annvq.index.train import train as learn
from annvq.index.trained import Trained
from annvq.index.values import settled
from annvq.index.versions.stream import SegmentStream
from annvq.index.versions.versioned import VersionedRows
from annvq.kernels import threads as pool
from annvq.kernels.vectors.dots import squared_norms
from annvq.metrics import INDEX_METRICS, ZEROS, equally_long
from annvq.progress import READING, Progress, listening
from annvq.storage import Store

if TYPE_CHECKING:
    from collections.abc import Callable

    from annvq.io import VectorSource

_BATCH_BYTES = 1 << 26  # of float32 vectors encoded at a time
_SEGMENT_BYTES = 1 << 28  # of codes and refine rows, after which a streamed build starts a new segment
_UNKNOWN_FACTOR = 16  # a stream longer than its sample is taken to be this many times as long


def build(
    vectors: Any,
    recipe: Recipe | str | os.PathLike[str] = "auto",
    *,
    ids: Any = None,
    attributes: Any = None,
    metric: str = "ip",
    zero: str = "error",
    train: Any = None,
    trained: Trained | Index | None = None,
    seed: int = 0,
    threads: int | None = None,
    progress: bool | Callable[[int, int | None], object] | Progress = False,
    path: str | os.PathLike[str] | None = None,
    prefer: str | None = None,
    bytes_per_vector: float | None = None,
    device: Any = "cpu",
    device_bytes: int | None = None,
) -> Index:
    """Build an index from vectors.

    Parameters
    ----------
    vectors
        The vectors, (n, d): a NumPy array or memmap (float32, float16, int8, uint8), a torch tensor, Arrow
        fixed-size lists, an `annvq.io.VectorSource`, or an iterable of batches of these, which is streamed and never
        held in memory as a whole.
    recipe
        The name of a recipe, the path of one, a factory string or a `Recipe`; "auto" chooses by n, d and metric, and by
        ``prefer`` and ``bytes_per_vector`` (`annvq.recipes.choose`).
    ids
        n unique ids, int64 (except -1) or str; by default those that come with the source, or 0 to n - 1.
    attributes
        An Arrow table of n rows, or what one can be made of, for filters.
    metric
        "ip", "l2", "cosine" or, for packed bits, "hamming": the vectors are then (n, d / 8) uint8, as
        ``numpy.packbits`` and sentence-transformers' ``quantize_embeddings`` (precision "ubinary") make them, or int8
        (precision "binary"), the index's dimension d counts bits, and scores are minus the numbers of bits that differ.
    zero
        What becomes of zero vectors under "cosine", for which it is undefined: "error" refuses them, here, in `add` and
        in searches; "score-0" keeps them as they are, so that they score 0 with everything (as precisely as the index
        keeps vectors), and a zero query scores 0 with every row. For other metrics it changes nothing.
    train
        Vectors to train on, or how many of the vectors to sample; by default as many as the recipe needs.
    trained
        What `annvq.train` returned, or an index whose trained parts are shared: nothing is learned then, and recipe and
        metric are its. Indexes that share these can be merged (`annvq.merge`).
    seed
        A whole number of at least 0. The same seed and vectors give the same index, whatever the number of threads.
    threads
        The number of threads; by default, all CPUs of the process.
    progress
        True shows the phases (reading a sample, training, encoding, writing) on stderr, as a bar on a terminal or in a
        notebook and as lines elsewhere. A function is called with (rows encoded, rows in all or None); an
        `annvq.progress.Progress` is told everything.
    path
        A folder that segments are written to as they are made. The index is returned opened there, in mode "rw", and
        memory stays bounded by a segment and the training sample.
    prefer
        What matters most where "auto" chooses: "speed", "memory" or "build"; None is a compromise.
    bytes_per_vector
        The largest number of bytes per vector, ids not counted, that what "auto" chooses may take, or None.
    device, device_bytes
        "cuda" trains and encodes on a GPU, and returns the index there, as `Index.to` does; centroids, codebooks, codes
        and hits are the CPU's, to the bit. Of a list of GPUs, the first builds.

    Raises
    ------
    ShapeError, DtypeError, NonFiniteError, ZeroVectorError, DuplicateIdError, RecipeError, ParameterError
        The input cannot be indexed; nothing is left behind.
    MissingExtraError, DeviceError, DeviceMemoryError
        There is no such device, or it cannot hold such an index. If it turns out after the build that even the codes do
        not fit, what was written to ``path`` stays.

    Examples
    --------
    >>> vectors = np.random.default_rng(0).normal(size=(1000, 32))
    >>> index = annvq.build(vectors, "flat", metric="l2")
    >>> index
    Index(n=1000, dim=32, metric='l2', recipe='flat')
    >>> ids, scores = index.search(vectors[:2], k=1)
    >>> ids
    array([[0],
           [1]])
    >>> annvq.build(vectors, metric="l2", prefer="memory").recipe.name
    'ivf-sq8'

    """
    if metric not in INDEX_METRICS:
        raise ParameterError(f"metric {metric!r}: expected one of {', '.join(INDEX_METRICS)}")
    zero = _zero_policy(metric, zero)
    seed, workers = as_count("seed", seed, least=0), pool.resolve(threads)
    folder = None if path is None else as_path(path)
    wanted = _Wanted.checked(recipe, prefer, bytes_per_vector)
    accelerator = accelerator_of(device)  # what `Index.to` would refuse at the end is refused before anything is built
    if accelerator is None:
        refuse_for_cpu(device_bytes)
    elif device_bytes is not None:
        as_count("device_bytes", device_bytes)
    source = _source(vectors, metric if trained is None else getattr(trained, "metric", metric))
    given_ids = source.ids() if ids is None else ids
    with listening(progress) as report, accelerated_by(accelerator):
        if trained is None:
            parts = _learn(source, wanted, metric, zero, train, seed, workers, report)
        else:
            parts = _shared(trained, source, wanted, metric, zero, train)
            check_accelerator(parts.recipe)
        attributes = None if attributes is None else as_attributes(attributes, source.count)

        def encode(store: Store | None) -> list[Segment]:
            return _encode(source, parts, given_ids, attributes, workers, report, store)

        index = Index(VersionedRows.build(parts, encode, folder))
    try:
        return index.to(device, device_bytes=device_bytes)
    except BaseException:
        index.close()
        raise


def train(
    vectors: Any,
    recipe: Recipe | str | os.PathLike[str] = "auto",
    *,
    n: int | None = None,
    metric: str = "ip",
    zero: str = "error",
    seed: int = 0,
    threads: int | None = None,
    progress: bool | Callable[[int, int | None], object] | Progress = False,
    prefer: str | None = None,
    bytes_per_vector: float | None = None,
    device: Any = "cpu",
) -> Trained:
    """Learn what the segments of an index share, such as centroids and codebooks, and keep no vector.

    `annvq.build` takes the result as ``trained``, also in other processes. Indexes that are built so from parts of a
    collection and merged (`annvq.merge`) are, to the bit, the index that is built of the whole.

    Parameters
    ----------
    vectors
        The vectors to learn from, as for `annvq.build`; of more than the recipe needs, a sample is drawn.
    n
        The number of vectors that the index will hold, on which numbers of lists and the choice of "auto" depend. By
        default as many as are given here.
    recipe, metric, zero, seed, threads, progress, prefer, bytes_per_vector
        The same as for `annvq.build`.
    device
        "cuda" trains on a GPU; the result is the CPU's, to the bit.

    Raises
    ------
    ShapeError, DtypeError, NonFiniteError, ZeroVectorError, RecipeError, ParameterError
        Nothing can be learned from the input, or an argument is not valid.
    MissingExtraError, DeviceError
        There is no such device.

    Examples
    --------
    >>> vectors = np.random.default_rng(0).normal(size=(1000, 32))
    >>> trained = annvq.train(vectors[:500], "IVF16,Flat", n=1000, metric="l2")
    >>> annvq.build(vectors, trained=trained)
    Index(n=1000, dim=32, metric='l2', recipe='IVF16,Flat')

    """
    zero = _zero_policy(as_choice("metric", metric, INDEX_METRICS), zero)
    seed, workers = as_count("seed", seed, least=0), pool.resolve(threads)
    count = None if n is None else as_count("n", n, least=0)
    wanted = _Wanted.checked(recipe, prefer, bytes_per_vector)
    with listening(progress) as report, accelerated_by(accelerator_of(device)):
        return _learn(_source(vectors, metric), wanted, metric, zero, None, seed, workers, report, count)


def accelerator_of(device: Any) -> Accelerator | None:
    """Return what trains and encodes on a device, or on the first of several; None for the CPU.

    MissingExtraError, DeviceError and ParameterError are those of `annvq.Index.to`, for every device that is named.
    """
    if str(device) == "cpu":
        return None
    named = list(device) if isinstance(device, Sequence) and not isinstance(device, str) else [device]
    if not named:
        raise ParameterError("device: an empty list, expected one device or more")
    first, *_ = [importlib.import_module("annvq.gpu.accelerator").GpuAccelerator(one) for one in named]
    return first


class _Wanted(NamedTuple):
    """What an index is to be made of: a recipe, or "auto" and what it goes by."""

    recipe: Recipe | str | os.PathLike[str]
    prefer: str | None
    bytes_per_vector: float | None

    @classmethod
    def checked(cls, recipe: Any, prefer: Any, bytes_per_vector: Any) -> _Wanted:
        """Return the three; ParameterError is raised if they do not fit each other, whatever the vectors."""
        if prefer is not None:
            as_choice("prefer", prefer, recipes.WISHES)
        wanted = cls(recipe, prefer, bytes_per_vector)
        if wanted[1:] != (None, None) and not wanted.is_auto:
            shown = recipe.name if isinstance(recipe, Recipe) else recipe
            raise ParameterError(
                f"prefer and bytes_per_vector say how recipe 'auto' chooses: leave them out, or the recipe, {shown!r}"
            )
        return wanted

    @property
    def is_auto(self) -> bool:
        return isinstance(self.recipe, str) and self.recipe == "auto"

    def resolve(self, n: int, dim: int, metric: str, *, equally_long: bool) -> Recipe:
        """Return the recipe for n vectors."""
        if self.is_auto:
            return recipes.choose(n, dim, metric, self.bytes_per_vector, prefer=self.prefer, equally_long=equally_long)
        loaded = recipes.load(self.recipe)
        if loaded.learn is not None:
            raise RecipeError(
                f"recipe {loaded.name!r} is learned from queries, vectors are not enough: "
                f"use annvq.learn (extra 'train'), or annvq train {loaded.learn}"
            )
        return loaded.resolve(n, dim, metric)


def _source(vectors: Any, metric: str) -> VectorSource:
    source = door.as_source(vectors)
    return door.BitSource(source) if metric == "hamming" else source


def _zero_policy(metric: str, zero: str) -> str:
    return as_choice("zero", zero, ZEROS) if metric == "cosine" else ZEROS[0]


def _shared(given: Any, source: VectorSource, wanted: _Wanted, metric: str, zero: str, sample: Any) -> Trained:
    """Return the trained parts that a build was given (ParameterError, ShapeError)."""
    parts = given.rows.current.trained if isinstance(given, Index) else given
    if not isinstance(parts, Trained):
        raise ParameterError(f"trained: {type(given).__name__}, expected what annvq.train returns, or an Index")
    if parts.extension is not None:
        raise ParameterError(f"trained: {parts.extension.refusal}")
    if (
        sample is not None
        or wanted != ("auto", None, None)
        or metric not in ("ip", parts.metric)
        or zero not in ("error", parts.zero)
    ):
        raise ParameterError(
            f"trained parts have recipe {parts.recipe.name!r}, metric {parts.metric!r} and zero {parts.zero!r}: "
            "give no recipe, metric, zero, train, prefer or bytes_per_vector beside them"
        )
    if source.dim and source.dim != parts.dim:
        raise ShapeError(f"vectors of {source.dim} dimensions, the trained parts have {parts.dim}")
    return parts


def _learn(
    source: VectorSource,
    wanted: _Wanted,
    metric: str,
    zero: str,
    given: Any,
    seed: int,
    threads: int,
    report: Progress,
    count: int | None = None,
) -> Trained:
    """Resolve the recipe for ``count`` vectors, by default those of the source, and train it on a sample."""
    report.begin(READING)
    n, dim = source.count, source.dim
    rows = int(given) if isinstance(given, int | np.integer) and not isinstance(given, bool) else None
    if rows is not None and rows < 1:
        raise ParameterError(f"train = {rows}: expected vectors or a number of at least 1")
    head = integers = None
    if n is None:  # learn the length from the head of the stream
        head, integers = _sample(source, rows or 1 << 17, seed, metric, zero)
        n = len(head) if len(head) < (rows or 1 << 17) else _UNKNOWN_FACTOR * len(head)
        dim = source.dim
    count = n if count is None else count

    def drawn(size: int) -> tuple[np.ndarray, np.dtype | None]:
        if given is not None and rows is None:
            return door.as_indexed(given, metric, dim=dim, name="train", zero=zero), door.integers_of(given)
        size = rows or size
        if head is not None and len(head) >= size:  # a stream's sample is its head: do not copy it twice
            return head[:size], integers
        return _sample(source, size, seed, metric, zero)

    resolved = wanted.resolve(count, dim, metric, equally_long=True)
    check_accelerator(resolved)
    sample, integers = drawn(sample_size(resolved, n))
    if wanted.is_auto and metric == "ip" and not equally_long(np.sqrt(squared_norms(sample))):
        supposed, resolved = resolved, wanted.resolve(count, dim, metric, equally_long=False)
        check_accelerator(resolved)
        if resolved != supposed:  # not only its reason
            sample, integers = drawn(sample_size(resolved, n))
    if resolved.nlist is not None and len(sample) < settled(resolved.nlist):
        raise RecipeError(f"nlist = {resolved.nlist} lists cannot be learned from {len(sample)} vectors")
    return learn(resolved, sample, metric, seed=seed, threads=threads, report=report, zero=zero, integers=integers)


def _sample(source: VectorSource, rows: int, seed: int, metric: str, zero: str) -> tuple[np.ndarray, np.dtype | None]:
    """Return a sample as the index takes it, and the dtype of the vectors if it is int8 or uint8."""
    drawn = source.sample(rows, seed)
    try:
        return door.for_metric(door.as_matrix(drawn), metric, zero=zero), door.integers_of(drawn)
    except (NonFiniteError, ZeroVectorError):
        if source.count is not None and source.count > rows:  # a row of the sample has another number in the source
            _look_at_all(source, metric, zero)
        raise


def _look_at_all(source: VectorSource, metric: str, zero: str) -> None:
    """Raise the error of the first row that is not accepted."""
    done = 0
    for batch in door.batches(source, rows=_batch_rows(source)):
        door.for_metric(batch, metric, first_row=done, zero=zero)
        done += len(batch)


def _batch_rows(source: VectorSource) -> int:
    return max(1, _BATCH_BYTES // (4 * max(1, source.dim)))


def _encode(
    source: VectorSource,
    trained: Trained,
    ids: Any,
    attributes: Any,
    threads: int,
    report: Progress,
    store: Store | None,
) -> list[Segment]:
    """Encode all batches into segments."""
    stream = SegmentStream(
        trained, source.count, ids, attributes, store, rows="vectors", threads=threads, report=report
    )
    is_cut = store is not None or source.count is None
    limit = max(1, _SEGMENT_BYTES // (trained.bytes_per_vector + 8))
    for batch in door.batches(source, rows=_batch_rows(source)):
        stream.add(door.for_metric(batch, trained.metric, first_row=stream.done, zero=trained.zero))
        if is_cut and stream.waiting >= limit:
            stream.cut()
    return stream.finished()
