"""The one way kernels are compiled: lazily, without the GIL, kept on disk (`annvq.kernels.cache`)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numba
import numba.extending
from numba.core.compiler_lock import global_compiler_lock
from numba.core.sigutils import normalize_signature

from annvq.kernels import compiling
from annvq.kernels.cache import cache_of

# An intrinsic is called with other arguments than its code generator takes: typed so that checkers know.
intrinsic: Callable[[Callable], Callable[..., Any]] = numba.extending.intrinsic

# Reassociation and contraction vectorize reductions; NaN and infinity keep their meaning.
REASSOCIATE = {"reassoc", "contract", "nsz", "arcp"}


class _Compiling:
    """Compiles a kernel that is called by another as a part of that one only.

    Numba makes machine code, wrappers and a cache file of every function, which takes nearly half of the time.
    What only kernels call needs none of them: its code becomes part of theirs. Should Python call it later, it
    is compiled again.
    """

    depth = 0  # of kernels that are being compiled; read and changed under Numba's compiler lock

    def __init__(self, dispatcher: Any) -> None:
        self._dispatcher = dispatcher
        self._compile = dispatcher.compile
        dispatcher.compile = self.compile
        dispatcher._compiler._customize_flags = self._flags

    def compile(self, sig: Any) -> Any:
        """Do what `Dispatcher.compile` does."""
        with global_compiler_lock:
            key = tuple(normalize_signature(sig)[0])
            found = self._dispatcher.overloads.get(key)
            is_inner = _Compiling.depth > 0
            if found is not None and (is_inner or not isinstance(found.entry_point, _Inner)):
                return found.entry_point
            _Compiling.depth += 1
            try:
                if is_inner:
                    return self._compile_inner(sig, key)
                if found is not None:
                    del self._dispatcher.overloads[key]
                return self._compile(sig)
            finally:
                _Compiling.depth -= 1
                if not is_inner:
                    compiling.end()

    def _compile_inner(self, sig: Any, key: Any) -> _Inner:
        args, return_type = normalize_signature(sig)
        made = self._dispatcher._compiler.compile(args, return_type)
        entry = _Inner()
        self._dispatcher.targetctx.insert_user_function(entry, made.fndesc, [made.library])
        self._dispatcher.overloads[key] = made._replace(entry_point=entry)
        return entry

    def _flags(self, flags: Any) -> Any:
        if _Compiling.depth > 1:
            flags.no_compile = flags.no_cpython_wrapper = flags.no_cfunc_wrapper = True
        return flags


class _Inner:
    """Stands for a function that only other kernels can call."""


def kernel(function: Callable | None = None, *, fastmath: Any = False, inline: str = "never") -> Any:
    """Compile ``function`` with Numba on first call (no GIL, no bounds checks, disk cache).

    Parameters
    ----------
    function
        Arrays in, arrays out; it raises nothing and allocates only scratch.
    fastmath
        ``False`` or a set of LLVM flags such as `REASSOCIATE`; never ``True``.
    inline
        "always" for a function that others call once and outside of loops: LLVM then optimizes what it calls once
        less. Inside a loop it would count references to arrays; LLVM inlines small functions by itself.
    """

    def compile_lazily(py_func: Callable) -> Any:
        options = dict(inline=inline, nogil=True, boundscheck=False, error_model="numpy", fastmath=fastmath)
        dispatcher = numba.njit(**options)(py_func)
        if hasattr(dispatcher, "_cache"):  # a plain function under NUMBA_DISABLE_JIT
            _Compiling(dispatcher)
            dispatcher._cache = cache_of(py_func)
        return dispatcher

    return compile_lazily if function is None else compile_lazily(function)
