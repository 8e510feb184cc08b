"""Which program scans what: lists and the queries that visit them, cut into pieces of equal size."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import torch


class Work(NamedTuple):
    """The programs of a scan: each scores some rows of a list for some of the queries that visit it."""

    queries: torch.Tensor  # (visits,) int32: the queries, ordered by the list that they visit
    lists: torch.Tensor  # (programs,) int32
    begins: torch.Tensor  # (programs,) int64, the first row, and
    ends: torch.Tensor  # (programs,) int64, the end of the rows
    visits: torch.Tensor  # (programs,) int32, the first of ``queries``, and
    visit_ends: torch.Tensor  # (programs,) int32, the end of these

    @property
    def programs(self) -> int:
        """The number of programs."""
        return len(self.lists)


def work_of(lists: torch.Tensor, offsets: torch.Tensor, rows: int, queries: int) -> Work:
    """Cut visits into programs.

    Parameters
    ----------
    lists
        (nq, visits) int64: the lists that queries visit, -1 where there is none.
    offsets
        (nlist + 1,) int64, where lists begin.
    rows, queries
        How many of each a program takes, at most.

    """
    device, nlist = lists.device, len(offsets) - 1
    sizes = offsets[1:] - offsets[:-1]
    flat = lists.reshape(-1)
    asking = torch.arange(len(lists), device=device).repeat_interleave(lists.shape[1])
    held = torch.nonzero((flat >= 0) & (sizes[flat.clamp(min=0)] > 0))[:, 0]
    flat, asking = flat[held], asking[held]
    order = torch.argsort(flat, stable=True)
    visits = torch.bincount(flat, minlength=nlist)
    first_visit = torch.cumsum(visits, 0) - visits
    blocks, chunks = -(-visits // queries), -(-sizes // rows)
    programs = blocks * chunks
    of_program = torch.repeat_interleave(torch.arange(nlist, device=device), programs)
    within = torch.arange(len(of_program), device=device) - (torch.cumsum(programs, 0) - programs)[of_program]
    chunk, block = within // blocks[of_program], within % blocks[of_program]  # neighbours read the same rows
    begins = offsets[of_program] + chunk * rows
    ends = torch.minimum(begins + rows, offsets[of_program + 1])
    first = first_visit[of_program] + block * queries
    last = torch.minimum(first + queries, first_visit[of_program] + visits[of_program])
    return Work(asking[order].int(), of_program.int(), begins, ends, first.int(), last.int())


def slabs(rows_per_rank: list[int], room: int, keep: int) -> Iterator[slice]:
    """Yield consecutive ranks that are scanned together, so that what reaches the thresholds likely fits the pools.

    Of ``n`` rows after ``seen``, in random order, ``keep * n / seen`` are expected to be among the best ``keep``. A
    slab is so large that half the room is left.

    Parameters
    ----------
    rows_per_rank
        The rows of the lists at each rank, on average over queries: ranks are visited nearest list first.
    room
        The places of a pool beyond ``keep``.
    keep
        How many rows a pool keeps.

    """
    begin, seen = 0, 0
    while begin < len(rows_per_rank):
        most = room if seen == 0 else max(room // 2, room * seen // (2 * keep))
        end, rows = begin + 1, rows_per_rank[begin]
        while end < len(rows_per_rank) and rows + rows_per_rank[end] <= most:
            rows += rows_per_rank[end]
            end += 1
        yield slice(begin, end)
        begin, seen = end, seen + rows
