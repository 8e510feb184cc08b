"""All methods by name; their modules, and torch with them, are imported when one is first used."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from importlib import import_module
from typing import Any

from annvq.errors import ParameterError

_MODULES = {
    "Hash": "hash",
    "CompoEmb": "compo",
    "ROBE": "robe",
    "DHE": "dhe",
    "Dedup": "dedup",
    "TTRec": "ttrec",
    "DPQ": "dpq",
    "MGQE": "mgqe",
    "PQ": "pq",
    "RVQ": "rvq",
    "RaBitQ": "rabitq",
    "AdaptEmb": "adapt",
    "MDE": "mde",
    "AutoDim": "autodim",
    "OptEmbed": "optembed",
    "DNIS": "dnis",
    "AutoSrh": "autosrh",
    "DeepLight": "deeplight",
    "PEP": "pep",
    "FP16": "fp16",
    "INT8": "integers",
    "INT16": "integers",
    "ALPT": "alpt",
}
FIXED_SIZE = ("FP16", "INT8", "INT16", "ALPT")  # methods that need no budget: their tables always take the same bytes


class Methods(Mapping[str, Any]):
    """Classes by name, in the order of the documentation."""

    def __getitem__(self, name: str) -> Any:
        return getattr(import_module(f"annvq.tables.methods.{_MODULES[name]}"), name)

    def __iter__(self) -> Iterator[str]:
        return iter(_MODULES)

    def __len__(self) -> int:
        return len(_MODULES)

    def __repr__(self) -> str:
        return f"METHODS({', '.join(self)})"


METHODS = Methods()


def table_method(name: Any) -> Any:
    """Return the class of a method; ParameterError for an unknown name."""
    if not isinstance(name, str) or name not in _MODULES:
        raise ParameterError(f"method must be one of {', '.join(METHODS)}, not {name!r}")
    return METHODS[name]
