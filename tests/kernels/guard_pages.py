"""NumPy arrays with an unreadable page right behind them, or right before; run as a program of its own.

    python guard_pages.py behind|before|none

Every array that NumPy allocates gets pages of its own, of which the next (or last) may be neither read nor written: a
kernel that goes one byte too far ends the process. What the kernels answered is printed as a digest.
"""

import ctypes
import hashlib
import mmap
import os
import re
import sys
from pathlib import Path

import numpy as np

PAGE = mmap.PAGESIZE
_PROT_NONE, _PROT_BOTH = 0, 3
_PRIVATE_ANONYMOUS = 0x22  # of Linux


class _Allocator(ctypes.Structure):
    MALLOC = ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t)
    CALLOC = ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t, ctypes.c_size_t)
    REALLOC = ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t)
    FREE = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t)
    _fields_ = (
        ("ctx", ctypes.c_void_p),
        ("malloc", MALLOC),
        ("calloc", CALLOC),
        ("realloc", REALLOC),
        ("free", FREE),
    )


class _Handler(ctypes.Structure):
    """`PyDataMem_Handler` of NumPy's C interface (NEP 49)."""

    _fields_ = (("name", ctypes.c_char * 127), ("version", ctypes.c_uint8), ("allocator", _Allocator))


class Guard:
    """Memory in pages of its own; ``behind`` says on which side the unreadable page lies."""

    def __init__(self, behind):
        self.behind, self.held, self.made = behind, {}, 0
        self.libc = ctypes.CDLL(None, use_errno=True)
        self.libc.mmap.restype = ctypes.c_void_p
        self.libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_long]
        for name in ("munmap", "mprotect"):
            getattr(self.libc, name).argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int][: 2 + (name[1] == "p")]

    def malloc(self, _, size):
        length = (-(-max(size, 1) // PAGE) + 1) * PAGE
        start = self.libc.mmap(None, length, _PROT_BOTH, _PRIVATE_ANONYMOUS, -1, 0)
        assert start not in (None, ctypes.c_void_p(-1).value), "no memory"
        assert self.libc.mprotect(start + (length - PAGE if self.behind else 0), PAGE, _PROT_NONE) == 0
        where = start + (length - PAGE - max(size, 1) if self.behind else PAGE)
        ctypes.memset(where, 0xA5, size)  # what nobody wrote is no zero
        self.held[where] = start, length, size
        self.made += 1
        return where

    def calloc(self, _, count, size):
        where = self.malloc(None, count * size)
        ctypes.memset(where, 0, count * size)
        return where

    def realloc(self, _, where, size):
        if not where:
            return self.malloc(None, size)
        moved = self.malloc(None, size)
        ctypes.memmove(moved, where, min(size, self.held[where][2]))
        self.free(None, where, 0)
        return moved

    def free(self, _, where, size):
        if where:
            start, length, _ = self.held.pop(where)
            self.libc.munmap(start, length)

    def install(self):
        """Have NumPy take all memory of this thread's arrays from here."""
        header = (Path(np.get_include()) / "numpy" / "__multiarray_api.h").read_text()
        place = int(re.search(r"define PyDataMem_SetHandler \\\s.*?PyArray_API\[(\d+)\]", header, re.DOTALL)[1])
        python = ctypes.pythonapi
        python.PyCapsule_GetPointer.restype = ctypes.c_void_p
        python.PyCapsule_GetPointer.argtypes = [ctypes.py_object, ctypes.c_char_p]
        python.PyCapsule_New.restype = ctypes.py_object
        python.PyCapsule_New.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p]
        table = python.PyCapsule_GetPointer(np._core._multiarray_umath._ARRAY_API, None)
        address = (ctypes.c_void_p * (place + 1)).from_address(table)[place]
        kinds = _Allocator.MALLOC, _Allocator.CALLOC, _Allocator.REALLOC, _Allocator.FREE
        calls = (kind(call) for kind, call in zip(kinds, (self.malloc, self.calloc, self.realloc, self.free)))
        self.handler = _Handler(b"guard", 1, _Allocator(None, *calls))
        self.name = b"mem_handler"
        capsule = python.PyCapsule_New(ctypes.addressof(self.handler), self.name, None)
        ctypes.PYFUNCTYPE(ctypes.py_object, ctypes.py_object)(address)(capsule)


def answers():
    """Yield the name and what was answered of every path through the kernels, on sizes around their blocks."""
    import guarded_calls

    for name, made in guarded_calls.CALLS.items():
        print(f"{name}?", flush=True)  # the last one where the process ends
        yield name, made()


def arrays_of(answer):
    if isinstance(answer, np.ndarray):
        return [answer]
    if isinstance(answer, dict):
        answer = [answer[key] for key in sorted(answer)]
    return [array for one in answer for array in arrays_of(one)] if isinstance(answer, list | tuple) else []


def main(side):
    import guarded_calls  # noqa: F401  # and all that it imports: with memory as usual

    guard = Guard(side == "behind")
    if side != "none":
        guard.install()
    for name, answer in answers():
        digest = hashlib.sha256()
        for array in arrays_of(answer):
            content = repr(array.tolist()).encode() if array.dtype == object else np.ascontiguousarray(array).tobytes()
            digest.update(f"{array.dtype} {array.shape}".encode() + content)
        print(f"{name}: {digest.hexdigest()}", flush=True)
    assert (guard.made > 10_000) == (side != "none"), guard.made
    os._exit(0)  # before NumPy frees what the interpreter's end leaves


if __name__ == "__main__":
    main(sys.argv[1])
