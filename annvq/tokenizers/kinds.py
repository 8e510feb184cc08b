"""Checks that the parts users pass in are of the right kind."""

from __future__ import annotations

from typing import Any

from annvq.errors import ParameterError


def check_kind(name: str, value: Any, *kinds: type) -> None:
    """Raise a ParameterError if a value is of none of the kinds; ``name`` is what the message calls it."""
    if not isinstance(value, kinds):
        accepted = " or ".join("None" if kind is type(None) else kind.__name__ for kind in kinds)
        raise ParameterError(f"{name} must be {accepted}, not {value!r}")


def check_estimator(estimator: Any) -> None:
    """Raise a ParameterError if an estimator is not callable."""
    if not callable(estimator):
        raise ParameterError(f"estimator must be a function of z and q, not {estimator!r}")
