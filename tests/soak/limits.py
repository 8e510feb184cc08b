"""How much memory a process may take."""

from __future__ import annotations

import resource
from pathlib import Path


def limit_memory(more: int | None) -> None:
    """Allow so many bytes of address space beyond what the process holds; None: as many as at its start."""
    hard = resource.getrlimit(resource.RLIMIT_AS)[1]
    status = Path("/proc/self/status").read_text()
    held = int(status.split("VmSize:")[1].split()[0]) << 10
    resource.setrlimit(resource.RLIMIT_AS, (hard if more is None else held + more, hard))
