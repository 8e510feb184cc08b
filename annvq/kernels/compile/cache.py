"""Where compiled kernels are kept from one process to the next.

All kernels share the folder that Numba chooses for `annvq.kernels` itself: a folder below ``NUMBA_CACHE_DIR``, or
``__pycache__`` of that package, or one of the user's cache folders, in this order. It is used only if nobody else can
have written to it: see `annvq.kernels.compile.ownership`. Numba's own cache checks only the file of the compiled
function. Kernels, however, call each other across files and are generated differently per instruction set. A cache
index here is therefore valid only for a digest of all kernel sources, and its keys contain the active instruction set.
A cache that cannot be read or written is never an error: the kernel is compiled again.
"""

from __future__ import annotations

import contextlib
import hashlib
from functools import cache
from pathlib import Path
from typing import Any

from numba.core.caching import CompileResultCacheImpl, FunctionCache, IndexDataCacheFile, NullCache

from annvq.kernels.compile import isa, messages
from annvq.kernels.compile.ownership import reason_against_file, reason_against_folder

_KERNELS = Path(__file__).parents[1]


def _digest_of(folder: Path) -> str:
    """Return a digest of all sources in a folder and in the folders below it."""
    digest = hashlib.sha256()
    for source in sorted(folder.rglob("*.py")):
        digest.update(source.read_bytes())
    return digest.hexdigest()


_DIGEST = _digest_of(_KERNELS)
_refused: list[str] = []  # reasons why folders were not used


def where() -> tuple[str | None, str]:
    """Return the folder that keeps compiled kernels and "", or None and the reason why there is no such folder."""
    folder = cache_of(where).cache_path  # any function will do, because all kernels are kept in one folder
    if folder is None:
        return None, "; ".join(dict.fromkeys(_refused)) or "no folder can be written"
    return (None, f"{folder} cannot be written") if _KernelCache.has_failed else (folder, "")


def cache_of(function: Any) -> Any:
    """Return the cache of a kernel; it keeps nothing if no folder can be used."""
    try:
        return _KernelCache(function)
    except RuntimeError:  # Numba raises it if it finds no folder
        return _NoCache()


@cache
def _is_safe(folder: str) -> bool:
    reason = reason_against_folder(folder)
    if reason is not None:
        _refused.append(reason)
    return reason is None


class _SafeLocator:
    """Gives what one of Numba's locators gives, if the folder is safe."""

    def __init__(self, locator: Any) -> None:
        self._locator = locator

    def from_function(self, function: Any, source: str) -> Any:
        """Return the locator of a function, or None if its folder cannot or must not be used."""
        if _KERNELS in Path(source).parents:
            source = str(_KERNELS / "__init__.py")  # one folder for all kernels
        found = self._locator.from_function(function, source)
        if found is None or _is_safe(found.get_cache_path()):
            return found
        # A user who chose a folder wants no other. Before Numba 0.62, the name begins with an underscore.
        if self._locator.__name__.endswith("UserProvidedCacheLocator"):
            raise RuntimeError("the given folder is not safe")
        return None


class _Kept(CompileResultCacheImpl):
    def __init__(self, function: Any) -> None:
        super().__init__(function)
        self._folder = Path(function.__code__.co_filename).parent.name

    @property
    def filename_base(self) -> str:
        """Numba's name, after the name of the folder of the source.

        Sources in two folders may have the same name.
        """
        return f"{self._folder}.{super().filename_base}"

    @property
    def _locator_classes(self) -> list[Any]:
        return [_SafeLocator(locator) for locator in CompileResultCacheImpl._locator_classes]


class _SafeFiles(IndexDataCacheFile):
    """Reads no file that somebody else may have written, for example before the folder was closed to others."""

    def _load_index(self) -> Any:
        with contextlib.suppress(FileNotFoundError):
            _check(self._index_path)
        return super()._load_index()

    def _load_data(self, name: str) -> Any:
        _check(self._data_path(name))
        return super()._load_data(name)


def _check(path: str) -> None:
    reason = reason_against_file(path)
    if reason is not None:
        raise PermissionError(reason)


class _KernelCache(FunctionCache):
    """Numba's function cache, for one instruction set and one state of all kernel sources."""

    _impl_class = _Kept
    has_failed = False  # whether the cache of any kernel could not be written

    def __init__(self, function: Any) -> None:
        super().__init__(function)
        stamp = self._cache_file._source_stamp, _DIGEST
        self._cache_file = _SafeFiles(self._cache_path, self._impl.filename_base, stamp)

    def _index_key(self, sig: Any, codegen: Any) -> Any:
        return (*super()._index_key(sig, codegen), isa.ACTIVE)

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        try:
            found = super().load_overload(sig, target_context)
        except Exception:  # the file is truncated or foreign: compile again, and keep the result
            with contextlib.suppress(Exception):
                self.flush()
            found = None
        if found is None:
            messages.begin(where)
        return found

    def save_overload(self, sig: Any, data: Any) -> None:
        try:
            super().save_overload(sig, data)
        except Exception:  # the disk is full or the folder read-only: go on without a cache
            self.disable()
            _KernelCache.has_failed = True


class _NoCache(NullCache):
    def load_overload(self, sig: Any, target_context: Any) -> None:
        messages.begin(where)
