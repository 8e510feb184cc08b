"""What a multi-vector index is made of: encoder, index of encodings, stored vectors, source of candidates."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from annvq.arguments import as_file
from annvq.errors import RecipeError
from annvq.index import recipe as recipes
from annvq.index.recipe import Recipe
from annvq.index.recipe.spec import tomllib
from annvq.index.values import check_count, check_keys, check_one_of, did_you_mean
from annvq.multivector.tokens import TokenSpec

CANDIDATES = ("encoding", "tokens", "distinct-tokens", "centroids", "all")


@dataclass(frozen=True, kw_only=True)
class EncoderSpec:
    """Parameters of `annvq.multivector.FixedDimensionalEncoder`, except the dimension, which the vectors determine."""

    repetitions: int = 20
    simhash_bits: int = 5
    projection_dim: int | None = 16
    final_dim: int | None = None
    fill_empty: bool = True
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("repetitions", "projection_dim", "final_dim"):
            if getattr(self, name) is not None or name == "repetitions":
                check_count(f"encoder.{name}", getattr(self, name))
        for name in ("simhash_bits", "seed"):
            if type(getattr(self, name)) is not int or getattr(self, name) < 0:
                raise RecipeError(f"encoder.{name} = {getattr(self, name)!r}: expected a whole number of at least 0")
        if type(self.fill_empty) is not bool:
            raise RecipeError(f"encoder.fill_empty = {self.fill_empty!r}: expected true or false")


@dataclass(frozen=True, kw_only=True)
class MultiVectorRecipe:
    """Everything that determines what `annvq.multivector.build` makes of documents.

    Parameters
    ----------
    name, summary
        Text for people.
    encoder
        The encoder that turns a document's vectors into one; in TOML a table, where ``projection_dim = 0`` keeps all
        dimensions.
    index
        The recipe of the index of these encodings, whose metric is "ip". It has no refine store, because the documents'
        own vectors refine.
    tokens
        How documents' vectors are kept.
    candidates_by
        Where candidates come from. "encoding": the index. "tokens": the documents of every query vector's nearest
        document vectors, one place each; "distinct-tokens": as many different documents per query vector. "centroids":
        the documents that score best by their vectors' centroids alone. "all": every document.
    candidates
        How many documents are rescored by Chamfer similarity, unless `search` or `tune` says otherwise.

    Raises
    ------
    RecipeError
        A part is of another kind, or the parts do not fit each other.

    """

    name: str = field(default="custom", compare=False)
    summary: str = field(default="", compare=False)
    encoder: EncoderSpec = field(default_factory=EncoderSpec)
    index: Recipe
    tokens: TokenSpec = field(default_factory=TokenSpec)
    candidates_by: str = "encoding"
    candidates: int = 100

    def __post_init__(self) -> None:
        for name, kind in (("name", str), ("summary", str), ("index", Recipe), ("encoder", EncoderSpec),
                           ("tokens", TokenSpec)):  # fmt: skip
            if not isinstance(getattr(self, name), kind):
                raise RecipeError(f"{name} = {getattr(self, name)!r}: expected {kind.__name__}")
        check_one_of("candidates_by", self.candidates_by, CANDIDATES)
        check_count("candidates", self.candidates)
        if self.index.refine is not None:
            raise RecipeError("index.refine: the documents' own vectors refine, leave it out")
        if self.candidates_by == "centroids" and self.tokens.kind != "pq":
            raise RecipeError(f"candidates_by 'centroids' needs tokens of kind 'pq', not {self.tokens.kind!r}")

    @classmethod
    def from_toml(cls, text: str) -> MultiVectorRecipe:
        """Build a recipe from TOML text; RecipeError if the text does not describe one."""
        try:
            values = tomllib.loads(text)
        except (tomllib.TOMLDecodeError, RecursionError) as error:
            raise RecipeError(f"not TOML: {error}") from error
        check_keys({entry.name: entry for entry in fields(cls)}, values, "recipe")
        if "index" not in values:
            raise RecipeError("recipe: index missing")
        given = values["index"]
        index = Recipe.from_dict(given) if isinstance(given, Mapping) else recipes.load(given)
        encoder = dict(_table(values, "encoder"))
        if encoder.get("projection_dim") == 0:
            encoder["projection_dim"] = None
        parts = {"encoder": _made(EncoderSpec, encoder), "tokens": _made(TokenSpec, _table(values, "tokens"))}
        return cls(**{**values, **parts, "index": index})


def _table(values: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    table = values.get(name, {})
    if not isinstance(table, Mapping):
        raise RecipeError(f"{name} = {table!r}: expected a table of keys and values")
    return table


def _made(kind: Any, values: Mapping[str, Any]) -> Any:
    check_keys({entry.name: entry for entry in fields(kind)}, values, kind.__name__)
    return kind(**values)


def names() -> tuple[str, ...]:
    """Return the names of the multi-vector recipes that come with annvq, sorted."""
    return tuple(sorted(_files()))


def load(recipe: MultiVectorRecipe | str | os.PathLike[str]) -> MultiVectorRecipe:
    """Return the recipe that is given as a `MultiVectorRecipe`, a name (`names`) or the path of a TOML file."""
    if isinstance(recipe, MultiVectorRecipe):
        return recipe
    files = _files()
    if isinstance(recipe, str) and recipe in files:
        path: Any = files[recipe]
    elif isinstance(recipe, os.PathLike) or (isinstance(recipe, str) and recipe.endswith(".toml")):
        path = recipe
    else:
        hint = did_you_mean(recipe, tuple(files)) if isinstance(recipe, str) else ""
        known = ", ".join(sorted(files))
        raise RecipeError(f"{recipe!r} is no multi-vector recipe's name ({known}{hint}) and no path to a .toml file")
    try:
        return MultiVectorRecipe.from_toml(as_file(path).read_text(encoding="utf-8"))
    except RecipeError as error:
        raise RecipeError(f"recipe {str(path)!r}: {error}") from error
    except (OSError, ValueError) as error:
        raise RecipeError(f"cannot read recipe {str(path)!r}: {error}") from error


def is_multivector(recipe: str) -> bool:
    """Return whether a name or TOML file stands for a multi-vector recipe."""
    if not recipe.endswith(".toml"):
        return recipe in names()
    try:
        return "index" in tomllib.loads(as_file(recipe).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return False


def _files() -> dict[str, Path]:
    return {path.stem: path for path in (recipes.folder() / "multivector").glob("*.toml")}
