"""How vectors are coded: the part of a recipe that names a codebook."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, replace

from annvq.errors import RecipeError
from annvq.index.values import check_count, check_one_of, check_share

# Bits a dimension, for kinds where that does not depend on M; others keep fewer than any refine store.
SCALAR_BITS = {"fp32": 32, "fp16": 16, "sq8": 8, "sq4": 4}
KINDS = (*SCALAR_BITS, "pq", "rvq", "rabitq")

_NBITS = {"pq": (4, 8), "rvq": (4, 8), "rabitq": tuple(range(1, 9))}
_DEFAULT_NBITS = {"pq": 8, "rvq": 8, "rabitq": 1}
DEFAULT_BEAM = 5


@dataclass(frozen=True, kw_only=True)
class CodebookSpec:
    """How the vectors, or their residuals, are coded.

    Parameters
    ----------
    kind
        ``"fp32"``, ``"fp16"``, ``"sq8"``, ``"sq4"``, ``"pq"``, ``"rvq"`` or ``"rabitq"``.
    M
        Sub-quantizers (pq), a number or ``"d/k"`` for one per k dimensions; stages (rvq), a number.
    nbits
        Bits a code: 4 or 8 (pq, rvq; 8 if left out), bits a dimension 1 to 8 (rabitq; 1 if left out).
    residual
        Code x - c with the centroid c of x's list instead of x (pq, rvq, rabitq; needs lists).
    score_aware
        ScaNN's threshold T, 0 < T < 1: codes weigh the error parallel to the vector more (pq; Guo et
        al. 2020, arXiv:1908.10396, theorem 3.4). Used for metrics "ip" and "cosine"; dropped for "l2".
    beam
        Partial codes kept from stage to stage while encoding (rvq; 5 if left out).

    Raises
    ------
    RecipeError
        A field that this kind does not have, or a value outside its range.

    """

    kind: str
    M: int | str | None = None
    nbits: int | None = None
    residual: bool = False
    score_aware: float | None = None
    beam: int | None = None

    def __post_init__(self) -> None:
        check_one_of("codebook.kind", self.kind, KINDS)
        if self.nbits is None and self.kind in _DEFAULT_NBITS:
            object.__setattr__(self, "nbits", _DEFAULT_NBITS[self.kind])
        if self.beam is None and self.kind == "rvq":
            object.__setattr__(self, "beam", DEFAULT_BEAM)
        self._check_m()
        self._check_only_for("nbits", *_NBITS)
        if self.kind in _NBITS:
            check_one_of(f"codebook.nbits of kind {self.kind!r}", self.nbits, _NBITS[self.kind])
        if not isinstance(self.residual, bool):
            raise RecipeError(f"codebook.residual = {self.residual!r}: expected true or false")
        self._check_only_for("residual", *_NBITS)
        self._check_only_for("score_aware", "pq")
        if self.score_aware is not None:
            check_share("codebook.score_aware", self.score_aware, open_interval=True)
        self._check_only_for("beam", "rvq")
        if self.beam is not None:
            check_count("codebook.beam", self.beam)

    def settled(self, d: int) -> CodebookSpec:
        """Return the spec with a number M for d-dimensional vectors (RecipeError where it does not fit)."""
        M = math.ceil(d / int(self.M.removeprefix("d/"))) if isinstance(self.M, str) else self.M
        if self.kind == "pq" and M is not None and M > d:
            raise RecipeError(f"codebook.M = {M} sub-quantizers do not fit d = {d}: use at most {d}, or M = 'd/2'")
        return replace(self, M=M)

    def _check_m(self) -> None:
        self._check_only_for("M", "pq", "rvq")
        if isinstance(self.M, str) and self.kind == "pq":
            if not re.fullmatch(r"d/[1-9][0-9]{0,8}", self.M):
                raise RecipeError(f"codebook.M = {self.M!r}: expected a number or 'd/k' such as 'd/2'")
        elif self.kind in ("pq", "rvq"):
            check_count(f"codebook.M of kind {self.kind!r}", self.M)

    def _check_only_for(self, name: str, *kinds: str) -> None:
        value = getattr(self, name)
        if self.kind not in kinds and value is not None and value is not False:
            raise RecipeError(
                f"codebook.{name} = {value!r} means nothing for kind {self.kind!r}, only {', '.join(kinds)}"
            )
