"""Codes of more than 2^31 elements: rows at the end are found where they are, and not 2^32 elements before."""

import numpy as np
import pytest
import torch

from annvq.gpu.kernels.scan_bits import rescore_bits
from annvq.gpu.kernels.scan_rabitq import rescore_rabitq
from annvq.gpu.kernels.scan_rows import rescore_rows
from annvq.gpu.kernels.scan_tables import rescore_tables
from annvq.gpu.launch import launch

N = 1_100_000_000  # of which two words each are more


@pytest.fixture
def where(device):
    return "cpu" if device == "interpreter" else device


def zeros(where, *shape, dtype=np.int32):
    """Return zeros, on the CPU such that the operating system makes only when they are touched."""
    try:
        if where == "cpu":
            return torch.from_numpy(np.zeros(shape, dtype))
        return torch.zeros(shape, dtype=torch.from_numpy(np.zeros(0, dtype)).dtype, device=where)
    except (MemoryError, torch.cuda.OutOfMemoryError):
        pytest.skip("the machine has too little memory")


def places_of(rows, where):
    places = torch.tensor([rows], dtype=torch.int64, device=where)
    return places, torch.full(places.shape, -1.0, dtype=torch.float32, device=where)


def test_rows_of_numbers(where):
    d = 16
    rows, n = zeros(where, 2**31 + 2**20, dtype=np.uint8), 2**27 + 2**16
    rows[-d:] = torch.arange(d, dtype=torch.uint8, device=where)
    queries, ones = torch.ones(1, d, device=where), torch.ones(d, device=where)
    places, scores = places_of([n - 1, 0, n - 2], where)
    launch(rescore_rows, 1, queries, d, rows, n, d, 0 * ones, ones, places, 3, 0, scores, CODED=True, L2=False, ROWS=16)
    assert scores.tolist() == [[120.0, 0.0, 0.0]]


def test_words_of_bits(where):
    rows, queries = zeros(where, 2, N), zeros(where, 1, 2)
    rows[1, -1] = 7
    places, scores = places_of([N - 1, N - 2], where)
    launch(rescore_bits, 1, rows, N, 2, queries, places, 2, 0, scores, ROWS=32)
    assert scores.tolist() == [[-3.0, 0.0]]


def test_words_of_codes(where):
    codes, constants = zeros(where, 2, N), zeros(where, 1, dtype=np.float32)
    codes[1, -1] = 5
    tables = torch.arange(8 * 256, dtype=torch.float32, device=where).reshape(1, 8, 256) % 256
    places, scores = places_of([N - 1, N - 2], where)
    bases = torch.zeros(1, 2, device=where)
    launch(
        rescore_tables, 1, codes, N, 2, constants, tables, 8, bases, places, 2, 0, scores, KSUB=256, CONSTANTS=False,
        ROWS=32,
    )  # fmt: skip
    assert scores.tolist() == [[5.0, 0.0]]


def test_planes(where):
    planes, factors = zeros(where, 2, N), zeros(where, 3, N, dtype=np.float32)
    planes[1, -1] = 1 << 3
    factors[1, -1] = 2.0  # what the inner product is multiplied with
    levels = zeros(where, 1, 2, 64, dtype=np.int8)
    levels[0, 1, 35] = 100
    query_factors = torch.tensor([[1e6, 0.0, 0.5]], device=where)
    totals = torch.tensor([100], dtype=torch.int64, device=where)
    places, scores = places_of([N - 1, N - 2], where)
    bases = torch.zeros(1, 2, device=where)
    launch(
        rescore_rabitq, 1, planes, factors, N, 2, zeros(where, 1, 4, 2), levels, query_factors, totals, bases, bases,
        places, 2, 0, scores, BITS=1, ROWS=32,
    )  # fmt: skip
    assert scores.tolist() == [[100.0, 0.0]]
