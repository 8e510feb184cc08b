"""Codes in Arrow: as they were, in the bits that they need; damaged files are refused."""

import json

import numpy as np
import pytest

pytest.importorskip("torch")

import pyarrow as pa
import torch

from annvq.errors import DataFormatError, DtypeError, ParameterError, ShapeError
from annvq.tokenizers import BSQ, codes_from_arrow, codes_to_arrow, read_codes, write_codes
from annvq.tokenizers.codes import arrow as module

SIZES = [1, 2, 3, 16, 255, 256, 257, 65536, 65537, 1 << 18, 1 << 32, (1 << 32) + 1, 1 << 62]


def drawn(size, shape, seed=0):
    return torch.from_numpy(np.random.default_rng(seed).integers(0, size, shape))


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("size", SIZES)
def test_codes_come_back(size, packed, monkeypatch):
    monkeypatch.setattr(module, "_ROWS_OF_BITS", 100)
    codes = drawn(size, (23, 3, 5))
    codes[0, 0, 0], codes[-1, -1, -1] = 0, size - 1
    batch = codes_to_arrow(codes, size, packed=packed)
    batch.validate(full=True)
    assert torch.equal(codes_from_arrow(batch), codes)
    assert torch.equal(codes_from_arrow(batch.slice(5, 7)), codes[5:12])
    table = pa.Table.from_batches([batch, batch.slice(0, 2)])
    assert torch.equal(codes_from_arrow(table), torch.cat([codes, codes[:2]]))


@pytest.mark.parametrize(("size", "bits", "kind"), [(16, 4, "uint8"), (1024, 10, "uint16"), (1 << 18, 18, "uint32")])
def test_codes_take_the_bits_they_need(size, bits, kind):
    codes = drawn(size, (100, 8))
    plain = codes_to_arrow(codes, size)
    assert str(plain.schema.field(0).type) == f"fixed_size_list<item: {kind}>[8]"
    assert codes_to_arrow(codes, size, packed=True).schema.field(0).type == pa.binary(bits)
    assert codes_to_arrow(codes, size, packed=True).nbytes == 100 * bits


def test_one_code_a_row_and_no_rows():
    codes = drawn(9, (4,))
    for packed in (False, True):
        assert torch.equal(codes_from_arrow(codes_to_arrow(codes, 9, packed=packed)), codes)
        assert codes_from_arrow(codes_to_arrow(codes[:0], 9, packed=packed)).shape == (0,)
    assert codes_from_arrow(pa.Table.from_batches([], codes_to_arrow(codes, 9).schema)).shape == (0,)


def test_masked_codes_are_null():
    codes = torch.tensor([[0, -1, 3], [-1, -1, 2]])
    batch = codes_to_arrow(codes, 4)
    assert batch.column(0).to_pylist() == [[0, None, 3], [None, None, 2]]
    assert torch.equal(codes_from_arrow(batch), codes)
    with pytest.raises(ParameterError, match="masked"):
        codes_to_arrow(codes, 4, packed=True)


def test_tokens_of_a_tokenizer_come_back():
    tokenizer = BSQ(6, 1 << 40)
    codes = tokenizer.encode(torch.randn(9, 4, 6))
    batch = codes_to_arrow(codes, tokenizer.codebook_size, packed=True)
    assert batch.nbytes == 9 * 4 * 5
    assert torch.equal(tokenizer.decode(codes_from_arrow(batch)), tokenizer.decode(codes))


def test_files_are_streamed(tmp_path):
    batches = [drawn(1024, (n, 7), n) for n in (5, 0, 12)]
    path = tmp_path / "codes.arrow"
    assert write_codes(path, iter(batches), 1024, packed=True) == 17
    found = list(read_codes(path))
    assert torch.equal(torch.cat(found), torch.cat(batches))
    with pytest.raises(ShapeError, match="after others"):
        write_codes(path, [batches[0], drawn(1024, (5, 8))], 1024)
    assert torch.equal(torch.cat(list(read_codes(path))), torch.cat(batches))  # the old file stays
    with pytest.raises(ParameterError, match="no batches"):
        write_codes(tmp_path / "none.arrow", [], 1024)
    assert [file.name for file in tmp_path.iterdir()] == ["codes.arrow"]


def test_bad_codes_are_refused():
    with pytest.raises(ParameterError, match="expected -1 to 3"):
        codes_to_arrow(torch.tensor([4]), 4)
    with pytest.raises(DtypeError):
        codes_to_arrow(torch.tensor([1.0]), 4)
    with pytest.raises(ShapeError):
        codes_to_arrow(torch.tensor(1), 4)
    with pytest.raises(ParameterError):
        codes_to_arrow(torch.tensor([1]), 0)


def with_layout(batch, **changed):
    stored = json.loads(batch.schema.metadata[b"annvq.codes"]) | changed
    return batch.replace_schema_metadata({b"annvq.codes": json.dumps(stored)})


def test_other_data_are_refused(tmp_path):
    batch = codes_to_arrow(drawn(200, (5, 3)), 200)
    with pytest.raises(DataFormatError):
        codes_from_arrow(pa.record_batch({"codes": [1, 2]}))
    for changed in (
        {"shape": [4]},
        {"shape": [1 << 40]},
        {"shape": "3"},
        {"shape": [-3]},
        {"packed": True},
        {"codebook_size": 300},
        {"codebook_size": 0},
        {"codebook_size": 10},
        {"codebook_size": None},
    ):
        with pytest.raises(DataFormatError):
            codes_from_arrow(with_layout(batch, **changed))
    with pytest.raises(DataFormatError):
        codes_from_arrow(batch.replace_schema_metadata({b"annvq.codes": b"{"}))
    (tmp_path / "text.arrow").write_bytes(b"no Arrow file at all")
    with pytest.raises(DataFormatError):
        list(read_codes(tmp_path / "text.arrow"))
    with pytest.raises(FileNotFoundError):
        list(read_codes(tmp_path / "missing.arrow"))
    path = tmp_path / "codes.arrow"
    write_codes(path, [drawn(200, (500, 3))], 200)
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(DataFormatError):
        list(read_codes(path))


def test_files_that_are_more_in_memory_are_refused(tmp_path):
    """Compressed codes, which `write_codes` does not make: a few bytes could be gigabytes."""
    batch = codes_to_arrow(torch.zeros(1_000_000, 4, dtype=torch.int64), 200)
    for compression in ("lz4", "zstd"):
        path = tmp_path / f"{compression}.arrow"
        options = pa.ipc.IpcWriteOptions(compression=compression)
        with pa.ipc.new_file(path, batch.schema, options=options) as writer:
            writer.write_batch(batch)
        assert path.stat().st_size < 100_000
        before = pa.total_allocated_bytes()
        with pytest.raises(DataFormatError, match="compressed"):
            list(read_codes(path))
        assert pa.total_allocated_bytes() - before < 1 << 20
    for raw in (b"", b"ARROW1", b"ARROW1ARROW1", b"ARROW1\0\0" + b"ARROW1"):
        (tmp_path / "short.arrow").write_bytes(raw)
        with pytest.raises((DataFormatError, OSError)):
            list(read_codes(tmp_path / "short.arrow"))
