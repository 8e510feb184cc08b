"""Turns: threads whose kernels end at about the same time take Python's global lock one after the other.

A thread that finds the lock taken goes to sleep, and to be woken takes several times as long as the few microseconds
for which the thread before it needs the lock between two searches. `await_turn` therefore waits awake for its turn, and
returns when the lock is likely to be free. Nothing depends on it: whoever does not wait here waits for the lock itself.
"""

from __future__ import annotations

import platform
import sys
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types

from annvq.kernels.compile.jit import intrinsic, kernel

_PATIENCE = np.int64(1 << 16)  # cycles, some 25 us: longer, the lock is held for something else than a search
_I64 = ir.IntType(64)
_words = np.zeros(32, np.int64)  # so many that one in the middle shares its cache lines with nothing


def _address() -> int:
    """Return the address of the word that holds when the lock was last taken, or 0 if nobody is to wait.

    That is so without a lock, and on CPUs that may not let a program count cycles.
    """
    has_lock = getattr(sys, "_is_gil_enabled", lambda: True)()
    counts_cycles = platform.machine().lower() in ("x86_64", "amd64")
    return _words[16:].ctypes.data if has_lock and counts_cycles else 0


WORD = _address()


def _pointer(builder: Any, address: Any) -> Any:
    return builder.inttoptr(address, _I64.as_pointer())


@intrinsic
def _cycles(typingctx):
    def codegen(context, builder, sig, args):
        count = builder.module.declare_intrinsic("llvm.readcyclecounter", (), ir.FunctionType(_I64, []))
        return builder.call(count, [])

    return types.int64(), codegen


@intrinsic
def _load(typingctx, address):
    def codegen(context, builder, sig, args):
        return builder.load_atomic(_pointer(builder, args[0]), "monotonic", 8)

    return types.int64(types.int64), codegen


@intrinsic
def _store(typingctx, address, value):
    def codegen(context, builder, sig, args):
        builder.store_atomic(args[1], _pointer(builder, args[0]), "monotonic", 8)
        return context.get_dummy_value()

    return types.void(types.int64, types.int64), codegen


@intrinsic
def _replaced(typingctx, address, old, new):
    """Return whether the word at an address was ``old``, and if so, store ``new``."""

    def codegen(context, builder, sig, args):
        made = builder.cmpxchg(_pointer(builder, args[0]), args[1], args[2], "monotonic", "monotonic")
        return builder.extract_value(made, 1)

    return types.boolean(types.int64, types.int64, types.int64), codegen


@kernel
def pass_on(word):
    """Note that the calling thread has just given the lock away; ``word`` is `WORD`."""
    if word != 0:
        _store(word, np.int64(0))


@kernel
def await_turn(word):
    """Wait for the calling thread's turn, but not for long, and note that it takes the lock; ``word`` is `WORD`."""
    if word == 0:
        return
    start = _cycles()
    while True:
        now, taken = _cycles(), _load(word)
        if (taken == 0 or now - taken > _PATIENCE) and _replaced(word, taken, now):
            return
        if now - start > _PATIENCE:
            return
