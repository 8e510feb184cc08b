"""Recipes for users: loaded by name, path or factory string, chosen by a budget, or put together from their parts."""

from annvq.index.recipe import CodebookSpec, Expectation, Recipe, SearchDefaults, choose, load, names, to_factory

__all__ = ["CodebookSpec", "Expectation", "Recipe", "SearchDefaults", "choose", "load", "names", "to_factory"]
