"""Products of queries and decoded codes, and how far they can be from scores that are summed from tables."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch

from annvq.gpu.kernels.propose_rows import ADDING, LEAST, ROUNDING
from annvq.gpu.upload import uploaded

_MOST_COLUMNS, _LEAST_COLUMNS = 64, 16  # of one product on tensor cores
_AT_ONCE = 1 << 24  # rows whose codes are squared together
_LEVEL = 0.5 + 2.0**-10  # of a step: how far a number is from its level in 8 bits, with rounding of levels and sums


class Decoded(NamedTuple):
    """What the codes of sub-quantizers stand for."""

    entries: torch.Tensor  # (codes of all words, ksub, parts, part) bfloat16, padded with zeros
    length: float  # of the longest vector that codes stand for, at least
    dsub: int  # dimensions of a sub-quantizer
    per_word: int  # codes of a word


class Products(NamedTuple):
    """Queries as `annvq.gpu.kernels.propose_tables.propose_tables` takes them."""

    queries: torch.Tensor  # (nq, words, parts, codes of a word, part) bfloat16
    offsets: torch.Tensor  # (nq,) float32: what is added to products
    margins: torch.Tensor  # (nq,) float32: how far a score can be above that


def decoded(transposed: np.ndarray, codes: int, per_word: int, device: torch.device) -> Decoded:
    """Return what codes stand for.

    Parameters
    ----------
    transposed
        (M, dsub, ksub) float32, the entries of sub-quantizers.
    codes, per_word
        The codes that a row's words hold, at least M, and those of one word.

    """
    M, dsub, ksub = transposed.shape
    width = max(1 << (dsub - 1).bit_length(), _LEAST_COLUMNS // per_word)
    part = min(width, _MOST_COLUMNS // per_word)
    entries = np.zeros((codes, ksub, width), np.float32)
    entries[:M, :, :dsub] = transposed.transpose(0, 2, 1)
    squares = np.square(transposed, dtype=np.float64).sum(axis=1)
    length = float(np.sqrt(squares.max(axis=1).sum()))
    padded = uploaded(entries, device).bfloat16().reshape(codes, ksub, width // part, part)
    return Decoded(padded, length, dsub, per_word)


def minus_squared_lengths(transposed: np.ndarray, words: torch.Tensor, nbits: int) -> torch.Tensor:
    """Return minus the squared lengths of what codes stand for, (n,) float32.

    Parameters
    ----------
    transposed
        (M, dsub, ksub) float32, the entries of sub-quantizers.
    words
        (words, n) int32 on the device, the codes, each of ``nbits``, 4 or 8.

    """
    squares = uploaded(np.square(transposed, dtype=np.float64).sum(axis=1).astype(np.float32), words.device)
    total = torch.zeros(words.shape[1], dtype=torch.float32, device=words.device)
    per_word = 32 // nbits
    for start in range(0, len(total), _AT_ONCE):
        of_rows = words[:, start : start + _AT_ONCE]
        for m, of_entries in enumerate(squares):
            codes = (of_rows[m // per_word] >> (nbits * (m % per_word))) & ((1 << nbits) - 1)
            total[start : start + _AT_ONCE] -= of_entries[codes.long()]
    return total


def asked_products(queries: torch.Tensor, steps: torch.Tensor, squared: bool, M: int, held: Decoded) -> Products:
    """Return queries for products, and the margin of these.

    A score is base + step (levels) + constant with table entries t = (levels) step + minimum, each off by half a step.
    The sum of the entries is the product p = <q, y> with the decoded row y or, if ``squared``, 2 p - |q|^2 - |y|^2.
    Rounding to bfloat16, and sums of float32, lose a share of |q| |y| or of |q|^2 + |y|^2.

    Parameters
    ----------
    queries
        (nq, d) float32, scaled as for the tables.
    steps
        (nq,) float32, of the tables.
    squared
        Whether entries of the tables are minus squared distances.

    """
    codes, _, parts, part = held.entries.shape
    width = parts * part
    asked = torch.nn.functional.pad(queries, (0, M * held.dsub - queries.shape[1]))
    asked = asked.reshape(len(queries), M, held.dsub) * (2.0 if squared else 1.0)
    asked = torch.nn.functional.pad(asked, (0, width - held.dsub, 0, codes - M)).bfloat16()
    asked = asked.reshape(len(queries), codes // held.per_word, held.per_word, parts, part).transpose(2, 3)
    squares = queries.double().square().sum(dim=1)
    added = ADDING * (codes * width + 2 * M + held.dsub + 16)
    product = torch.sqrt(squares) * held.length * (2.0 if squared else 1.0)
    margins = product * (ROUNDING + added) + M * steps.double() * _LEVEL + LEAST * M
    offsets = torch.zeros_like(squares)
    if squared:
        offsets = -squares
        margins += (squares + held.length**2) * 4 * added
    return Products(asked.contiguous(), offsets.float(), margins.float() * (1 + 2.0**-20))
