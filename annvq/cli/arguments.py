"""Forms of the command line that typer does not read by itself."""

from __future__ import annotations

from collections.abc import Sequence

from annvq.errors import RecipeError
from annvq.index import recipe as recipes

_OPTION = "--recipe"


def spelled(arguments: Sequence[str]) -> list[str]:
    """Return arguments in typer's form, with ``--recipe A B`` and ``info --json`` without a file spelled out."""
    given = repeat_recipes(arguments)
    if given[:1] == ["info"]:
        for at in [at for at, word in enumerate(given) if word == "--json"][::-1]:
            if not (given[at + 1 : at + 2] == ["-"] or "".join(given[at + 1 : at + 2]).endswith(".json")):
                given.insert(at + 1, "-")
    return given


def repeat_recipes(arguments: Sequence[str]) -> list[str]:
    """Spell ``--recipe A B C`` as ``--recipe A --recipe B --recipe C``.

    Typer takes one value per option. What follows the first value belongs to the option as long as
    it is a recipe (a name, factory string or TOML file), so that a data set's path may follow, too.
    """
    spelled: list[str] = []
    remaining = list(arguments)
    while remaining:
        spelled.append(remaining.pop(0))
        if spelled[-1] != _OPTION or not remaining:
            continue
        spelled.append(remaining.pop(0))
        while remaining and _is_recipe(remaining[0]):
            spelled += [_OPTION, remaining.pop(0)]
    return spelled


def _is_recipe(word: str) -> bool:
    if word.startswith("-"):
        return False
    try:
        recipes.check(word)
    except RecipeError:
        return False
    return True
