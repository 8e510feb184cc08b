"""Recipes: what an index is made of, given as a `Recipe`, a factory string, a name or a TOML file.

`annvq.index` is code; the folder `indexes` holds recipes as TOML, which a wheel carries as
`annvq/_recipes`. Users find what is for them in `annvq.recipes`.
"""

from __future__ import annotations

import os
from dataclasses import replace
from numbers import Real
from pathlib import Path

from annvq.arguments import as_choice, as_count, as_file, as_path
from annvq.errors import ParameterError, RecipeError
from annvq.index.codes.spec import CodebookSpec
from annvq.index.recipe.choosing import LEAST_N_FOR_COMPRESSION, WISHES, ranked
from annvq.index.recipe.factory import parse, to_factory
from annvq.index.recipe.spec import Expectation, Recipe, SearchDefaults
from annvq.index.values import did_you_mean

__all__ = [
    "WISHES",
    "CodebookSpec",
    "Expectation",
    "Recipe",
    "SearchDefaults",
    "check",
    "choose",
    "load",
    "names",
    "parse",
    "to_factory",
]

# What "auto" tries in this order under a byte budget, largest first.
_LADDER = ("exact-refine", "balanced", "ivf-sq8", "ivf-pq-fastscan")


def names() -> tuple[str, ...]:
    """Return the names of the recipes that come with annvq, sorted."""
    return tuple(sorted(_files()))


def load(recipe: Recipe | str | os.PathLike[str]) -> Recipe:
    """Return the recipe that ``recipe`` stands for.

    Parameters
    ----------
    recipe
        A `Recipe`; the name of one that comes with annvq (`names`); the path of a TOML file, ending in
        ``.toml``; or a factory string (`annvq.index.recipe.factory`).

    Raises
    ------
    RecipeError
        It is none of these, or what it names is not a valid recipe. ``"auto"`` is refused because it depends
        on the vectors, see `choose`.

    Examples
    --------
    >>> annvq.recipes.load("fast").codebook.kind
    'pq'
    >>> annvq.recipes.load("IVF64,Flat").nlist
    64

    """
    if isinstance(recipe, Recipe):
        return recipe
    if isinstance(recipe, os.PathLike) or (isinstance(recipe, str) and recipe.endswith(".toml")):
        try:
            return _read(as_path(recipe))
        except ParameterError as error:
            raise RecipeError(f"cannot read recipe {os.fspath(recipe)!r}: {error}") from error
    if not isinstance(recipe, str):
        kind = type(recipe).__name__
        raise RecipeError(f"a recipe is a Recipe, a name, a path or a factory string, not {kind}")
    if recipe == "auto":
        raise RecipeError("recipe 'auto' depends on the vectors: see annvq.recipes.choose(n, d, metric)")
    files = _files()
    if recipe in files:
        return _read(files[recipe])
    try:
        return parse(recipe)
    except RecipeError as error:
        hint = did_you_mean(recipe, tuple(files))
        raise RecipeError(
            f"{recipe!r} is no recipe's name ({', '.join(sorted(files))}{hint}), no path to a .toml file, "
            f"and no factory string: {error}"
        ) from error


def check(recipe: Recipe | str | os.PathLike[str]) -> None:
    """Raise RecipeError unless `annvq.build` takes this as a recipe, whatever the vectors: `load`, or "auto"."""
    if recipe != "auto":
        load(recipe)


def choose(
    n: int,
    d: int,
    metric: str,
    bytes_per_vector: float | None = None,
    *,
    prefer: str | None = None,
    equally_long: bool = False,
) -> Recipe:
    """Return what recipe "auto" stands for, resolved for ``n`` vectors of dimension ``d``.

    Without a budget: "flat" below 20,000 vectors, "balanced" from there on. With a budget, the first
    that fits of: "flat" (below 20,000 vectors), "exact-refine", "balanced", "ivf-sq8",
    "ivf-pq-fastscan", and last rotated 8-bit product codes of residuals as long as the budget allows.
    With ``prefer``, the first that fits of those that measurements put first, and last the same product codes; the
    recipe's ``use_when`` says why it was taken.

    Parameters
    ----------
    n, d
        Number and dimension of the vectors.
    metric
        "ip", "cosine", "l2" or "hamming"; for the last one, "flat" and "ivf-flat" are all there is.
    bytes_per_vector
        Largest number of bytes per vector for codes and refine store (8 bytes of id not counted), or None.
    prefer
        What matters most: "speed" of single queries at a recall of 0.95; "memory", of which the least is taken that
        keeps a recall of 0.9; or the time to "build". None is the compromise above.
    equally_long
        Whether all vectors have the same length (their standard deviation is at most 0.04 of their mean), as most
        text embeddings have. Under "ip", "speed" then takes what it takes under "cosine". `annvq.build` finds out.

    Raises
    ------
    RecipeError
        The budget does not hold the shortest code, of which the error tells the size.
    ParameterError
        The wish is none of these, or the budget, ``n`` or ``d`` is no such number.

    Examples
    --------
    >>> annvq.recipes.choose(1000, 64, "ip").name
    'flat'
    >>> annvq.recipes.choose(1_000_000, 64, "ip", bytes_per_vector=90).name
    'balanced'
    >>> annvq.recipes.choose(1_000_000, 64, "cosine", prefer="speed").name
    'graph'

    """
    if bytes_per_vector is not None and (isinstance(bytes_per_vector, bool) or not isinstance(bytes_per_vector, Real)):
        raise ParameterError(f"bytes_per_vector must be a number, not {bytes_per_vector!r}")
    if bytes_per_vector is not None and not isinstance(bytes_per_vector, int):
        bytes_per_vector = float(bytes_per_vector)  # other kinds of numbers cannot all be printed
    n, d = as_count("n", n, least=0), as_count("d", d)
    if prefer is not None:
        return _preferred(as_choice("prefer", prefer, WISHES), n, d, metric, bytes_per_vector, equally_long)
    is_small = n < LEAST_N_FOR_COMPRESSION
    if metric == "hamming":
        return _of_bits(n, d, bytes_per_vector)
    if bytes_per_vector is None:
        return load("flat" if is_small else "balanced").resolve(n, d, metric)
    for rung in ("flat", *_LADDER) if is_small else _LADDER:
        recipe = load(rung).resolve(n, d, metric)
        if recipe.bytes_per_vector(d, metric) <= bytes_per_vector:
            return recipe
    return _product_codes_within(bytes_per_vector, n, d, metric)


def _of_bits(n: int, d: int, budget: float | None) -> Recipe:
    recipe = load("flat" if n < LEAST_N_FOR_COMPRESSION else "ivf-flat").resolve(n, d, "hamming")
    if budget is not None and not recipe.bytes_per_vector(d, "hamming") <= budget:
        raise RecipeError(f"{budget} bytes a vector do not hold {d} bits")
    return recipe


def _preferred(prefer: str, n: int, d: int, metric: str, budget: float | None, equally_long: bool) -> Recipe:
    """Return the recipe that grants a wish within the budget; its ``use_when`` is the reason."""
    if metric == "hamming":
        recipe, why = _of_bits(n, d, budget), "bits are kept as they are"
    else:
        ranking, why = ranked(prefer, n, metric, equally_long=equally_long)
        tried = [load(name).resolve(n, d, metric) for name in ranking]
        if prefer == "memory":
            tried.sort(key=lambda recipe: recipe.bytes_per_vector(d, metric))
        fitting = [one for one in tried if budget is None or one.bytes_per_vector(d, metric) <= budget]
        if budget is not None and not fitting:
            fitting = [_product_codes_within(budget, n, d, metric)]
        recipe = fitting[0]
        if recipe is not tried[0]:
            why = f"{tried[0].name}, which comes first, takes more bytes"
    size, allowed = recipe.bytes_per_vector(d, metric), "" if budget is None else f", {budget:,} are allowed"
    matters = "the time to build" if prefer == "build" else prefer
    told = f"{matters} matters most for {n:,} vectors of {d:,} dimensions: {why} (at most {size:,} bytes each{allowed})"
    return replace(recipe, use_when=told)


def _product_codes_within(budget: float, n: int, d: int, metric: str) -> Recipe:
    shortest = Recipe(
        name="auto",
        summary="Product codes as long as a byte budget allows",
        rotation="opq",
        nlist="auto",
        codebook=CodebookSpec(kind="pq", M=1, nbits=8, residual=True),
    ).resolve(n, d, metric)
    constants = shortest.bytes_per_vector(d, metric) - 1
    M = min(int(budget) - constants, d) if budget >= 1 else 0
    if M < 1:
        raise RecipeError(f"{budget} bytes a vector hold no code: the shortest takes {constants + 1}")
    return replace(shortest, codebook=replace(shortest.codebook, M=M))


def folder() -> Path:
    """Return the folder of recipes: in the installed package, else in the source tree."""
    package = Path(__file__).parents[2]
    packaged = package / "_recipes"
    return packaged if packaged.is_dir() else package.parent / "indexes"


def _files() -> dict[str, Path]:
    return {path.stem: path for path in folder().glob("*.toml")}


def _read(path: Path) -> Recipe:
    try:
        text = as_file(path).read_text(encoding="utf-8")
    except (OSError, ValueError) as error:  # not UTF-8; NUL in the path
        raise RecipeError(f"cannot read recipe {str(path)!r}: {error}") from error
    try:
        return Recipe.from_toml(text)
    except RecipeError as error:
        raise RecipeError(f"recipe {str(path)!r}: {error}") from error
