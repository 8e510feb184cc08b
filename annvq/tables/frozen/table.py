"""A read-only table: rows and pooled rows with NumPy and Numba, without torch."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from typing import Any

import numpy as np

from annvq.arguments import as_file, as_path
from annvq.errors import CorruptIndexError, MissingExtraError, ParameterError, VersionError
from annvq.io.replacing import replacing
from annvq.kernels.embeddings import embedding
from annvq.kernels.registers.tiles import readonly
from annvq.tables.frozen.form import LARGEST_DIM, Form
from annvq.tables.frozen.ids import as_bags, as_weights, row_ids
from annvq.tables.frozen.kinds import KINDS

MODES = {"sum": embedding.SUM, "mean": embedding.MEAN, "max": embedding.MAX}
_FORMAT = 1
_KEY = "annvq.table"
_MOST_ROWS = 2**62


@dataclass(frozen=True, eq=False)
class FrozenTable:
    """An embedding table ready for inference.

    Parameters
    ----------
    method
        Name of the class that made it.
    form
        Its arrays and how rows come from them.
    padding_idx
        The row that is zeros and does not count in bags, or None.

    Examples
    --------
    >>> table = annvq.tables.Hash(1000, 64, ratio=4).freeze()
    >>> table([3, 14]).shape, table.nbytes
    ((2, 64), 64000)

    """

    method: str
    form: Form
    padding_idx: int | None = None

    @property
    def num_embeddings(self) -> int:
        """Number of rows n."""
        return self.form.n

    @property
    def embedding_dim(self) -> int:
        """Dimension d of a row."""
        return self.form.d

    @property
    def nbytes(self) -> int:
        """Bytes of all arrays: what `save` writes besides a header."""
        return self.form.nbytes

    def __len__(self) -> int:
        return self.form.n

    def __repr__(self) -> str:
        return f"FrozenTable({self.method}, {self.form.n} x {self.form.d}, {self.nbytes:,} bytes)"

    def __call__(self, ids: Any) -> np.ndarray:
        """Return rows (..., d) float32 of ids (...) of any shape.

        Raises
        ------
        DtypeError, ParameterError
            Ids are not integers, or lie outside 0 .. n - 1.

        """
        given = row_ids(ids, self.form.n)
        flat = given.ravel()
        rows = self.form.rows(flat)
        if self.padding_idx is not None:
            rows[flat == self.padding_idx] = 0
        return rows.reshape(*given.shape, self.form.d)

    def bag(
        self,
        ids: Any,
        offsets: Any = None,
        *,
        weights: Any = None,
        mode: str = "mean",
        include_last_offset: bool = False,
    ) -> np.ndarray:
        """Return sums, means or maxima of rows, as torch.nn.EmbeddingBag does; empty bags are zeros.

        Parameters
        ----------
        ids
            (m,) with ``offsets``, or (bags, length).
        offsets
            (bags,): where each bag begins in ``ids``; with ``include_last_offset`` (bags + 1,).
        weights
            Factors of the ids' rows, of their shape, for mode "sum".
        mode
            "sum", "mean" or "max", as for torch.nn.EmbeddingBag; ids equal to ``padding_idx`` do not count.
        include_last_offset
            Whether the last of ``offsets`` is the end of the last bag and begins none.

        Returns
        -------
        pooled
            (bags, d) float32.

        Raises
        ------
        DtypeError, ShapeError, ParameterError
            Ids, offsets or weights are invalid, or do not match each other.

        """
        if mode not in MODES:
            raise ParameterError(f"mode must be one of {', '.join(MODES)}, not {mode!r}")
        given = row_ids(ids, self.form.n)
        factors = as_weights(weights, given, mode)
        flat, bounds = as_bags(given, offsets, include_last_offset)
        skip = np.empty(0, bool) if self.padding_idx is None else flat == self.padding_idx
        if mode == "sum" and not skip.any():
            pooled = self.form.sums(flat, bounds, factors)
            if pooled is not None:
                return pooled
        pooled = np.empty((len(bounds) - 1, self.form.d), np.float32)
        embedding.pool_rows(
            readonly(self.form.rows(flat)), readonly(bounds), factors, readonly(skip), MODES[mode], pooled
        )
        return pooled

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the table to one safetensors file, atomically.

        Raises
        ------
        OSError, MissingExtraError
            The file cannot be written; safetensors is not installed.

        """
        place = as_path(path)
        about = {
            "format": _FORMAT,
            "kind": self.form.kind,
            "method": self.method,
            "num_embeddings": self.form.n,
            "embedding_dim": self.form.d,
            "padding_idx": self.padding_idx,
            "settings": self.form.settings(),
        }
        arrays = {name: np.ascontiguousarray(array) for name, array in self.form.arrays().items()}
        save_file = _safetensors().numpy.save_file
        with replacing(place) as partial:
            save_file(arrays, str(partial), metadata={_KEY: json.dumps(about, allow_nan=False)})


def open_table(path: str | os.PathLike[str]) -> FrozenTable:
    """Return the table that `FrozenTable.save` or `Table.export` wrote.

    Raises
    ------
    CorruptIndexError, VersionError, DataFormatError, OSError
        The file is damaged; a newer version wrote it; it is not a regular file; it cannot be read.
    MissingExtraError
        safetensors is not installed.

    Examples
    --------
    >>> annvq.tables.Hash(1000, 64, ratio=4).export("table.safetensors")
    >>> annvq.tables.open("table.safetensors")([3, 14]).shape
    (2, 64)

    """
    place = as_file(path)
    with open(place, "rb"):  # a missing file is an OSError that names it
        pass
    try:
        with _safetensors().safe_open(str(place), framework="numpy") as opened:
            text = (opened.metadata() or {}).get(_KEY)
            arrays = {} if text is None else {name: opened.get_tensor(name) for name in opened.keys()}
    except MissingExtraError:
        raise
    except Exception as error:  # safetensors' own error class derives from Exception alone
        raise CorruptIndexError(f"{str(place)!r} is no safetensors file: {error}") from error
    if text is None:
        raise CorruptIndexError(f"{str(place)!r} holds no table of annvq")
    try:
        return _from_header(json.loads(text), arrays)
    except (CorruptIndexError, VersionError) as error:
        raise type(error)(f"{str(place)!r}: {error}") from None
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise CorruptIndexError(f"{str(place)!r}: the table's header cannot be read") from error


def _from_header(about: Any, arrays: dict[str, np.ndarray]) -> FrozenTable:
    if type(about["format"]) is not int or about["format"] > _FORMAT:
        raise VersionError(f"a table of format {about['format']!r}, this version reads {_FORMAT}")
    n, d, padding = about["num_embeddings"], about["embedding_dim"], about["padding_idx"]
    if not (type(n) is int and type(d) is int and 1 <= n <= _MOST_ROWS and 1 <= d <= LARGEST_DIM):
        raise CorruptIndexError(f"a table of {n!r} rows of {d!r}")
    if padding is not None and not (type(padding) is int and 0 <= padding < n):
        raise CorruptIndexError(f"padding_idx {padding!r} of a table of {n} rows")
    kind = KINDS.get(about["kind"])
    if kind is None:
        raise CorruptIndexError(f"a table of kind {about['kind']!r}, expected one of {', '.join(KINDS)}")
    form = kind.from_arrays(n, d, dict(about["settings"]), arrays)
    return FrozenTable(str(about["method"]), form, padding)


def _safetensors() -> Any:
    try:
        import safetensors
        import safetensors.numpy
    except ImportError:
        raise MissingExtraError("safetensors", "tables") from None
    return safetensors
