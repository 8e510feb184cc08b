"""Former names of functions and parameters, and former defaults, which work for one more version and warn."""

from __future__ import annotations

import functools
import sys
import warnings
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from annvq.errors import ParameterError

Called = TypeVar("Called", bound=Callable[..., Any])


def warn_renamed(former: str, name: str, *, level: int = 3) -> None:
    """Warn that something has another name now, at the line of code ``level`` calls above."""
    warnings.warn(f"{former} is called {name} now", DeprecationWarning, stacklevel=level)


def unstated_metric(former: str) -> str:
    """Return the former default of a metric that has to be stated now, and warn."""
    warnings.warn(f"state the metric: {former!r} will not be its default", DeprecationWarning, stacklevel=3)
    return former


def former_names(module: str, names: Mapping[str, str]) -> Callable[[str], Any]:
    """Return a module's ``__getattr__``, which finds what the module has by its former names as well."""

    def find(name: str) -> Any:
        if name not in names:
            raise AttributeError(f"module {module!r} has no attribute {name!r}")
        warn_renamed(f"{module}.{name}", names[name])
        return getattr(sys.modules[module], names[name])

    return find


def former_keywords(**names: str) -> Callable[[Called], Called]:
    """Decorate a function so that it takes parameters by their former names as well.

    Parameters
    ----------
    names
        The present name for each former one.

    Returns
    -------
    A decorator. What it decorates raises ParameterError if it is given a parameter by both names.

    """

    def decorate(function: Called) -> Called:
        @functools.wraps(function)
        def call(*args: Any, **given: Any) -> Any:
            for former in names.keys() & given.keys():
                name = names[former]
                if name in given:
                    raise ParameterError(f"{name} and {former} are the same parameter: give {name} alone")
                warn_renamed(f"parameter {former}", name)
                given[name] = given.pop(former)
            return function(*args, **given)

        return call  # type: ignore[return-value]

    return decorate
