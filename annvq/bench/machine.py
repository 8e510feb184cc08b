"""The machine that a measurement ran on: hardware and versions, without names of hosts or folders."""

from __future__ import annotations

import os
import platform
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import numba
import numpy as np

import annvq
from annvq.gpu.device import devices
from annvq.kernels.compile import isa


def describe() -> dict[str, Any]:
    """Return CPU model, usable cores, memory (GiB), operating system, versions and instruction set."""
    return {
        "cpu": _cpu_model(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "memory_gib": _memory_gib(),
        "system": platform.system(),
        "python": platform.python_version(),
        "numpy": np.__version__,
        "numba": numba.__version__,
        "annvq": annvq.__version__,
        "isa": isa.ACTIVE,
    }


def gpus() -> tuple[list[dict[str, Any]], str]:
    """Return the GPUs that annvq can use (name, memory in bytes, compute capability), and why there are none if so."""
    found, reason = devices()
    rows = [
        {
            "device": one.device,
            "name": one.name,
            "memory_free": one.free,
            "memory_total": one.memory,
            "compute_capability": ".".join(map(str, one.capability)),
        }
        for one in found
    ]
    return rows, reason


def package_version(distribution: str) -> str | None:
    """Return the installed version of a distribution, or None if it is not installed."""
    try:
        return version(distribution)
    except PackageNotFoundError:
        return None


def is_intel() -> bool:
    """Return whether the CPU says that Intel made it (False if it does not say)."""
    return _cpuinfo("vendor_id") == "GenuineIntel"


def _cpu_model() -> str:
    return _cpuinfo("model name") or platform.processor() or platform.machine()


def _cpuinfo(field: str) -> str | None:
    try:
        with open("/proc/cpuinfo") as lines:
            for line in lines:
                name, _, value = line.partition(":")
                if name.strip().lower() == field:
                    return value.strip()
    except OSError:
        pass
    return None


def _memory_gib() -> float | None:
    try:
        return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1)
    except (ValueError, OSError, AttributeError):
        return None
