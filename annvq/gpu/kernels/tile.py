"""The rows and the queries of a program of a scan, as `annvq.gpu.plan.Work` cuts them."""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def _rows_of_program(begins, ends, ROWS: tl.constexpr):
    """Return the rows (ROWS,) int64 of a program, and which of them are there; 0 stands for others."""
    program = tl.program_id(0)
    row = tl.load(begins + program) + tl.arange(0, ROWS)
    inside = row < tl.load(ends + program)
    return tl.where(inside, row, 0), inside


@triton.jit
def _tile(asking, begins, ends, visits, visit_ends, QUERIES: tl.constexpr, ROWS: tl.constexpr):
    """Return the queries (QUERIES,) int64 of a program and which of them are there, and what `_rows_of_program` does.

    Parameters
    ----------
    asking, begins, ends, visits, visit_ends
        `annvq.gpu.plan.Work`, for at most QUERIES and ROWS.

    """
    program = tl.program_id(0)
    visit = tl.load(visits + program) + tl.arange(0, QUERIES)
    asked = visit < tl.load(visit_ends + program)
    query = tl.load(asking + visit, mask=asked, other=0).to(tl.int64)
    row, inside = _rows_of_program(begins, ends, ROWS)
    return query, asked, row, inside
