"""Containers and manifests made from docs/format.md alone, right or wrong as asked."""

import json
import struct
import uuid
import zlib

import numpy as np

INDEX = uuid.UUID(int=0x1234)
FILE = uuid.UUID(int=0x5678)
NAME = f"segment-{FILE.hex}.annvq"


def sealed(content):
    return content + struct.pack("<I", zlib.crc32(content))


def header(magic=b"ANNVQSEG", major=1, minor=0, kind=b"segment", index=INDEX.bytes, file=FILE.bytes):
    return sealed(struct.pack("<8sHH16s16s16s", magic, major, minor, kind, index, file))


def footer(start, length, crc, total, file=FILE.bytes, magic=b"GESQVNNA"):
    return sealed(struct.pack("<QQIQ16s8s8x", start, length, crc, total, file, magic))


def rows_and_body(arrays):
    """Return the section table's rows, and the sections' bytes."""
    rows, body = [], b""
    for name, array in arrays.items():
        content = array.tobytes() + bytes(-array.nbytes % 64)
        row = {"name": name, "dtype": array.dtype.str, "shape": list(array.shape), "offset": 64 + len(body)}
        rows.append({**row, "bytes": array.nbytes, "crc32": zlib.crc32(content)})
        body += content
    return rows, body


def with_table(text, body=b"", head=None, **ends):
    """Return a container with any bytes as its section table, padded; ``ends`` go into the footer."""
    text += b" " * (-len(text) % 64)
    start = 64 + len(body)
    fields = {"start": start, "length": len(text), "crc": zlib.crc32(text), "total": start + len(text) + 64}
    return (head or header()) + body + text + footer(**{**fields, **ends})


def container(arrays, head=None, **ends):
    rows, body = rows_and_body(arrays)
    return with_table(json.dumps(rows).encode(), body, head, **ends)


def manifest_of(raw, **changes):
    """Return the object of a manifest that names one container with these bytes."""
    table_crc = struct.unpack_from("<I", raw, len(raw) - 48)[0] if len(raw) >= 64 else 0
    file = {"name": NAME, "bytes": len(raw), "uuid": FILE.hex, "table_crc32": table_crc}
    body = {"magic": "annvq-index", "format": {"major": 1, "minor": 0}, "annvq": "0", "uuid": INDEX.hex}
    return {**body, "version": 1, "config": {}, "files": [file], **changes}


def manifest_text(rest):
    """Return a manifest's bytes, with its checksum, from those of its object."""
    rest = rest[1:] + b"\n"
    return b'{"crc32":"%08x",\n' % zlib.crc32(rest) + rest


def lay_out(folder, raw, **changes):
    """Write an index of one container."""
    folder.mkdir(exist_ok=True)
    (folder / NAME).write_bytes(raw)
    (folder / "manifest.json").write_bytes(manifest_text(json.dumps(manifest_of(raw, **changes)).encode()))
    return folder


ARRAYS = {
    "codes": np.arange(30, dtype=np.uint8).reshape(10, 3),
    "norms": np.linspace(0, 1, 20, dtype="<f4"),
    "none": np.empty((0, 7), "<i8"),
    "scalar": np.array(-5, "<i2"),
}
