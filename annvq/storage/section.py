"""Sections of a container, and the table that lists them: name, dtype, shape, place and checksum."""

from __future__ import annotations

import json
import math
import re
import zlib
from dataclasses import dataclass
from typing import Any

import numpy as np

from annvq.errors import ParameterError
from annvq.storage import strictjson

ALIGN = 64
MOST_TABLE_BYTES = 1 << 20
_MOST_AXES = 8
_MOST_COUNT = 1 << 62  # offsets and sizes stay far from what 64 bits hold
_NAME = re.compile(r"[a-z][a-z0-9_.]{0,63}")
# Little-endian everywhere; single bytes have no order. NumPy writes them as "|u1" and "<u4".
DTYPES = {
    dtype.str: dtype
    for dtype in (np.dtype(code).newbyteorder("<") for code in "u1 u2 u4 u8 i1 i2 i4 i8 f2 f4 f8".split())
}


@dataclass(frozen=True)
class Section:
    """Where an array lies in a container; ``crc`` covers its bytes and the zeros after them."""

    name: str
    dtype: np.dtype
    shape: tuple[int, ...]
    offset: int
    nbytes: int
    crc: int

    @property
    def end(self) -> int:
        """Offset of what follows: the next section, or the table."""
        return self.offset + self.nbytes + padding(self.nbytes)

    @classmethod
    def of(cls, name: str, array: np.ndarray, offset: int) -> Section:
        """Describe a `storable` array that is to lie at ``offset``."""
        crc = zlib.crc32(bytes(padding(array.nbytes)), zlib.crc32(raw_bytes(array)))
        return cls(name, array.dtype, array.shape, offset, array.nbytes, crc)


def padding(nbytes: int) -> int:
    """Return the number of bytes missing to a multiple of 64."""
    return -nbytes % ALIGN


def storable(name: str, array: np.ndarray) -> np.ndarray:
    """Return an array as it lies in a file, C-contiguous and little-endian (ParameterError if it cannot be stored)."""
    if not _NAME.fullmatch(name):
        raise ParameterError(f"section name {name!r}: expected up to 64 of a-z, 0-9, _ and ., first a letter")
    array = np.asarray(array, order="C")  # np.ascontiguousarray would give a scalar an axis
    dtype = array.dtype.newbyteorder("<")
    if dtype.str not in DTYPES:
        raise ParameterError(f"section {name}: dtype {array.dtype} cannot be stored, only {', '.join(DTYPES)}")
    if array.ndim > _MOST_AXES:
        raise ParameterError(f"section {name}: {array.ndim} axes, at most {_MOST_AXES} can be stored")
    return array.astype(dtype, copy=False)


def raw_bytes(array: np.ndarray) -> memoryview:
    """Return the bytes of a C-contiguous array, not copied."""
    return array.reshape(-1).view(np.uint8).data


def table_bytes(sections: list[Section]) -> bytes:
    """Return the section table as it stands in the file, padded with spaces to a multiple of 64."""
    rows = [
        {
            "name": section.name,
            "dtype": section.dtype.str,
            "shape": section.shape,
            "offset": section.offset,
            "bytes": section.nbytes,
            "crc32": section.crc,
        }
        for section in sections
    ]
    text = json.dumps(rows, separators=(",", ":")).encode()
    text += b" " * padding(len(text))
    if len(text) > MOST_TABLE_BYTES:
        raise ParameterError(f"{len(sections)} sections are more than one file's table holds")
    return text


def parse_table(text: bytes, end: int) -> tuple[Section, ...]:
    """Parse a section table; ValueError is raised unless its sections fill the file from byte 64 to ``end``."""
    rows = strictjson.parse(text)
    if not isinstance(rows, list):
        raise ValueError("not a list")
    sections = tuple(_section(row) for row in rows)
    if len({section.name for section in sections}) != len(sections):
        raise ValueError("a section is there twice")
    at = ALIGN
    for section in sections:
        if section.offset != at:
            raise ValueError(f"section {section.name} begins at {section.offset}, not at {at}")
        at = section.end
    if at != end:
        raise ValueError(f"sections end at {at}, the table begins at {end}")
    return sections


def _section(row: Any) -> Section:
    if not isinstance(row, dict):
        raise ValueError("a row that is not an object")
    lacking = {"name", "dtype", "shape", "offset", "bytes", "crc32"} - row.keys()
    if lacking:
        raise ValueError(f"a row without {min(lacking)}")
    name, dtype, shape = row["name"], row["dtype"], row["shape"]
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise ValueError(f"section name {name!r:.80}")
    if not isinstance(dtype, str) or dtype not in DTYPES:
        raise ValueError(f"section {name}: dtype {dtype!r:.80}")
    if not isinstance(shape, list) or len(shape) > _MOST_AXES:
        raise ValueError(f"section {name}: shape {shape!r:.80}")
    numbers = [row["offset"], row["bytes"], row["crc32"], *shape]
    if not all(type(number) is int and 0 <= number < _MOST_COUNT for number in numbers):
        raise ValueError(f"section {name}: counts {numbers!r:.80}")
    itemsize = DTYPES[dtype].itemsize
    # NumPy multiplies the other axes of an empty array, too, and refuses a product beyond 63 bits.
    if math.prod(max(1, length) for length in shape) * itemsize >= _MOST_COUNT:
        raise ValueError(f"section {name}: shape {shape!r:.80}")
    if math.prod(shape) * itemsize != row["bytes"]:
        raise ValueError(f"section {name}: {row['bytes']} bytes for {dtype} of shape {shape}")
    return Section(name, DTYPES[dtype], tuple(shape), row["offset"], row["bytes"], row["crc32"])
