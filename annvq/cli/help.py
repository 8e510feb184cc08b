"""Help texts without the names of Python's types."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import typer.core


def text_of(command: Callable[..., None]) -> str:
    """Return a command's docstring with every paragraph on one line; typer keeps the breaks between its lines."""
    paragraphs = inspect.cleandoc(command.__doc__ or "").split("\n\n")
    return "\n\n".join(" ".join(paragraph.split()) for paragraph in paragraphs)


class _Plain:
    """Shows parameters by their names; typer adds ``<bool>`` to every flag and ``<Path>`` to every file."""

    def get_params(self, ctx: Any) -> list[Any]:
        """Return the parameters, those of the help text and of completion among them."""
        parameters = super().get_params(ctx)  # type: ignore[misc]
        for parameter in parameters:
            if parameter.param_type_name == "argument" or parameter.is_flag:
                parameter.display_type_rich = _no_type
        return parameters

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        """Return the words of the usage line; typer puts braces around what is required."""
        pieces = super().collect_usage_pieces(ctx)  # type: ignore[misc]
        return [piece.replace("{", "").replace("}", "") for piece in pieces]


class PlainCommand(_Plain, typer.core.TyperCommand):
    """A command with plain help."""


class PlainGroup(_Plain, typer.core.TyperGroup):
    """A group of commands with plain help."""


def _no_type(ctx: Any) -> None:
    """Stand in for the method of a parameter that names its type."""
