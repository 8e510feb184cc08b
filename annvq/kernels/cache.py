"""Where compiled kernels are kept from one process to the next.

In the folder that Numba chooses (``NUMBA_CACHE_DIR``, else ``__pycache__`` beside the sources, else the user's folder
of caches), if nobody else may have written to it: see `annvq.kernels.ownership`. Numba's own cache looks only at the
file of the compiled function. Kernels call each other across files and are generated differently per instruction set,
so the key here also holds the active instruction set and a digest of all kernel sources. A cache that cannot be read
or written is never an error: the kernel is compiled again.
"""

from __future__ import annotations

import contextlib
import hashlib
from functools import cache
from pathlib import Path
from typing import Any

from numba.core.caching import CompileResultCacheImpl, FunctionCache, IndexDataCacheFile, NullCache

from annvq.kernels import compiling, isa
from annvq.kernels.ownership import reason_against_file, reason_against_folder


def _digest_of_sources() -> str:
    digest = hashlib.sha256()
    for source in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(source.read_bytes())
    return digest.hexdigest()


_KEY = (isa.ACTIVE, _digest_of_sources())
_refused: list[str] = []  # why folders were not used


def where() -> tuple[str | None, str]:
    """Return the folder that keeps compiled kernels, None for none, and why there is none."""
    from annvq.kernels.finite import first_non_finite  # all kernels are kept in one place

    kept = first_non_finite._cache
    if kept.cache_path is not None and kept._enabled:
        return kept.cache_path, ""
    if kept.cache_path is not None:
        return None, f"{kept.cache_path} cannot be written"
    return None, "; ".join(dict.fromkeys(_refused)) or "no folder can be written"


def cache_of(function: Any) -> Any:
    """Return the cache of a kernel, which keeps nothing where no folder can be used."""
    try:
        return _KernelCache(function)
    except RuntimeError:  # Numba's, where it has no place
        return _NoCache()


@cache
def _is_safe(folder: str) -> bool:
    reason = reason_against_folder(folder)
    if reason is not None:
        _refused.append(reason)
    return reason is None


class _SafeLocator:
    """Gives what one of Numba's locators gives, if that is safe."""

    def __init__(self, locator: Any) -> None:
        self._locator = locator

    def from_function(self, function: Any, source: str) -> Any:
        """Return the locator of a function, None where its folder cannot or must not be used."""
        found = self._locator.from_function(function, source)
        if found is None or _is_safe(found.get_cache_path()):
            return found
        # Who chose a place wants no other one. Before Numba 0.62 the name begins with an underscore.
        if self._locator.__name__.endswith("UserProvidedCacheLocator"):
            raise RuntimeError("the given folder is not safe")
        return None


class _Kept(CompileResultCacheImpl):
    @property
    def _locator_classes(self) -> list[Any]:
        return [_SafeLocator(locator) for locator in CompileResultCacheImpl._locator_classes]


class _SafeFiles(IndexDataCacheFile):
    """Reads no file that somebody else may have written, say before the folder was closed to others."""

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
    """Numba's function cache, keyed also by instruction set and kernel sources."""

    _impl_class = _Kept

    def __init__(self, function: Any) -> None:
        super().__init__(function)
        own = self._cache_file
        self._cache_file = _SafeFiles(self._cache_path, self._impl.filename_base, own._source_stamp)

    def _index_key(self, sig: Any, codegen: Any) -> Any:
        return (*super()._index_key(sig, codegen), _KEY)

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        try:
            found = super().load_overload(sig, target_context)
        except Exception:  # truncated or foreign cache file: compile again, and let that be kept
            with contextlib.suppress(Exception):
                self.flush()
            found = None
        if found is None:
            compiling.begin(where)
        return found

    def save_overload(self, sig: Any, data: Any) -> None:
        try:
            super().save_overload(sig, data)
        except Exception:  # full disk, read-only folder: work on without a cache
            self.disable()


class _NoCache(NullCache):
    def load_overload(self, sig: Any, target_context: Any) -> None:
        compiling.begin(where)
