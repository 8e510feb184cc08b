"""The rules by which recipe "auto" grants a wish: which recipes are tried, and why.

The thresholds are read off the tables that bench/choosing.py prints; docs/choosing/recipes.md shows them.
"""

from __future__ import annotations

from annvq.index.recipe.rules import LEAST_N_FOR_LISTS

WISHES = ("speed", "memory", "build")

# Up to here an exact scan takes a few milliseconds per query.
LEAST_N_FOR_COMPRESSION = 20_000
# From here on, a walk through a graph answers a single query sooner than lists do, at a recall of 0.95:
# python bench/choosing.py bench-out/minilm-debian.npz --n 5000,20000,60000 --recipes fast,graph
# python bench/choosing.py bench-out/fashion-mnist-mirrored.npz --n 60000,120000,240000 --recipes fast,graph
# Under inner product, this is said of vectors that are equally long, as under cosine.
LEAST_N_FOR_GRAPH = {"cosine": 20_000, "l2": 200_000}

Ranked = tuple[tuple[str, ...], str]  # the names of recipes, best first, and why the first is taken


def ranked(prefer: str, n: int, metric: str, *, equally_long: bool) -> Ranked:
    """Return the recipes that grant a wish for ``n`` vectors, best first; those of "memory" go by their bytes."""
    if n == 0:
        return ("flat",), "there are none to learn from"
    if prefer == "speed":
        as_cosine = metric == "ip" and equally_long
        return _by_speed(n, LEAST_N_FOR_GRAPH.get("cosine" if as_cosine else metric))
    return {"memory": _by_memory, "build": _by_build}[prefer](n)


def _by_speed(n: int, least_for_graph: int | None) -> Ranked:
    """Rank by single queries per second, where the recall of the 10 nearest is 0.95; the last falls short of it."""
    smaller = ("ivf-rabitq", "ivf-sq8", "ivf-pq-fastscan")
    lists = ("fast", "balanced", *smaller)
    if n < LEAST_N_FOR_LISTS:
        why = f"below {LEAST_N_FOR_LISTS:,}, where there are no lists, "
        if least_for_graph is None:
            return smaller, why + "codes of few bits are scanned fastest"
        return ("graph", *smaller), why + "a walk through a graph is fastest"
    if least_for_graph is None:
        return lists, "lists of short codes are fast, also where vectors differ in length"
    if n < least_for_graph:
        return lists, f"below {least_for_graph:,}, lists of short codes are as fast as a graph, and smaller"
    return ("graph", *lists), f"from {least_for_graph:,} on, a walk through a graph is faster than lists"


def _by_memory(n: int) -> Ranked:
    """Name the recipes whose recall of the 10 nearest is at least 0.9 without tuning."""
    why = "on the data that were measured, these are the fewest bytes with which 9 of the 10 nearest are found"
    return ("ivf-rabitq", "ivf-sq8"), why


def _by_build(n: int) -> Ranked:
    """Rank by the time to build; from some thousands of vectors on, only what need not compare all in a search."""
    if n < LEAST_N_FOR_COMPRESSION:
        why = f"below {LEAST_N_FOR_COMPRESSION:,}, nothing has to be learned, for all are compared"
        return ("flat", "ivf-sq8", "ivf-rabitq"), why
    why = f"from {LEAST_N_FOR_COMPRESSION:,} on, only lists have to be learned"
    return ("ivf-flat", "ivf-sq8", "ivf-rabitq"), why
