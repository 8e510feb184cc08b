"""Codes as Arrow columns and files, packed to the bits they need."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from annvq.arguments import as_count, as_file, as_path
from annvq.errors import DataFormatError, DtypeError, ParameterError, ShapeError
from annvq.io.arrow_messages import messages
from annvq.io.replacing import replacing
from annvq.learn.runtime import torch
from annvq.tokenizers.tokenizer import is_integers

if TYPE_CHECKING:
    import pyarrow as pa
    from torch import Tensor

_COLUMN = "codes"
_KEY = b"annvq.codes"
_ROWS_OF_BITS = 1 << 24  # bits that are unpacked at a time
_DTYPES = (np.uint8, np.uint16, np.uint32, np.uint64)


@dataclass(frozen=True)
class CodesLayout:
    """How rows of codes lie in an Arrow column.

    Parameters
    ----------
    codebook_size
        Codes are 0 to this less 1.
    shape
        Shape of the codes of a row, without the first axis.
    packed
        Whether they are packed to bits, the lowest bit of the first code first. Else a row is a list of the smallest
        unsigned integers, null where a code is -1.

    """

    codebook_size: int
    shape: tuple[int, ...]
    packed: bool

    @property
    def bits(self) -> int:
        """Bits of a packed code."""
        return max(1, (self.codebook_size - 1).bit_length())

    @property
    def width(self) -> int:
        """Codes of a row."""
        return math.prod(self.shape)

    @property
    def row_bytes(self) -> int:
        """Bytes of a row, offsets and nulls apart."""
        return -(-self.width * self.bits // 8) if self.packed else self.width * np.dtype(self.dtype).itemsize

    @property
    def dtype(self) -> Any:
        """The smallest unsigned integers that hold the codes."""
        return next(dtype for dtype in _DTYPES if self.codebook_size - 1 <= np.iinfo(dtype).max)

    def schema(self) -> pa.Schema:
        """Return the Arrow schema, with this layout as its metadata."""
        import pyarrow as pa

        kind = pa.binary(self.row_bytes) if self.packed else pa.list_(pa.from_numpy_dtype(self.dtype), self.width)
        return pa.schema([pa.field(_COLUMN, kind)], {_KEY: json.dumps(asdict(self)).encode()})

    @classmethod
    def of(cls, schema: pa.Schema) -> CodesLayout:
        """Return the layout that a schema names; DataFormatError if it names none, or another one."""
        try:
            stored = json.loads((schema.metadata or {})[_KEY])
            shape = tuple(as_count("shape", length) for length in stored["shape"])
            size = as_count("codebook_size", stored["codebook_size"], most=1 << 62)
            layout = cls(size, shape, bool(stored["packed"]))
            fits = layout.width < 1 << 31 and schema.equals(layout.schema(), check_metadata=False)
        except (KeyError, TypeError, ValueError, OverflowError, RecursionError) as error:
            raise DataFormatError(f"no Arrow data of codes: {type(error).__name__}: {error}") from error
        if not fits:
            raise DataFormatError(f"Arrow data {schema.types} that are not the {layout} they should be")
        return layout


def codes_to_arrow(codes: Tensor, codebook_size: int, *, packed: bool = False) -> pa.RecordBatch:
    """Return codes as one column of an Arrow record batch, whose metadata say how to read them.

    Parameters
    ----------
    codes
        (n, ...) of an integer dtype: 0 to codebook_size - 1, or -1 if not packed.
    codebook_size
        That of the tokenizer.
    packed
        Whether to pack them to the bits they need.

    Raises
    ------
    ShapeError, DtypeError, ParameterError
        These are not codes (n, ...), or some lie outside codebook_size.

    """
    if not is_integers(codes):
        raise DtypeError("codes: expected a torch tensor of an integer dtype")
    if not codes.ndim or 0 in codes.shape[1:]:
        raise ShapeError(f"codes: shape {tuple(codes.shape)}, expected (n, ...) with at least one code a row")
    size = as_count("codebook_size", codebook_size, most=1 << 62)
    layout = CodesLayout(size, tuple(codes.shape[1:]), bool(packed))
    values = codes.detach().cpu().long().numpy().reshape(len(codes), layout.width)
    least = 0 if packed else -1
    if values.size and not (values.min() >= least and values.max() < size):
        hint = "; masked codes cannot be packed" if packed else ""
        raise ParameterError(f"codes from {values.min()} to {values.max()}, expected {least} to {size - 1}{hint}")
    return _batch(values, layout)


def _batch(values: np.ndarray, layout: CodesLayout) -> pa.RecordBatch:
    import pyarrow as pa

    schema = layout.schema()
    if layout.packed:
        rows = np.ascontiguousarray(_packed(values, layout))
        column = pa.FixedSizeBinaryArray.from_buffers(schema.field(0).type, len(values), [None, pa.py_buffer(rows)])
    else:
        nulls = values < 0
        flat = pa.array(np.where(nulls, 0, values).astype(layout.dtype).ravel(), mask=nulls.ravel())
        column = pa.FixedSizeListArray.from_arrays(flat, layout.width)
        column = column.cast(schema.field(0).type)
    return pa.RecordBatch.from_arrays([column], schema=schema)


def codes_from_arrow(batch: pa.RecordBatch | pa.Table) -> Tensor:
    """Return the codes (n, ...) int64 that `codes_to_arrow` stored.

    Raises
    ------
    DataFormatError
        The data is other Arrow data, or holds codes that the codebook does not have.

    """
    layout = CodesLayout.of(batch.schema)
    column = batch.column(0)
    chunks = column.chunks if hasattr(column, "chunks") else [column]
    found = [_values(chunk, layout) for chunk in chunks]
    values = np.concatenate(found) if found else np.zeros((0, layout.width), np.int64)
    if values.size and not values.max() < layout.codebook_size:
        raise DataFormatError(f"a code {values.max()} of a codebook of {layout.codebook_size}")
    return torch.from_numpy(values.reshape(len(values), *layout.shape))


def _values(chunk: Any, layout: CodesLayout) -> np.ndarray:
    if chunk.null_count:
        raise DataFormatError(f"{chunk.null_count} rows of codes are null")
    if layout.packed:
        whole = np.frombuffer(chunk.buffers()[1] or b"", np.uint8)
        start = chunk.offset * layout.row_bytes
        rows = whole[start : start + len(chunk) * layout.row_bytes].reshape(len(chunk), layout.row_bytes)
        return _unpacked(rows, layout)
    flat = chunk.flatten()
    values = flat.fill_null(0).to_numpy(zero_copy_only=False).astype(np.int64)
    if flat.null_count:
        values[flat.is_null().to_numpy(zero_copy_only=False)] = -1
    return values.reshape(len(chunk), layout.width)


def _steps(n: int, layout: CodesLayout) -> Iterator[slice]:
    step = max(1, _ROWS_OF_BITS // (layout.width * layout.bits))
    return (slice(start, start + step) for start in range(0, n, step))


def _packed(values: np.ndarray, layout: CodesLayout) -> np.ndarray:
    """Return rows (n, row_bytes) uint8 of codes (n, width)."""
    rows = np.empty((len(values), layout.row_bytes), np.uint8)
    places = np.arange(layout.bits)
    for part in _steps(len(values), layout):
        bits = (values[part, :, None] >> places & 1).astype(np.uint8)
        rows[part] = np.packbits(bits.reshape(len(bits), -1), axis=1, bitorder="little")
    return rows


def _unpacked(rows: np.ndarray, layout: CodesLayout) -> np.ndarray:
    values = np.empty((len(rows), layout.width), np.int64)
    weights = 1 << np.arange(layout.bits, dtype=np.int64)
    count = layout.width * layout.bits
    for part in _steps(len(rows), layout):
        bits = np.unpackbits(rows[part], axis=1, count=count, bitorder="little")
        values[part] = bits.reshape(-1, layout.width, layout.bits) @ weights
    return values


def write_codes(
    path: str | os.PathLike[str], batches: Iterable[Tensor], codebook_size: int, *, packed: bool = False
) -> int:
    """Write batches of codes to an Arrow IPC file, one at a time in memory; return how many rows.

    Parameters
    ----------
    path
        The file, which appears only once it is complete.
    batches
        At least one batch of codes (n, ...), as for `codes_to_arrow`; they have the same shape except for n.
    codebook_size, packed
        The same as for `codes_to_arrow`.

    Raises
    ------
    ShapeError, DtypeError, ParameterError
        There are no batches, or their shapes differ, or as for `codes_to_arrow`.

    Examples
    --------
    >>> import torch
    >>> batches = [torch.randint(256, (100, 16)) for _ in range(3)]
    >>> annvq.tokenizers.write_codes("codes.arrow", batches, 256, packed=True)
    300
    >>> sum(len(batch) for batch in annvq.tokenizers.read_codes("codes.arrow"))
    300

    """
    import pyarrow as pa

    rows, schema, writer = 0, None, None
    with replacing(as_path(path)) as partial, open(partial, "wb") as opened:
        try:
            for codes in batches:
                batch = codes_to_arrow(codes, codebook_size, packed=packed)
                if writer is None:
                    schema = batch.schema
                    writer = pa.ipc.new_file(opened, schema)
                if not batch.schema.equals(schema, check_metadata=True):
                    raise ShapeError(f"codes of shape {tuple(codes.shape)} after others of {CodesLayout.of(schema)}")
                writer.write_batch(batch)
                rows += len(codes)
        finally:
            if writer is not None:
                writer.close()
        if writer is None:
            raise ParameterError("no batches of codes, so their shape is not known")
    return rows


def read_codes(path: str | os.PathLike[str]) -> Iterator[Tensor]:
    """Yield the batches (n, ...) int64 of a file that `write_codes` wrote, memory-mapped, one at a time.

    Raises
    ------
    DataFormatError
        The file is damaged, or something else.
    OSError
        It cannot be read.

    Examples
    --------
    >>> import torch
    >>> codes = torch.randint(256, (100, 16))
    >>> annvq.tokenizers.write_codes("codes.arrow", [codes], 256)
    100
    >>> torch.equal(next(annvq.tokenizers.read_codes("codes.arrow")), codes)
    True

    """
    import pyarrow as pa

    place = as_file(path)
    with pa.memory_map(os.fspath(place)) as mapped:
        try:
            found = messages(mapped.read_buffer())
            schema = pa.ipc.read_schema(next(found))
            CodesLayout.of(schema)
            for message in found:
                batch = pa.ipc.read_record_batch(message, schema)
                batch.validate(full=True)
                yield codes_from_arrow(batch)
        except (pa.ArrowException, StopIteration, DataFormatError) as error:
            raise DataFormatError(f"{place}: {error}") from error
