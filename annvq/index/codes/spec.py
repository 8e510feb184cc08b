"""How vectors are coded: the part of a recipe that names a codebook."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, replace

from annvq.errors import RecipeError
from annvq.index.codes.kinds import KINDS
from annvq.index.values import check_count, check_one_of, check_share


@dataclass(frozen=True, kw_only=True)
class CodebookSpec:
    """How the vectors, or their residuals, are coded.

    Parameters
    ----------
    kind
        ``"fp32"``, ``"fp16"``, ``"sq8"``, ``"sq4"``, ``"pq"``, ``"rvq"``, ``"rabitq"``, ``"graph"`` or, for metric
        "hamming", ``"bits"``.
    M
        Sub-quantizers (pq), a number or ``"d/k"`` for one per k dimensions; stages (rvq), a number; codes of 4 bits per
        neighbour (graph; 96 if left out), of which there are at most d / 2.
    nbits
        Bits per code: 4 or 8 (pq, rvq; 8 if left out); bits per dimension: 1 to 8 (rabitq; 1 if left out), 8 or 16
        (graph; 16 if left out).
    residual
        Whether x - c, with the centroid c of x's list, is coded instead of x (pq, rvq, rabitq; needs lists).
    score_aware
        ScaNN's threshold T, 0 < T < 1: codes weight the error parallel to the vector more (pq; Guo et
        al. 2020, arXiv:1908.10396, theorem 3.4). Used for metrics "ip" and "cosine"; dropped for "l2".
    beam
        Partial codes kept from stage to stage while encoding (rvq; 5 if left out).

    Raises
    ------
    RecipeError
        A field is not one of this kind's, or a value is outside its range.

    """

    kind: str
    M: int | str | None = None
    nbits: int | None = None
    residual: bool = False
    score_aware: float | None = None
    beam: int | None = None

    def __post_init__(self) -> None:
        check_one_of("codebook.kind", self.kind, tuple(KINDS))
        kind = KINDS[self.kind]
        for name, default in kind.defaults.items():
            if default and getattr(self, name) is None:
                object.__setattr__(self, name, default)
        self._check_m()
        self._check_only_for("nbits")
        if kind.nbits:
            check_one_of(f"codebook.nbits of kind {self.kind!r}", self.nbits, kind.nbits)
        if not isinstance(self.residual, bool):
            raise RecipeError(f"codebook.residual = {self.residual!r}: expected true or false")
        self._check_only_for("residual")
        self._check_only_for("score_aware")
        if self.score_aware is not None:
            check_share("codebook.score_aware", self.score_aware, open_interval=True)
        self._check_only_for("beam")
        if self.beam is not None:
            check_count("codebook.beam", self.beam)

    def settled(self, d: int) -> CodebookSpec:
        """Return the spec with a number M for d-dimensional vectors (RecipeError if it does not fit)."""
        M = math.ceil(d / int(self.M.removeprefix("d/"))) if isinstance(self.M, str) else self.M
        if KINDS[self.kind].splits_dimensions and M is not None and M > d:
            raise RecipeError(f"codebook.M = {M} sub-quantizers do not fit d = {d}: use at most {d}, or M = 'd/2'")
        return replace(self, M=M)

    def _check_m(self) -> None:
        self._check_only_for("M")
        kind = KINDS[self.kind]
        if isinstance(self.M, str) and kind.splits_dimensions:
            if not re.fullmatch(r"d/[1-9][0-9]{0,8}", self.M):
                raise RecipeError(f"codebook.M = {self.M!r}: expected a number or 'd/k' such as 'd/2'")
        elif "M" in kind.defaults:
            check_count(f"codebook.M of kind {self.kind!r}", self.M)

    def _check_only_for(self, name: str) -> None:
        value = getattr(self, name)
        if name not in KINDS[self.kind].defaults and value is not None and value is not False:
            kinds = ", ".join(kind.name for kind in KINDS.values() if name in kind.defaults)
            raise RecipeError(f"codebook.{name} = {value!r} means nothing for kind {self.kind!r}, only {kinds}")
