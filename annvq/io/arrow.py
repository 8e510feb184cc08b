"""Parquet files, Arrow IPC files and streams, and Arrow tables in memory.

A file is read by row group or record batch, and only the vector column and the id column are decoded.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from annvq.errors import DataFormatError, DtypeError, ParameterError, ShapeError
from annvq.io.columns import id_column_of, ids_of, matrix_of, vector_column_of, vector_dim
from annvq.io.replacing import replacing
from annvq.io.source import ChunkedSource, StreamSource, VectorSource

PARQUET = (".parquet", ".pq")
_FILE_MAGIC = b"ARROW1"
_ROW_GROUP_BYTES = 1 << 26  # of vectors in a row group that we write


def open_file(path: Path, vector_column: str | None, id_column: str | None) -> VectorSource:
    """Return the vectors of a Parquet or Arrow IPC file.

    Parameters
    ----------
    path
        A .parquet or .pq file, or else an Arrow IPC file (Feather 2) or stream.
    vector_column
        By default the only column that can hold vectors.
    id_column
        By default "id", if there is such a column.

    Raises
    ------
    DataFormatError
        The file is damaged, or the column holds nulls or lists of different lengths.
    ParameterError
        The named columns do not exist, or none can be chosen.

    """
    with _as_format_errors(path):
        if path.suffix.lower() in PARQUET:
            return _open_parquet(path, vector_column, id_column)
        return _open_ipc(path, vector_column, id_column)


def read_single(path: Path, vector_column: str | None) -> np.ndarray | None:
    """Return the numbers (d,) of the floating-point column that is named or the only one, or None."""
    with _as_format_errors(path):
        schema = _schema_of(path)
        name = schema.names[0] if vector_column is None and len(schema) == 1 else vector_column
        if name is None or name not in schema.names or not pa.types.is_floating(schema.types[_index(schema, name)]):
            return None
        if path.suffix.lower() in PARQUET:
            with pq.ParquetFile(path) as file:
                column = _column(file.read(columns=[name]), name)
        else:
            with _record_batches(path) as (_, batches):
                column = pa.chunked_array(
                    [_column(batch, name) for batch in batches], schema.field(_index(schema, name)).type
                )
        column.validate(full=True)
        flat = column.combine_chunks()
        return matrix_of(pa.FixedSizeListArray.from_arrays(flat, len(flat)), name)[0] if len(flat) else None


def schema_of(path: Path) -> pa.Schema:
    """Return the schema of a Parquet or Arrow IPC file (DataFormatError)."""
    with _as_format_errors(path):
        return _schema_of(path)


def _schema_of(path: Path) -> pa.Schema:
    if path.suffix.lower() in PARQUET:
        return pq.read_schema(path)
    with _record_batches(path) as (schema, _):
        return schema


def read_columns(path: Path, names: Sequence[str]) -> pa.Table:
    """Return some columns of a Parquet or Arrow IPC file, in this order.

    Raises
    ------
    ParameterError
        There is no such column.
    DataFormatError
        The file is damaged.

    """
    with _as_format_errors(path):
        schema = _schema_of(path)
        if absent := [name for name in names if name not in schema.names]:
            raise ParameterError(f"{path}: no column {absent[0]!r}; columns: {', '.join(schema.names)}")
        if path.suffix.lower() in PARQUET:
            with pq.ParquetFile(path) as file:
                table = file.read(columns=list(names))
        else:
            with _record_batches(path) as (_, batches):
                table = pa.Table.from_batches(list(batches), schema)
        table = pa.table({name: _column(table, name) for name in names})
        table.validate(full=True)
        return table


def row_count(path: Path) -> int:
    """Return the number of rows of a Parquet or Arrow IPC file (DataFormatError)."""
    with _as_format_errors(path):
        if path.suffix.lower() in PARQUET:
            return pq.read_metadata(path).num_rows
        with _record_batches(path) as (_, batches):
            return sum(batch.num_rows for batch in batches)


def column_parts(path: Path, name: str, rows: int) -> Iterator[pa.Array]:
    """Yield a column of a Parquet or Arrow IPC file in parts of at most ``rows`` rows (DataFormatError)."""
    with _as_format_errors(path):
        if path.suffix.lower() in PARQUET:
            with pq.ParquetFile(path) as file:
                yield from (_column(batch, name) for batch in file.iter_batches(rows, columns=[name]))
            return
        with _record_batches(path) as (_, batches):
            for batch in batches:
                column = _column(batch, name)
                column.validate(full=True)  # offsets from a file may point anywhere
                yield from (column.slice(start, rows) for start in range(0, len(column), rows))


def source_of(x: Any, name: str, first_row: int = 0) -> VectorSource:
    """Return the vectors of an Arrow column, record batch, table or record batch reader, which is read once.

    ``first_row`` is the number of the first row in messages.
    """
    if isinstance(x, pa.RecordBatchReader):
        return StreamSource(_stream(x, name, first_row))
    if isinstance(x, pa.Table | pa.RecordBatch):
        return _columns_source(_column(x, vector_column_of(x.schema)), _id_loader(x), name, first_row)
    if isinstance(x, pa.Array | pa.ChunkedArray):
        return _columns_source(x, _no_ids, name, first_row)
    raise DtypeError(f"{name}: {type(x).__name__}, expected an Arrow column, table or record batch reader")


def _stream(batches: pa.RecordBatchReader, name: str, row: int) -> Iterator[np.ndarray]:
    column, dim = vector_column_of(batches.schema), None
    for batch in batches:
        if len(batch):
            matrix = matrix_of(_column(batch, column), name, dim=dim, first_row=row)
            row, dim = row + len(matrix), matrix.shape[1]
            yield matrix


def _columns_source(
    column: pa.Array | pa.ChunkedArray, load_ids: Callable[[], np.ndarray | None], name: str, first_row: int
) -> VectorSource:
    chunks = column.chunks if isinstance(column, pa.ChunkedArray) else [column]

    def read(chunk: int, rows: int) -> Iterator[pa.Array]:
        yield chunks[chunk]

    return _chunked_source([len(chunk) for chunk in chunks], column.type, read, load_ids, name, first_row)


def _id_loader(table: pa.Table | pa.RecordBatch) -> Callable[[], np.ndarray | None]:
    ids = id_column_of(table.schema)
    return _no_ids if ids is None else lambda: ids_of(table.column(ids), ids)


def write_file(path: Path, vectors: np.ndarray, ids: np.ndarray | None) -> None:
    """Write columns "id" (if ids are given) and "vector" to a Parquet or an Arrow IPC file.

    Raises
    ------
    DtypeError
        Arrow lacks the dtype, for instance 128-bit floats.

    """
    native = np.ascontiguousarray(vectors, dtype=vectors.dtype.newbyteorder("="))
    try:
        flat = pa.array(native.reshape(-1))
    except pa.ArrowNotImplementedError as error:
        raise DtypeError(f"vectors of dtype {vectors.dtype} do not fit Arrow: {error}") from error
    columns = {} if ids is None else {"id": pa.array(ids)}
    table = pa.table(columns | {"vector": pa.FixedSizeListArray.from_arrays(flat, vectors.shape[1])})
    rows = max(1, _ROW_GROUP_BYTES // (vectors.shape[1] * vectors.itemsize))
    with replacing(path) as temporary:
        if path.suffix.lower() in PARQUET:
            # Neither dictionaries nor general compression pay off for floats.
            pq.write_table(table, temporary, row_group_size=rows, compression="none", use_dictionary=False)
            return
        with pa.OSFile(os.fspath(temporary), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
            writer.write_table(table, max_chunksize=rows)


def _no_ids() -> np.ndarray | None:
    return None


def _open_parquet(path: Path, vector_column: str | None, id_column: str | None) -> VectorSource:
    with pq.ParquetFile(path) as file:
        schema = file.schema_arrow
        lengths = [file.metadata.row_group(i).num_rows for i in range(file.num_row_groups)]
    vectors, ids = vector_column_of(schema, vector_column), id_column_of(schema, id_column)

    def read(chunk: int, rows: int) -> Iterator[pa.Array]:
        with pq.ParquetFile(path) as file:
            for batch in file.iter_batches(min(rows, max(1, lengths[chunk])), [chunk], columns=[vectors]):
                yield _column(batch, vectors)

    def load_ids() -> np.ndarray | None:
        with _as_format_errors(path), pq.ParquetFile(path) as file:
            return None if ids is None else ids_of(_column(file.read(columns=[ids]), ids), ids)

    return _chunked_source(lengths, schema.field(_index(schema, vectors)).type, read, load_ids, vectors, path=path)


def _column(read: pa.Table | pa.RecordBatch, name: str) -> Any:
    """Return the column ``name`` of what Parquet read for it; "a.b" also makes it read fields b of structs a."""
    return read.column(_index(read.schema, name))


def _index(schema: pa.Schema, name: str) -> int:
    """Return the index of the first column of a name; Arrow itself finds none if the name is there twice."""
    return schema.names.index(name)


def _open_ipc(path: Path, vector_column: str | None, id_column: str | None) -> VectorSource:
    with _record_batches(path) as (schema, batches):
        lengths = [batch.num_rows for batch in batches]
    vectors, ids = vector_column_of(schema, vector_column), id_column_of(schema, id_column)
    if not _has_footer(path):  # a stream can only be read from its beginning, so it is one chunk
        lengths = [sum(lengths)]

    def read(chunk: int, rows: int) -> Iterator[pa.Array]:
        only = chunk if _has_footer(path) else None
        with _record_batches(path, only) as (_, batches):
            for batch in batches:
                column = _column(batch, vectors)
                column.validate(full=True)  # offsets from a file may point anywhere
                yield column

    def load_ids() -> np.ndarray | None:
        if ids is None:
            return None
        with _as_format_errors(path), _record_batches(path) as (_, batches):
            column = pa.chunked_array(
                [_column(batch, ids) for batch in batches], schema.field(_index(schema, ids)).type
            )
            column.validate(full=True)
            return ids_of(column, ids)

    return _chunked_source(lengths, schema.field(_index(schema, vectors)).type, read, load_ids, vectors, path=path)


def _has_footer(path: Path) -> bool:
    """Return whether an Arrow file is in the file format; streams have no magic and no footer."""
    with open(path, "rb") as file:
        return file.read(len(_FILE_MAGIC)) == _FILE_MAGIC


@contextmanager
def _record_batches(path: Path, only: int | None = None) -> Iterator[tuple[pa.Schema, Iterator[pa.RecordBatch]]]:
    """Map an IPC file or stream; return its schema and all record batches, or ``only`` one of a file."""
    with pa.memory_map(os.fspath(path)) as mapped:
        if not _has_footer(path):
            stream = pa.ipc.open_stream(mapped)
            yield stream.schema, iter(stream)
            return
        reader = pa.ipc.open_file(mapped)
        numbers = range(reader.num_record_batches) if only is None else (only,)
        yield reader.schema, (reader.get_batch(i) for i in numbers)


def _chunked_source(
    lengths: list[int],
    kind: pa.DataType,
    read: Callable[[int, int], Iterator[pa.Array]],
    load_ids: Callable[[], np.ndarray | None],
    name: str,
    first_row: int = 0,
    path: Path | None = None,
) -> ChunkedSource:
    """Return the source, with the dimension that the type declares or else the first row has.

    ``read(chunk, rows)`` yields the columns of a chunk, which are cut to ``rows`` rows here. If there is a file,
    anything wrong with them is an error of its format.
    """
    starts = np.cumsum([first_row, *lengths]).tolist()

    def matrices(chunk: int, rows: int, dim: int | None) -> Iterator[np.ndarray]:
        row = starts[chunk]
        with nullcontext() if path is None else _as_format_errors(path):
            for column in read(chunk, rows):
                for start in range(0, len(column), rows):
                    yield matrix_of(column.slice(start, rows), name, dim=dim, first_row=row + start)
                row += len(column)

    dim = vector_dim(kind)
    if dim is None:
        first = next((chunk for chunk, length in enumerate(lengths) if length), None)
        if first is None:
            raise ShapeError(f"no rows in a column of {kind}, so the dimension is not known")
        block = next(matrices(first, 1, None), None)
        if block is None:
            raise ShapeError(f"{name}: no rows where {lengths[first]} were announced")
        dim = block.shape[1]
    return ChunkedSource(lengths, dim, lambda chunk, rows: matrices(chunk, rows, dim), load_ids)


@contextmanager
def _as_format_errors(path: Path) -> Iterator[None]:
    """Turn what Arrow raises on damaged files into DataFormatError; a missing file stays OSError."""
    try:
        yield
    except (pa.ArrowException, DtypeError, ShapeError, UnicodeDecodeError, KeyError) as error:
        raise DataFormatError(f"{path}: {error}") from error
    except OSError as error:
        if error.errno is not None:
            raise
        raise DataFormatError(f"{path}: {error}") from error
