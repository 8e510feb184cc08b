"""All rows within a radius, on a device: `annvq.index.search.rangesearch` there."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from annvq.gpu.codes.kind import ResidentSegment
from annvq.gpu.kernels.order import NOTHING, scores_of
from annvq.gpu.resident import Resident
from annvq.gpu.search import Search
from annvq.index.search.params import SearchParams
from annvq.index.search.view import View


def range_search(
    parts: Sequence[Resident], view: View, query: torch.Tensor, least: float, nprobe: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return what `annvq.index.search.rangesearch.range_search` does; ``query`` (1, d) is on the first device."""
    search = Search(parts, view, 1, SearchParams(nprobe, 0))
    first = parts[0]
    found = []
    for part, segments in zip(parts, search.segments, strict=True):
        probes, prepared = search.prepared(part, query, nprobe, 0)
        places = [_rows(segment, probes.lists[0]) for segment in segments]
        if not places:
            continue
        rows = torch.cat(places)[None]
        scores = part.scored(part.asked(query, prepared), rows)
        if view.trained.zero != "error" and not bool(query.any()):
            scores = torch.zeros_like(scores)
        rows = rows.masked_fill(~(scores.double() >= least), -1)
        found.append(part.candidates(scores, rows).to(first.device))
    candidates = torch.sort(torch.cat(found, dim=1)[0], descending=True).values if found else query.new_empty(0).long()
    candidates = candidates[candidates != NOTHING]
    scores, rows = scores_of(candidates), first.rows_of(candidates)
    if np.signbit(first.zero):
        scores = torch.where(scores == 0, torch.full_like(scores, first.zero), scores)
    return scores.cpu().numpy(), rows.cpu().numpy()


def _rows(segment: ResidentSegment, lists: torch.Tensor) -> torch.Tensor:
    """Return the index-wide numbers of all allowed rows of some lists (m,), -1 where there is none: (rows,) int64."""
    lists = lists[lists >= 0]
    begins, sizes = segment.offsets[lists], segment.offsets[lists + 1] - segment.offsets[lists]
    within = torch.arange(int(sizes.sum()), device=lists.device)
    rows = within + torch.repeat_interleave(begins - (torch.cumsum(sizes, 0) - sizes), sizes)
    if segment.allow is not None:
        rows = rows[segment.allow[rows] != 0]
    return rows + segment.base
