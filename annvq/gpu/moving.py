"""Moving a snapshot to a device: what lies there already stays, what is no longer needed goes first."""

from __future__ import annotations

import numpy as np
import torch

from annvq.errors import DeviceError, DeviceMemoryError
from annvq.gpu.codes.kind import ResidentCodes, ResidentSegment
from annvq.gpu.codes.kinds import codes_on, refine_on
from annvq.gpu.kernels.order import MOST_ROWS
from annvq.gpu.memory import enough_memory, free_bytes
from annvq.gpu.resident import Resident
from annvq.gpu.shares import check_sharing, share_of
from annvq.gpu.trained import ResidentTrained
from annvq.gpu.upload import uploaded
from annvq.index.rows.segment import Segment
from annvq.index.rows.snapshot import Snapshot
from annvq.index.trained import Trained

_REFINED = "refine"  # the section of a refine store
_ORDER_BYTES = 8  # per row: the rank of its key, and the row of each rank
_WORK_SHARE = 0.25  # of the memory that is left for pools and tables, at most
_MOST_WORK = 1 << 31


class Kept:
    """What of an earlier version lies on a device, for the next one to take over.

    Memory is released as soon as nothing else holds it, such as a search of another thread. Therefore, whoever moves an
    index holds this and not the `Resident`.
    """

    def __init__(self, part: Resident) -> None:
        self.trained, self.snapshot, self.bytes = part.trained, part.snapshot, part.bytes
        self.learned, self.codes, self.refine = part.learned, part.codes, part.refine
        self.refine_on_host, self.ranks, self.row_of_rank = part.refine_on_host, part.ranks, part.row_of_rank
        self._sections = {id(segment.host.ids): dict(segment.sections) for segment in part.segments}

    def release(self, hosts: list[Segment], on_host: bool) -> None:
        """Release what is of none of these segments, and refine rows if they move from the device or to it."""
        needed = {id(host.ids) for host in hosts}
        self._sections = {key: sections for key, sections in self._sections.items() if key in needed}
        if on_host != self.refine_on_host:
            for sections in self._sections.values():
                sections.pop(_REFINED, None)
            self.refine_on_host = on_host

    def of(self, host: Segment) -> dict[str, torch.Tensor]:
        """Return what there is of a segment."""
        return self._sections.get(id(host.ids), {})


def moved(
    trained: Trained,
    snapshot: Snapshot,
    device: torch.device,
    budget: int | None,
    kept: Kept | None = None,
    share: tuple[int, int] = (0, 1),
) -> Resident:
    """Upload a snapshot, or a share of its lists, but for what was ``kept``.

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
    is_same = kept is not None and kept.trained is trained
    codes, refine, learned = (
        (kept.codes, kept.refine, kept.learned)
        if kept is not None and is_same
        else (codes_on(trained, device), refine_on(trained, device), ResidentTrained(trained, device))
    )
    hosts = _shares(trained, snapshot, share)
    on_host, left = _placed(trained, sum(host.n for host in hosts), codes, device, budget, kept)
    if kept is not None:
        kept.release(hosts, on_host)
    with enough_memory(device, "the index was moved there"):
        if kept is not None and kept.snapshot is snapshot:
            ranks, row_of_rank = kept.ranks, kept.row_of_rank
        else:
            ranks, row_of_rank = _order(snapshot, device)
        segments = []
        for host in hosts:
            sections = {} if kept is None else dict(kept.of(host))
            if not sections or not is_same:
                sections |= codes.upload(host, sections)
            if refine is not None and _REFINED not in sections:
                sections |= refine.upload(host, on_host=on_host)
            offsets = uploaded(host.offsets, device)
            allow = uploaded(host.allow, device) if len(host.allow) else None
            segments.append(ResidentSegment(host, offsets, ranks[host.base : host.base + host.n], allow, sections))
    work = int(min(_MOST_WORK, max(1 << 26, _WORK_SHARE * left)))
    return Resident(
        trained, snapshot, device, learned, codes, refine, segments, ranks, row_of_rank, work, on_host, share
    )


def _shares(trained: Trained, snapshot: Snapshot, share: tuple[int, int]) -> list[Segment]:
    if share == (0, 1):
        return list(snapshot.segments)
    check_sharing(trained)
    return [share_of(segment, trained.layout, *share) for segment in snapshot.segments]


def _placed(
    trained: Trained, rows: int, codes: ResidentCodes, device: torch.device, budget: int | None, kept: Kept | None
) -> tuple[bool, int]:
    """Return whether refine rows stay on the host, and how many bytes are left (DeviceMemoryError).

    The bytes of what was kept count as free: it is taken over or released.
    """
    coded = int(rows * (codes.bytes_per_row() + _ORDER_BYTES))
    refined = rows * trained.layout[_REFINED].bytes_per_row if trained.refine is not None else 0
    there = 0 if kept is None else kept.bytes
    free = free_bytes(device) + there
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
