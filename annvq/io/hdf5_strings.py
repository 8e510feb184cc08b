"""Strings of any length in HDF5 files, read without libhdf5, which a damaged heap sends into an endless loop.

A dataset of such strings holds references of 16 bytes: length, address of a collection, number of an object in it. A
collection is "GCOL", version 1, its size, then objects: number, size, bytes padded to 8.
(HDF5 File Format Specification 3.0, III.E "Global heap".)
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from annvq.errors import DataFormatError

_SIGNATURE = b"GCOL\x01\0\0\0"
_HEADER = 16  # bytes of a collection's header, and of an object's
_ANY_LENGTH = (b"\x19", b"\x29", b"\x39", b"\x49")  # class 9 in versions 1 to 4 of types
_LONGEST = 1 << 16  # bytes of an attribute
_REFERENCE = np.dtype([("length", "<u4"), ("address", "<u8"), ("number", "<u4")])


def read_strings(dataset: Any, path: Path) -> list[bytes]:
    """Return the strings of a dataset of one axis; DataFormatError if it is damaged or stored through a filter."""
    if dataset.file.id.get_create_plist().get_sizes() != (8, 8):
        raise DataFormatError(f"{path}: {dataset.name} holds strings with addresses of other than 8 bytes")
    base = dataset.file.userblock_size
    with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as bytes_:
        references = _references(dataset, bytes_, path)
        if int(references["length"].sum(dtype=np.int64)) > len(bytes_):
            raise DataFormatError(f"{path}: {dataset.name} claims more text than the file holds")
        collections: dict[int, dict[int, tuple[int, int]]] = {}
        left, found = len(bytes_), []
        for length, address, number in references.tolist():
            if not length:
                found.append(b"")
                continue
            if address not in collections:
                size, collections[address] = _collection(bytes_, base + address, path)
                left -= size
                if left < 0:
                    raise DataFormatError(f"{path}: collections of strings that overlap")
            start, held = collections[address].get(number, (0, -1))
            if length > held:
                raise DataFormatError(f"{path}: {dataset.name} refers to a string that is not there")
            found.append(bytes_[start : start + length])
        return found


def check_collections(path: Path) -> None:
    """Check every collection of strings of a file before libhdf5 reads it (DataFormatError)."""
    with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as bytes_:
        place = bytes_.find(_SIGNATURE)
        while place >= 0:
            _collection(bytes_, place, path)
            place = bytes_.find(_SIGNATURE, place + 1)


def check_attribute(path: Path, name: str) -> None:
    """Check every attribute of a name that is a string of any length before libhdf5 follows it (DataFormatError)."""
    wanted = name.encode() + b"\0"
    with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as bytes_:
        place = bytes_.find(wanted)
        while place >= 0:
            for version, before in ((1, 8), (2, 8), (3, 9)):
                header = bytes_[max(0, place - before) : place]
                if len(header) == before and header[0] == version:
                    _check_message(bytes_, place, version, np.frombuffer(header[2:8], "<u2").tolist(), path)
            place = bytes_.find(wanted, place + 1)


def _check_message(bytes_: mmap.mmap, place: int, version: int, sizes: list[int], path: Path) -> None:
    """Check what follows the name of an attribute: the sizes of name, type and shape, which are padded in version 1."""
    name, kind, shape = (-(-size // 8) * 8 if version == 1 else size for size in sizes)
    if bytes_[place + name : place + name + 1] not in _ANY_LENGTH:
        return
    start = place + name + kind + shape
    length = int.from_bytes(bytes_[start : start + 4], "little")
    if length > _LONGEST:
        raise DataFormatError(f"{path}: an attribute that claims {length} bytes of text")


def _references(dataset: Any, bytes_: mmap.mmap, path: Path) -> np.ndarray:
    references = np.zeros(dataset.shape[0], _REFERENCE)
    for start, offset, count in _pieces(dataset, path):
        if offset + count * _REFERENCE.itemsize > len(bytes_):
            raise DataFormatError(f"{path}: truncated in {dataset.name}")
        references[start : start + count] = np.frombuffer(bytes_[offset : offset + count * 16], _REFERENCE)
    return references


def _pieces(dataset: Any, path: Path) -> Iterator[tuple[int, int, int]]:
    """Yield the first row of every piece, its place in the file and its number of references."""
    n = dataset.shape[0]
    if dataset.chunks is None:
        offset = dataset.id.get_offset()
        if offset is None:
            raise DataFormatError(f"{path}: {dataset.name} is not stored in one place or in chunks")
        yield 0, offset, n
        return
    if dataset.id.get_create_plist().get_nfilters():
        raise DataFormatError(
            f"{path}: {dataset.name} holds strings of any length through a filter: store them plainly, or fixed-length"
        )
    for number in range(dataset.id.get_num_chunks()):
        chunk = dataset.id.get_chunk_info(number)
        start = chunk.chunk_offset[0]
        yield start, chunk.byte_offset, min(dataset.chunks[0], n - start)


def _collection(bytes_: mmap.mmap, start: int, path: Path) -> tuple[int, dict[int, tuple[int, int]]]:
    """Return the size of a collection, and the start and size of its objects by number."""
    header = bytes_[start : start + _HEADER]
    size = int.from_bytes(header[8:], "little")
    if not header.startswith(_SIGNATURE) or start + size > len(bytes_) or size < _HEADER:
        raise DataFormatError(f"{path}: damaged collection of strings at byte {start}")
    place, end = start + _HEADER, start + size
    objects: dict[int, tuple[int, int]] = {}
    while place + _HEADER <= end:
        number = int.from_bytes(bytes_[place : place + 2], "little")
        length = int.from_bytes(bytes_[place + 8 : place + _HEADER], "little")
        is_free = number == 0  # to the end, its header included
        if (length != end - place) if is_free else (place + _HEADER + length > end or number in objects):
            raise DataFormatError(f"{path}: damaged collection of strings at byte {start}")
        if is_free:
            break
        objects[number] = (place + _HEADER, length)
        place += _HEADER + -(-length // 8) * 8
    return size, objects
