"""Which vector instructions the kernels are compiled for.

The variant is chosen once, at import, from the CPU features that Numba compiles for, or is forced by the environment
variable ``ANNVQ_ISA``. Every variant returns the same integers. Float kernels are written in operations on 16 lanes,
and their results agree as well on all CPUs that have fused multiply-add.

    avx512    AVX-512 BW, VL, VBMI and VNNI (x86-64)
    avx2      AVX2 (x86-64)
    neon      Advanced SIMD (64-bit Arm)
    portable  no instruction of a particular target
"""

from __future__ import annotations

import os
import platform

from numba.core import config

from annvq.errors import ParameterError

_NEEDS = {
    "avx512": {"avx512f", "avx512bw", "avx512vl", "avx512vbmi", "avx512vnni"},
    "avx2": {"avx2", "ssse3"},
    "neon": {"neon"},
    "portable": set(),
}


def cpu_features() -> set[str]:
    """Return the names of the CPU features that Numba's code generator will use."""
    if config.CPU_FEATURES:
        flags = config.CPU_FEATURES.split(",")
        return {flag.strip()[1:] for flag in flags if flag.strip().startswith("+")}
    if config.CPU_NAME and config.CPU_NAME != "host":
        return set()  # for example with NUMBA_CPU_NAME=generic: LLVM may not emit everything that the host could run
    if platform.machine().lower() in ("aarch64", "arm64"):
        return {"neon"}  # part of the base architecture
    import llvmlite.binding as llvm

    return {name for name, present in llvm.get_host_cpu_features().items() if present}


def supported() -> tuple[str, ...]:
    """Return the variants that this CPU can run, best first."""
    features = cpu_features()
    return tuple(name for name, needs in _NEEDS.items() if needs <= features)


def _choose() -> str:
    forced = os.environ.get("ANNVQ_ISA", "").strip().lower()
    available = supported()
    if not forced:
        return available[0]
    if forced not in available:
        raise ParameterError(f"ANNVQ_ISA={forced!r}: this CPU can run {', '.join(available)}")
    return forced


ACTIVE = _choose()
