"""What of an index lies on a device: its segments, learned parts, and the order of its rows."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import torch

from annvq.errors import DeviceError, DeviceMemoryError
from annvq.gpu.codes.kind import ResidentCodes, ResidentRefine, ResidentSegment
from annvq.gpu.codes.kinds import codes_on, refine_on
from annvq.gpu.kernels.order import MOST_ROWS
from annvq.gpu.upload import uploaded
from annvq.index.rows.segment import Segment
from annvq.index.rows.snapshot import Snapshot
from annvq.index.trained import Trained

_ORDER_BYTES = 8  # per row: the rank of its key, and the row of each rank
_WORK_SHARE = 0.25  # of the memory that is left for pools and tables, at most
_MOST_WORK = 1 << 31
_INTERPRETED = 1 << 34  # bytes that the interpreter's "device" has


@dataclass
class Resident:
    """The parts of one snapshot of an index on a device.

    Parameters
    ----------
    trained, snapshot
        What lies there.
    device
        Where.
    codes, refine
        How codes and refine rows are scanned and scored there.
    segments
        The segments, none of which is filtered.
    row_of_rank
        (n,) int32: the row whose key has each rank.
    work_bytes
        Memory that searches may take beside.
    refine_on_host
        Whether refine rows are in memory of the host.

    """

    trained: Trained
    snapshot: Snapshot
    device: torch.device
    codes: ResidentCodes
    refine: ResidentRefine | None
    segments: list[ResidentSegment]
    ranks: torch.Tensor
    row_of_rank: torch.Tensor
    work_bytes: int
    refine_on_host: bool
    masks: dict[int, torch.Tensor] = field(default_factory=dict)

    @property
    def bytes(self) -> int:
        """The bytes of the device that rows take."""
        held = [self.ranks, self.row_of_rank]
        for segment in self.segments:
            held += [one for one in segment.sections.values() if self.device.type == "cpu" or one.is_cuda]
        return sum(one.numel() * one.element_size() for one in held)

    def narrowed(self, snapshot: Snapshot) -> list[ResidentSegment]:
        """Return the segments as a search sees them whose ``snapshot`` may be narrowed by a filter."""
        pairs = zip(self.segments, snapshot.segments, strict=True)
        return [
            ResidentSegment(host, own.offsets, own.ranks, self._mask(own, host), own.sections) for own, host in pairs
        ]

    def _mask(self, own: ResidentSegment, host: Segment) -> torch.Tensor | None:
        if not len(host.allow):
            return None
        if host.allow is own.host.allow:
            return own.allow
        return uploaded(host.allow, self.device)


def moved(
    trained: Trained, snapshot: Snapshot, device: torch.device, budget: int | None, earlier: Resident | None = None
) -> Resident:
    """Upload a snapshot; segments that ``earlier`` holds are taken from there.

    Refine rows stay on the host, in page-locked memory, where the budget does not hold them.

    Raises
    ------
    DeviceMemoryError
        Codes alone take more than the budget, or than is free. Nothing is left on the device.
    DeviceError
        The index holds codes that are searched on the CPU only, or more rows than one device numbers.

    """
    if snapshot.rows > MOST_ROWS:
        raise DeviceError(f"{snapshot.rows:,} rows: a device numbers {MOST_ROWS:,}, share the lists among several")
    codes, refine = codes_on(trained, device), refine_on(trained, device)
    on_host, left = _placed(trained, snapshot, codes, device, budget)
    try:
        ranks, row_of_rank = _order(snapshot, device)
        held = {} if earlier is None or earlier.refine_on_host != on_host else {id(s.host.ids): s for s in earlier.segments}
        segments = []
        for host in snapshot.segments:
            own = held.get(id(host.ids))
            sections = own.sections if own is not None else codes.upload(host)
            if own is None and refine is not None:
                sections |= refine.upload(host, on_host=on_host)
            offsets = uploaded(host.offsets, device)
            allow = uploaded(host.allow, device) if len(host.allow) else None
            segments.append(
                ResidentSegment(host, offsets, ranks[host.base : host.base + host.n], allow, sections)
            )
    except torch.cuda.OutOfMemoryError as error:
        raise DeviceMemoryError(f"{device}: out of memory while the index was moved there: {error}") from error
    work = int(min(_MOST_WORK, max(1 << 26, _WORK_SHARE * left)))
    return Resident(trained, snapshot, device, codes, refine, segments, ranks, row_of_rank, work, on_host)


def _placed(
    trained: Trained, snapshot: Snapshot, codes: ResidentCodes, device: torch.device, budget: int | None
) -> tuple[bool, int]:
    """Return whether refine rows stay on the host, and how many bytes are left (DeviceMemoryError)."""
    rows = snapshot.rows
    coded = int(rows * (codes.bytes_per_row() + _ORDER_BYTES))
    refined = rows * trained.layout["refine"].bytes_per_row if trained.refine is not None else 0
    free = _INTERPRETED if device.type == "cpu" else torch.cuda.mem_get_info(device)[0]
    most = free if budget is None else min(budget, free)
    if coded > most:
        fits = int(most // (codes.bytes_per_row() + _ORDER_BYTES))
        why = f"device_bytes={budget:,}" if budget is not None and budget <= free else f"{free:,} bytes are free"
        raise DeviceMemoryError(
            f"{device}: the codes of {rows:,} rows take {coded:,} bytes, {why}: {fits:,} rows would fit, or a recipe "
            "with shorter codes"
        )
    on_host = coded + refined > most
    return on_host, most - coded - (0 if on_host else refined)


def _order(snapshot: Snapshot, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the ranks of the keys of all rows (n,) int32, and the row of each rank (n,) int32."""
    keys = uploaded(np.asarray(snapshot.keys), device)
    row_of_rank = torch.argsort(keys)
    ranks = torch.empty(len(keys), dtype=torch.int32, device=device)
    ranks[row_of_rank] = torch.arange(len(keys), dtype=torch.int32, device=device)
    return ranks, row_of_rank.int()
