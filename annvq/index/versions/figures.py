"""Figures about an index: what it holds, and in how many bytes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from annvq.index.rows.extension import RowExtension
from annvq.index.rows.snapshot import Snapshot
from annvq.index.versions.commit import Version
from annvq.kernels.compile import isa


def of(version: Version, path: Path | None) -> dict[str, Any]:
    """Return what `annvq.Index.stats` returns."""
    snapshot, trained = version.snapshot, version.trained
    shared = sum(array.nbytes for array in trained.sections().values())
    return {
        "n": snapshot.live_count,
        "dim": trained.dim,
        "metric": trained.metric,
        "recipe": trained.recipe.name,
        "use_when": trained.recipe.use_when,
        "bytes_per_vector": trained.bytes_per_vector,
        "compression": 4 * trained.dim / trained.bytes_per_vector,
        "bytes": {"shared": shared, **_bytes_by_part(snapshot, trained.extension)},
        "segments": len(snapshot.segments),
        "deleted": snapshot.rows - snapshot.live_count,
        "nlist": trained.nlist,
        "nprobe": version.depth.nprobe,
        "rerank": version.depth.rerank,
        "version": version.number,
        "isa": isa.ACTIVE,
        "path": None if path is None else str(path),
    }


def _bytes_by_part(snapshot: Snapshot, extension: RowExtension | None) -> dict[str, int]:
    parts = {"codes": 0, "constants": 0, "refine": 0, "ids": 0, "positions": 0, "attributes": 0}
    for segment in snapshot.segments:
        for name, array in segment.arrays.items():
            part = name if name in parts else "codes"
            if extension is not None and name.startswith(f"{extension.name}."):
                part = extension.name
            parts[part] = parts.get(part, 0) + array.nbytes
        parts["ids"] += sum(array.nbytes for array in segment.ids.sections().values())
        parts["positions"] += segment.positions.nbytes
        if segment.attributes is not None:  # whose offsets are not read for this, as `nbytes` would
            parts["attributes"] += segment.attributes.get_total_buffer_size()
    return parts
