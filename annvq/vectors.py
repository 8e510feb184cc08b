"""Validation of vectors: whatever users pass becomes, once, a checked float32 matrix."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from annvq.errors import DtypeError, NonFiniteError, ParameterError, ShapeError, ZeroVectorError
from annvq.io.source import MatrixSource, StreamSource, VectorSource
from annvq.kernels.registers.tiles import readonly
from annvq.kernels.vectors.finite import first_non_finite
from annvq.kernels.vectors.unit import unit_rows

_FLOAT32 = np.dtype(np.float32)
_QUICK = frozenset(map(np.dtype, (np.float32, np.float16, np.float64, np.int8, np.uint8)))
_ACCEPTED = ("float32", "float16", "bfloat16", "float64", "int8", "uint8")
_WHOLE = 1 << 62  # rows: do not cut
LONGEST = 2.0**61  # of a vector: 64 times its square is a float32, and sums of a few products stay below that
_BLOCK_BYTES = 1 << 24  # looked at in one go when rows are counted for an error message


def as_matrix(
    x: Any, *, dim: int | None = None, name: str = "vectors", allow_empty: bool = True, first_row: int = 0
) -> np.ndarray:
    """Return ``x`` as a finite (n, d) float32 array, C-contiguous and native-endian.

    If ``x`` already is such an array, the result shares its memory; it must not be written to.

    Parameters
    ----------
    x
        (n, d): a NumPy array or memmap (float32, float16, float64, int8, uint8), a torch tensor (any float dtype, int8
        or uint8, on any device), a column of lists or arrays (Arrow, pandas, polars), a table with one such column,
        lists of numbers, or an object with ``__array__``. float64 is rounded to float32. If ``name`` is "queries", a
        single vector (d,) is taken as (1, d). An empty list is (0, dim).
    dim
        The dimension that the vectors must have; by default any.
    name
        What messages call the vectors.
    allow_empty
        Whether n = 0 is accepted.
    first_row
        The number of the first row in messages, for batches.

    Raises
    ------
    ShapeError, DtypeError, NonFiniteError
        The message says what was given and what is accepted, and names the first bad row.

    """
    is_ready = type(x) is np.ndarray and x.dtype == _FLOAT32 and x.ndim == 2
    raw = x if is_ready else _as_array(x, dim, name)
    _check_shape(raw, dim, name, allow_empty)
    if raw.dtype.kind in "iu":
        return raw.astype(np.float32, order="C")
    flags = raw.flags
    matrix = raw if raw.dtype == _FLOAT32 and flags.c_contiguous and flags.aligned else _to_float32(raw)
    bad = first_non_finite(readonly(matrix))
    if bad >= 0:
        _raise_non_finite(raw, matrix, int(bad), first_row, name)
    return matrix


def as_query(x: Any, dim: int) -> np.ndarray | None:
    """Return one query of ``dim`` numbers as float32, on one or two axes, faster than `as_matrix` would.

    The result is None for anything but an array, a memmap or a list of ``dim`` numbers; `as_matrix` then converts it,
    or says what is wrong. NaN and infinity are not looked for; numbers too large for float32 become infinity.
    """
    if isinstance(x, np.ndarray):
        if x.size != dim or isinstance(x, np.ma.MaskedArray):
            return None
        array = np.asarray(x)
    elif isinstance(x, list | tuple) and _is_of_numbers(x, dim):
        try:
            array = np.array(x)
        except (TypeError, ValueError):
            return None
        if array.dtype.kind in "iu" and array.dtype.itemsize > 1:
            array = array.astype(np.float64)
    else:
        return None
    if array.dtype not in _QUICK:
        return None
    if array.dtype == _FLOAT32:
        return array
    with np.errstate(over="ignore"):
        return array.astype(_FLOAT32, order="C")


def _is_of_numbers(x: Any, dim: int) -> bool:
    """Return whether a list looks like ``dim`` numbers, or like one list or array of them."""
    if len(x) == 1 and (type(x[0]) in (list, tuple) or (type(x[0]) is np.ndarray and x[0].ndim == 1)):
        x = x[0]
    return len(x) == dim and isinstance(x[0], float | int | np.number)


def normalized(x: np.ndarray, name: str = "vectors", first_row: int = 0, *, zero: str = "error") -> np.ndarray:
    """Return the rows of ``x`` scaled to Euclidean norm one, as a new (n, d) float32 array.

    Parameters
    ----------
    x
        (n, d) float32 as `as_matrix` returns it.
    name, first_row
        As in `as_matrix`.
    zero
        What becomes of rows that are zero: "error" refuses them, "score-0" leaves them as they are.

    Raises
    ------
    ZeroVectorError
        A row is zero and so has no direction; the first one is named.

    """
    out = np.empty_like(x, order="C")
    bad = unit_rows(readonly(x), out)
    if bad < 0:
        return out
    if zero == "error":
        raise ZeroVectorError(
            f"{name}: row {first_row + bad} is zero, so its cosine with anything is undefined; "
            "an index that is built with zero='score-0' takes such rows"
        )
    directed = x.any(axis=1)
    units = np.empty((np.count_nonzero(directed), x.shape[1]), np.float32)
    unit_rows(readonly(x[directed]), units)
    out[directed], out[~directed] = units, 0.0
    return out


def for_metric(
    x: np.ndarray, metric: str, name: str = "vectors", first_row: int = 0, *, zero: str = "error"
) -> np.ndarray:
    """Return vectors or queries as an index of this metric takes them: with norm one for "cosine", else unchanged.

    Parameters
    ----------
    x
        (n, d) float32 as `as_matrix` returns it.
    metric
        "ip", "l2" or "cosine".
    name, first_row
        As in `as_matrix`.
    zero
        What becomes of rows that are zero under "cosine", as in `normalized`.

    Raises
    ------
    ZeroVectorError
        A row is zero under "cosine", and ``zero`` is "error"; the first one is named.
    NonFiniteError
        Under any other metric, a row is so long that squared distances may overflow; the first one is named.

    """
    if metric == "cosine":
        return normalized(x, name, first_row, zero=zero)
    check_lengths(x, name, first_row=first_row)
    return x


def as_indexed(x: Any, metric: str, *, dim: int, name: str = "vectors", zero: str = "error") -> np.ndarray:
    """Return vectors or queries as an index of this metric takes them, (n, dim) float32.

    Parameters
    ----------
    x
        What `as_matrix` or, for "hamming", `as_bits` accepts.
    metric, zero
        As in `for_metric`.
    dim, name
        As in `as_matrix`.

    Raises
    ------
    ShapeError, DtypeError, NonFiniteError, ZeroVectorError
        As `as_matrix`, `as_bits` and `for_metric` raise them.

    """
    if metric == "hamming":
        return as_bits(x, dim=dim, name=name).astype(_FLOAT32)
    return for_metric(as_matrix(x, dim=dim, name=name), metric, name, zero=zero)


def as_bits(x: Any, *, dim: int | None = None, name: str = "vectors") -> np.ndarray:
    """Return packed bits as (n, d) uint8 of 0 and 1, where d counts bits and the highest bit of a byte comes first.

    Parameters
    ----------
    x
        (n, d / 8) uint8, as ``numpy.packbits`` and sentence-transformers' ``quantize_embeddings`` (precision "ubinary")
        make them, or int8, which are the same bytes less 128 (precision "binary"), in any form that `as_matrix` takes
        and that keeps the dtype.
    dim
        The number of bits that the vectors must have; by default any.
    name
        As in `as_matrix`.

    Raises
    ------
    ShapeError, DtypeError
        The message says what was given and what is accepted.

    """
    raw = _as_array(x, None, name)
    if raw.dtype.kind not in "iu" and len(raw):
        raise DtypeError(
            f"{name}: dtype {raw.dtype}, expected packed bits for metric 'hamming': uint8, or int8 as "
            "quantize_embeddings makes them; numpy.packbits(x > 0, axis=1) packs numbers by their signs"
        )
    if dim is not None and 8 * raw.shape[1] != dim and not (len(raw) == 0 and raw.shape[1] == dim):
        raise ShapeError(f"{name}: {raw.shape[1]} bytes of 8 bits, expected {dim / 8:g} for dimension {dim}")
    if raw.dtype == np.int8:
        raw = raw.view(np.uint8) ^ np.uint8(128)
    return np.unpackbits(raw.astype(np.uint8, copy=False), axis=1)


def integers_of(x: Any) -> np.dtype | None:
    """Return the dtype of vectors, as `as_matrix` takes them, if it is int8 or uint8, else None."""
    raw = x if isinstance(x, np.ndarray) else _as_array(x, None, "vectors")
    return np.dtype(raw.dtype) if raw.dtype in (np.int8, np.uint8) else None


class BitSource:
    """A source of packed bits, read as vectors of 0 and 1 (`as_bits`)."""

    def __init__(self, packed: VectorSource) -> None:
        self._packed = packed
        self.count, self.dim = packed.count, 8 * packed.dim

    def batches(self, rows: int) -> Iterator[np.ndarray]:
        """Yield blocks (at most ``rows``, d) uint8."""
        return (as_bits(block) for block in self._packed.batches(rows))

    def sample(self, rows: int, seed: int) -> np.ndarray:
        """Return up to ``rows`` vectors (rows, d) uint8."""
        return as_bits(self._packed.sample(rows, seed))

    def ids(self) -> np.ndarray | None:
        """Return the ids that come with the packed bits, if any."""
        return self._packed.ids()


def check_lengths(x: np.ndarray, name: str = "vectors", *, longest: float = LONGEST, first_row: int = 0) -> None:
    """Check that no row of ``x`` (n, d), as `as_matrix` returns it, is longer than ``longest``.

    Raises
    ------
    NonFiniteError
        A row is longer; the first one is named (``name`` and ``first_row`` are as in `as_matrix`).

    """
    flat = x.reshape(-1)
    with np.errstate(over="ignore", invalid="ignore"):
        total = np.dot(flat, flat)
    if not total < longest**2 / 2:  # up to rounding, the rows together are longer than one of them may be
        _check_lengths(x, name, first_row, longest)


def as_source(x: Any, *, dim: int | None = None, name: str = "vectors", first_row: int = 0) -> VectorSource:
    """Return ``x`` as a source of blocks; nothing is converted or checked for NaN yet.

    Parameters
    ----------
    x
        Anything that `as_matrix` accepts, an Arrow table or record batch reader with one vector column, a
        `VectorSource`, or an iterable of batches, which is read once, block by block.
    dim, name, first_row
        As in `as_matrix`.

    Raises
    ------
    ShapeError, DtypeError
        As in `as_matrix`; of a stream, only the first batch is checked here.

    """
    x = _as_arrow(x)
    if _comes_from(x, "pyarrow"):
        source = _arrow_source(x, name, first_row)
    elif isinstance(x, VectorSource):
        source = x
    elif _is_batches(x):
        source = StreamSource(_blocks(x, dim, name), dim)
    else:
        source = MatrixSource(_as_array(x, dim, name))
    _check_dim(source.dim, dim, name)
    return source


def ids_beside(x: Any) -> np.ndarray | None:
    """Return the ids that stand beside the vectors in a table or data frame, as `as_source` finds them, or None."""
    x = _as_arrow(x)
    return as_source(x).ids() if _comes_from(x, "pyarrow") else None


def batches(source: Any, *, rows: int, dim: int | None = None, name: str = "vectors") -> Iterator[np.ndarray]:
    """Yield everything in ``source`` as blocks of exactly ``rows`` rows (the last may be shorter).

    Blocks are such as `as_matrix` returns, and valid until the next one is requested. Memory holds one block at a
    time, and what the source is decoding.

    Parameters
    ----------
    source
        As in `as_source`.
    rows
        At least 1.
    dim, name
        As in `as_matrix`.

    Raises
    ------
    ShapeError, DtypeError, NonFiniteError
        As in `as_matrix`; rows are counted over all blocks.

    """
    if rows < 1:
        raise ParameterError(f"rows = {rows}: expected at least 1")
    source = as_source(source, dim=dim, name=name)
    dim = source.dim
    waiting: list[np.ndarray] = []
    waiting_rows = done = 0
    for block in source.batches(rows):
        while len(block):
            part = block[: rows - waiting_rows]
            block = block[len(part) :]
            checked = as_matrix(part, dim=dim, name=name, first_row=done)
            done += len(part)
            if len(part) == rows or (not waiting and done == source.count):
                yield checked
                continue
            waiting.append(checked.copy() if np.may_share_memory(checked, part) else checked)
            waiting_rows += len(part)
            if waiting_rows == rows:
                yield np.concatenate(waiting)
                waiting, waiting_rows = [], 0
    if waiting:
        yield np.concatenate(waiting)


# Conversion of what users pass to arrays of any accepted dtype


def _as_array(x: Any, dim: int | None, name: str) -> np.ndarray:
    """Return ``x`` as an array (n, d) of an accepted dtype, shared where possible."""
    x = _as_arrow(x)
    if _comes_from(x, "torch"):
        array = _from_torch(x, name)
    elif _comes_from(x, "pyarrow"):
        from annvq.io.columns import matrix_of

        array = matrix_of(x, name)
    elif isinstance(x, list | tuple):
        array = _from_list(x, dim, name)
    else:
        array = _from_array_like(x, name)
    if array.dtype.name not in _ACCEPTED:
        raise DtypeError(f"{name}: dtype {array.dtype}, expected one of {', '.join(_ACCEPTED)}")
    if array.ndim == 1 and name == "queries":
        array = array[np.newaxis]
    if array.ndim != 2:
        raise ShapeError(f"{name}: {array.ndim} axes {array.shape}, expected 2 (n, d)")
    return array


def _comes_from(x: Any, package: str) -> bool:
    """Return whether a class of ``x`` is defined in ``package``, which need not be importable."""
    return any(cls.__module__.partition(".")[0] == package for cls in type(x).__mro__)


def _from_torch(x: Any, name: str) -> np.ndarray:
    import torch  # whoever made x has imported it already

    try:
        tensor = x.detach().cpu()
        if tensor.is_floating_point() and tensor.dtype not in (torch.float16, torch.float32, torch.float64):
            tensor = tensor.float()  # NumPy has no bfloat16 and no 8-bit floats
        return tensor.resolve_conj().resolve_neg().numpy()
    except (TypeError, RuntimeError) as error:  # sparse, quantized, without storage
        raise DtypeError(f"{name}: torch tensor of {x.layout}, {x.dtype}, expected a dense tensor") from error


def _from_list(rows: list[Any] | tuple[Any, ...], dim: int | None, name: str) -> np.ndarray:
    if not rows and dim is not None:
        return np.empty((0, dim), dtype=np.float32)
    if rows and _comes_from(rows[0], "torch"):
        rows = [_from_torch(row, name) for row in rows]
    try:
        array = np.array(rows)  # without a dtype: with one, NumPy would parse strings and round booleans
    except ValueError as error:
        raise ShapeError(f"{name}: rows of different lengths, expected (n, d)") from error
    if array.dtype.kind in "iu" and array.dtype.itemsize > 1:
        return array.astype(np.float64)
    return array


def _from_array_like(x: Any, name: str) -> np.ndarray:
    if isinstance(x, np.ma.MaskedArray) and np.ma.is_masked(x):
        raise DtypeError(f"{name}: masked values, expected a number in every place")
    if not isinstance(x, np.ndarray) and not hasattr(x, "__array__"):
        raise DtypeError(f"{name}: {type(x).__name__}, expected an array (n, d) of {', '.join(_ACCEPTED)}")
    array = np.asarray(x)
    if array.dtype == object and array.ndim and array.size == len(array) > 0:  # a column of arrays
        return _from_column(array.reshape(-1), name)
    return array


def _from_column(column: np.ndarray, name: str) -> np.ndarray:
    """Return a column (n,) of arrays or lists of numbers as the rows of a matrix."""
    rows = [np.asarray(row) for row in column.tolist()]
    for number, row in enumerate(rows):
        if row.ndim != 1 or row.dtype.kind not in "fiu":
            raise DtypeError(f"{name}: row {number} is {type(column[number]).__name__}, expected a list of numbers")
        if len(row) != len(rows[0]):
            raise ShapeError(f"{name}: row {number} has length {len(row)}, rows before have {len(rows[0])}")
    return _from_list(rows, None, name)


def _as_arrow(x: Any) -> Any:
    """Return the Arrow column, or table with a column of vectors, that a foreign data frame or series exports."""
    if isinstance(x, np.ndarray) or not hasattr(x, "__arrow_c_stream__") or _comes_from(x, "pyarrow"):
        return x
    import pyarrow as pa

    from annvq.io.columns import is_vector_type

    try:
        exported = pa.table(x) if hasattr(x, "columns") else pa.chunked_array(x)
    except (pa.ArrowException, TypeError, ValueError, OverflowError):  # of pandas' objects; NumPy may take them
        return x
    types = exported.schema.types if isinstance(exported, pa.Table) else [exported.type]
    return exported if any(is_vector_type(kind) for kind in types) else x


def _arrow_source(x: Any, name: str, first_row: int) -> VectorSource:
    from annvq.io.arrow import source_of

    return source_of(x, name, first_row)


def _is_batches(x: Any) -> bool:
    """Return whether ``x`` is an iterable of batches: an iterator, or a list of matrices."""
    if isinstance(x, list | tuple):
        return len(x) > 0 and (getattr(x[0], "ndim", None) == 2 or _comes_from(x[0], "pyarrow"))
    return isinstance(x, Iterable) and not hasattr(x, "__array__") and not isinstance(x, str | bytes | dict)


def _blocks(x: Iterable[Any], dim: int | None, name: str) -> Iterator[np.ndarray]:
    """Yield the batches of an iterable as arrays, of the same dimension throughout."""
    row = 0
    for batch in x:
        if _is_batches(batch) and not _comes_from(batch, "pyarrow") and not isinstance(batch, VectorSource):
            # A sparse matrix ends here, too: its rows are sparse matrices, whose rows are sparse matrices again.
            raise DtypeError(f"{name}: batches of {type(batch).__name__}, expected dense matrices (n, d)")
        source = as_source(batch, dim=dim, name=name, first_row=row)
        dim = source.dim
        for block in source.batches(_WHOLE):
            row += len(block)
            yield block


def _to_float32(raw: np.ndarray) -> np.ndarray:
    with np.errstate(over="ignore"):  # found by the finite check
        return np.array(raw, dtype=_FLOAT32, order="C")


# Checks


def _check_shape(array: np.ndarray, dim: int | None, name: str, allow_empty: bool) -> None:
    n, d = array.shape
    _check_dim(d, dim, name)
    if n == 0 and not allow_empty:
        raise ShapeError(f"{name}: 0 rows, expected at least 1")


def _check_dim(d: int, dim: int | None, name: str) -> None:
    if dim is not None and d != dim:
        raise ShapeError(f"{name}: dimension {d}, expected {dim}")
    if d == 0:
        raise ShapeError(f"{name}: dimension 0, expected at least 1")


def _check_lengths(matrix: np.ndarray, name: str, first_row: int, longest: float) -> None:
    step = max(1, _BLOCK_BYTES // max(1, 8 * matrix.shape[1]))
    for start in range(0, len(matrix), step):
        block = matrix[start : start + step].astype(np.float64)
        lengths = np.sqrt(np.einsum("ij,ij->i", block, block))
        too_long = np.flatnonzero(lengths > longest)
        if len(too_long):
            row, length = first_row + start + int(too_long[0]), lengths[too_long[0]]
            raise NonFiniteError(
                f"{name}: row {row} is {length:.3g} long, of which squares overflow float32; "
                f"expected at most {longest:.3g}: scale the vectors down"
            )


def _raise_non_finite(raw: np.ndarray, matrix: np.ndarray, row: int, first_row: int, name: str) -> None:
    if np.isfinite(np.asarray(raw[row], dtype=np.float64)).all():
        raise NonFiniteError(f"{name}: row {first_row + row} holds a value too large for float32")
    step = max(1, _BLOCK_BYTES // max(1, 4 * matrix.shape[1]))
    blocks = (matrix[start : start + step] for start in range(row, len(matrix), step))
    count = sum(int(np.count_nonzero(~np.isfinite(block).all(axis=1))) for block in blocks)
    raise NonFiniteError(
        f"{name}: row {first_row + row} holds NaN or infinity ({count} of {len(matrix)} rows do); "
        "expected finite numbers"
    )
