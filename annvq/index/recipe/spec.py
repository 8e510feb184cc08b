"""What an index is made of: `Recipe` and its parts, frozen, comparable, to and from TOML and JSON.

What is checked when a recipe is made needs neither the number of vectors nor their dimension; `Recipe.resolve` checks
the rest. Factory strings are read in `annvq.index.recipe.factory`.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, field, fields, replace
from typing import Any, Literal

from annvq.errors import RecipeError
from annvq.index.codes.kind import Layout
from annvq.index.codes.kinds import KINDS
from annvq.index.codes.refine import REFINES
from annvq.index.codes.spec import CodebookSpec
from annvq.index.recipe import rules
from annvq.index.values import check_count, check_keys, check_one_of, check_share, toml_value
from annvq.metrics import INDEX_METRICS

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

Auto = Literal["auto"]

ROTATIONS = ("opq", "pca", "random", "truncate")
LEARNED = ("jpq", "repconc", "distill-vq")


@dataclass(frozen=True, kw_only=True)
class SearchDefaults:
    """Search parameters that apply when `search` is not given others.

    Parameters
    ----------
    nprobe
        Lists scanned per query, or ``"auto"``; None if the index has no lists.
    rerank
        Candidates of the scan that the refine store rescores, or ``"auto"``; None without a refine
        store. A search for more than ``rerank`` results rescores as many as it returns. Of a graph, it is the length of
        the queue of vertices to visit, all of which are scored.

    """

    nprobe: int | Auto | None = "auto"
    rerank: int | Auto | None = "auto"

    def __post_init__(self) -> None:
        for name in ("nprobe", "rerank"):
            value = getattr(self, name)
            if value is not None and value != "auto":
                check_count(f"search.{name}", value, also="'auto'")


@dataclass(frozen=True, kw_only=True)
class Expectation:
    """What tests hold a recipe to.

    Parameters
    ----------
    recall
        Least share of the true 10 nearest neighbours found, 0 to 1, with the default search parameters.
    bytes_at_384, bytes_at_768
        Bytes per vector for d = 384 and d = 768 under inner product (`Recipe.bytes_per_vector`).

    """

    recall: float
    bytes_at_384: int
    bytes_at_768: int

    def __post_init__(self) -> None:
        check_share("expect.recall", self.recall, open_interval=False)
        check_count("expect.bytes_at_384", self.bytes_at_384)
        check_count("expect.bytes_at_768", self.bytes_at_768)


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Everything that decides what `annvq.build` makes of vectors.

    Two recipes are equal if they build the same index; name, texts and expectation do not count.

    Parameters
    ----------
    name, summary, use_when, avoid_when, cost
        Texts for human readers; ``cost`` is the formula for the bytes per vector.
    rotation
        None, ``"opq"`` (learned with the product codebook), ``"random"``, or ``"pca"``: lists and codes see
        only ``dims`` principal components, the refine store the whole vectors. ``"truncate"`` does so with the first
        ``dims`` dimensions, for embeddings whose first dimensions are good by themselves (Matryoshka); for "cosine"
        these are of the vector of length one, and are not scaled again, so that their score is a part of the whole.
    dims
        Components kept by ``"pca"``: a number, or the share of the variance (0 to 1) that they must hold. Dimensions
        kept by ``"truncate"``: a number.
    nlist
        Number of coarse lists, ``"auto"`` (from n), or None: no lists, every code is scanned.
    codebook
        How vectors are coded.
    spill
        Whether every row gets a second code, in another list (`annvq.index.codes.spill`): for 4-bit codes of
        residuals; used for metrics "ip" and "cosine", dropped for "l2".
    refine
        Second, more precise copy of the vectors that rescores the scan's best: None, ``"lvq8"`` or ``"lvq8x8"`` (8 or
        16 bits per dimension, with a range per vector), ``"sq8"`` (8 bits, with learned ranges per dimension),
        ``"fp16"`` or ``"fp32"``.
    learn
        Method of `annvq.learn` that trains the codes on queries, or None: vectors are enough.
    search
        Defaults of `nprobe` and `rerank`.
    expect
        What tests hold the recipe to; None if nothing is promised.

    Raises
    ------
    RecipeError
        The parts do not fit each other.

    Examples
    --------
    >>> recipe = annvq.recipes.load("IVF64,PQ16x4fs,Refine(SQ8)")
    >>> recipe.codebook.M, recipe.refine, recipe.bytes_per_vector(64)
    (16, 'sq8', 72)
    >>> recipe.resolve(10_000, 64, "ip").nlist
    64

    """

    name: str = field(default="custom", compare=False)
    summary: str = field(default="", compare=False)
    use_when: str = field(default="", compare=False)
    avoid_when: str = field(default="", compare=False)
    cost: str = field(default="", compare=False)
    rotation: str | None = None
    dims: int | float | None = None
    nlist: int | Auto | None = None
    codebook: CodebookSpec
    spill: bool = False
    refine: str | None = None
    learn: str | None = None
    search: SearchDefaults = SearchDefaults()
    expect: Expectation | None = field(default=None, compare=False)

    def __post_init__(self) -> None:
        for name in ("name", "summary", "use_when", "avoid_when", "cost"):
            if not isinstance(getattr(self, name), str):
                raise RecipeError(f"{name} = {getattr(self, name)!r}: expected text")
        if self.nlist is not None and self.nlist != "auto":
            check_count("nlist", self.nlist, also="'auto'")
        self._check_parts()
        self._check_rotation()
        self._check_refine()
        self._settle_search()

    def _check_parts(self) -> None:
        if not isinstance(self.codebook, CodebookSpec):
            raise RecipeError(f"codebook = {self.codebook!r}: expected a CodebookSpec, in TOML a table [codebook]")
        if not isinstance(self.search, SearchDefaults):
            raise RecipeError(f"search = {self.search!r}: expected SearchDefaults, in TOML a table [search]")
        if self.expect is not None and not isinstance(self.expect, Expectation):
            raise RecipeError(f"expect = {self.expect!r}: expected an Expectation, in TOML a table [expect]")
        if self.nlist is not None and KINDS[self.codebook.kind].is_graph:
            raise RecipeError(f"nlist = {self.nlist!r} with codes of kind 'graph', which have no lists: leave it out")
        if self.codebook.residual and self.nlist is None:
            raise RecipeError("codebook.residual needs lists to take residuals from: set nlist or residual = false")
        if self.learn is not None:
            check_one_of("learn", self.learn, LEARNED)
        if not isinstance(self.spill, bool):
            raise RecipeError(f"spill = {self.spill!r}: expected true or false")
        if self.spill and (self.codebook.kind, self.codebook.nbits, self.codebook.residual) != ("pq", 4, True):
            raise RecipeError("spill = true goes with a pq codebook of 4 bits and residual = true only")

    def _check_rotation(self) -> None:
        kind = self.codebook.kind
        if self.rotation is not None:
            check_one_of("rotation", self.rotation, ROTATIONS)
        if self.rotation == "opq" and kind != "pq":
            raise RecipeError(f"rotation 'opq' is learned with a pq codebook, not with kind {kind!r}")
        if self.rotation == "pca" and kind != "pq":
            raise RecipeError(f"rotation 'pca' goes with a pq codebook, not with kind {kind!r}")
        if self.rotation == "truncate" and kind == "bits":
            raise RecipeError("rotation 'truncate' goes with vectors of numbers, not with packed bits")
        if (self.rotation in ("pca", "truncate")) != (self.dims is not None):
            raise RecipeError(
                f"rotation = {self.rotation!r} with dims = {self.dims!r}: "
                "'pca' and 'truncate' need dims, no other has it"
            )
        if isinstance(self.dims, float):
            if self.rotation == "truncate":
                raise RecipeError(f"dims = {self.dims} of rotation 'truncate': expected a number of dimensions")
            check_share("dims", self.dims, open_interval=True)
            if isinstance(self.codebook.M, int):
                raise RecipeError(f"dims = {self.dims} as a share needs codebook.M = 'd/k', not {self.codebook.M}")
        elif self.dims is not None:
            check_count("dims", self.dims, also="a share below 1")
        if self.rotation == "random" and KINDS[kind].codebook is None:
            raise RecipeError(f"a rotation changes nothing for kind {kind!r}: leave it out")
        if self.rotation != "random" and KINDS[kind].rotates_itself:
            raise RecipeError(f"kind {kind!r} needs rotation 'random': its estimates hold for rotated vectors only")

    def _check_refine(self) -> None:
        if self.refine is None:
            return
        check_one_of("refine", self.refine, tuple(REFINES))
        if self.rotation != "truncate" and REFINES[self.refine].bits <= KINDS[self.codebook.kind].bits:
            raise RecipeError(
                f"refine {self.refine!r} is not more exact than the codes ({self.codebook.kind!r}): "
                "leave refine out or choose a stronger one"
            )

    def _settle_search(self) -> None:
        """Check the search defaults; those of a stage that the index lacks become None."""
        nprobe, rerank = self.search.nprobe, self.search.rerank
        if isinstance(nprobe, int) and self.nlist is None:
            raise RecipeError(f"search.nprobe = {nprobe} needs lists: set nlist, or leave nprobe out")
        if isinstance(nprobe, int) and isinstance(self.nlist, int) and nprobe > self.nlist:
            raise RecipeError(f"search.nprobe = {nprobe} is more than nlist = {self.nlist}")
        rescores = self.refine is not None or KINDS[self.codebook.kind].is_graph
        if isinstance(rerank, int) and not rescores:
            raise RecipeError(f"search.rerank = {rerank} needs a refine store: set refine, or leave rerank out")
        nprobe = None if self.nlist is None else nprobe or "auto"
        rerank = rerank or "auto" if rescores else None
        object.__setattr__(self, "search", SearchDefaults(nprobe=nprobe, rerank=rerank))

    def resolve(self, n: int, d: int, metric: str) -> Recipe:
        """Return the recipe with every "auto" and "d/k" replaced, checked against the vectors.

        If there are too few vectors for lists (`rules.auto_nlist`), the codebook codes the vectors themselves instead
        of residuals. For "hamming", uncompressed vectors are packed bits, and there is no other recipe.
        Score-aware codes are for inner products and are dropped for "l2". If ``dims`` is a share of
        the variance, what depends on it is left to `settle_dims`.

        Parameters
        ----------
        n
            Number of vectors that the index is built from.
        d
            Their dimension.
        metric
            "ip", "cosine", "l2" or "hamming".

        Raises
        ------
        RecipeError
            There are more sub-quantizers than dimensions or more lists than vectors, or the metric is unknown, or not
            one of the recipe's; the message names a way out.

        """
        check_one_of("metric", metric, INDEX_METRICS)
        if (metric == "hamming") != (self.codebook.kind == "bits"):
            return self._of_bits(metric).resolve(n, d, metric)
        nlist = rules.auto_nlist(n) if self.nlist == "auto" else self.nlist
        if nlist is not None and nlist > n:
            raise RecipeError(
                f"nlist = {nlist} lists need at least as many vectors, not n = {n}: use fewer, or nlist = 'auto'"
            )
        codebook = replace(
            self.codebook,
            residual=self.codebook.residual and nlist is not None,
            score_aware=None if metric == "l2" else self.codebook.score_aware,
        )
        nprobe = self.search.nprobe
        if nlist is None:
            nprobe = None
        elif nprobe == "auto":
            nprobe = rules.auto_nprobe(nlist, n)
        elif nprobe is not None:
            nprobe = min(nprobe, nlist)  # a fixed nprobe and an automatic nlist
        spill = self.spill and nlist is not None and metric != "l2"
        recipe = replace(self, nlist=nlist, codebook=codebook, spill=spill, search=replace(self.search, nprobe=nprobe))
        if recipe.dims is None:
            return recipe._settle_codes(d)
        if isinstance(recipe.dims, float):
            return recipe
        if recipe.dims > d:
            raise RecipeError(f"dims = {recipe.dims} components of vectors with d = {d}: use at most {d}")
        if recipe.rotation == "truncate":
            return recipe._settle_codes(recipe.dims, d)
        return recipe.settle_dims(recipe.dims)

    def _of_bits(self, metric: str) -> Recipe:
        """Return the recipe for "hamming", whose codes are packed bits; RecipeError unless it keeps vectors whole."""
        if metric != "hamming":
            raise RecipeError(f"codes of kind 'bits' are for metric 'hamming', not {metric!r}")
        if (self.codebook.kind, self.rotation, self.refine) != ("fp32", None, None):
            raise RecipeError(
                f"metric 'hamming' is of packed bits, which are kept as they are: recipe {self.name!r} compresses "
                "vectors of numbers; use 'flat', 'ivf-flat', or a factory string such as 'IVF1024,BFlat'"
            )
        return replace(self, codebook=CodebookSpec(kind="bits"))

    def settle_dims(self, dims: int) -> Recipe:
        """Return a resolved recipe with the number of components that a share of the variance came to."""
        return replace(self, dims=dims)._settle_codes(dims)

    def _settle_codes(self, d: int, whole: int | None = None) -> Recipe:
        """Put numbers for M and rerank, which depend on the dimension d that is coded.

        What is truncated is searched with the bits that it has for each of the ``whole`` vector's dimensions.
        """
        codebook, search = self.codebook.settled(d), self.search
        if search.rerank == "auto":
            search = replace(
                search, rerank=rules.auto_rerank(8 * KINDS[codebook.kind].telling_bytes(codebook, d) / (whole or d))
            )
        return replace(self, codebook=codebook, search=search)

    def bytes_per_vector(self, d: int, metric: str = "ip") -> int:
        """Return the bytes that codes, their constants and the refine store take per vector; ids are not counted.

        If ``dims`` is a share of the variance, this is an upper bound: what all d components would take.

        The padding of lists to blocks of 32 is not counted, but that of a row is: to four sub-quantizers of 4 bits, and
        to 64 dimensions for RaBitQ, which keeps 3 factors (12 bytes) with one-bit codes and 5 (20 bytes) with others.
        Under "l2", codes of residuals and codes of several stages come with a constant (4 bytes).
        """
        return sum(section.bytes_per_row for section in self.layout(d, metric).values())

    def layout(self, d: int, metric: str, coded: int | None = None) -> Layout:
        """Return the sections of codes, their constants and the refine store.

        Parameters
        ----------
        d
            Dimension of the vectors.
        metric
            "ip", "cosine", "l2" or "hamming".
        coded
            Dimension of rotated vectors, which is that of the codes. Default: ``dims`` if it is a number, otherwise d.

        Raises
        ------
        RecipeError
            The metric is unknown, or the codebook does not fit the dimension.

        """
        check_one_of("metric", metric, INDEX_METRICS)
        if coded is None:
            coded = self.dims if isinstance(self.dims, int) else d
        codebook, l2 = self.codebook.settled(coded), metric == "l2"
        layout = KINDS[codebook.kind].layout(codebook, coded, l2, self.spill and not l2)
        return layout | REFINES[self.refine].layout(d, l2) if self.refine else layout

    def to_dict(self) -> dict[str, Any]:
        """Return nested plain values without empty ones; `from_dict` reads them back."""
        return _plain(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Recipe:
        """Build from nested plain values; an unknown key raises a RecipeError that names the nearest one."""
        return _from_plain(cls, values, "recipe")

    def to_json(self) -> str:
        """Return the recipe as JSON text."""
        return json.dumps(self.to_dict(), indent=2, ensure_ascii=False)

    @classmethod
    def from_json(cls, text: str) -> Recipe:
        """Build from JSON text (RecipeError as for `from_dict`, or if the text is not JSON)."""
        try:
            values = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise RecipeError(f"not JSON: {error}") from error
        if not isinstance(values, dict):
            raise RecipeError(f"a recipe is a JSON object, not {type(values).__name__}")
        return cls.from_dict(values)

    def to_toml(self) -> str:
        """Return the recipe as TOML text."""
        values = self.to_dict()
        tables = {key: values.pop(key) for key in ("codebook", "search", "expect") if key in values}
        lines = [f"{key} = {toml_value(value)}" for key, value in values.items()]
        for table, entries in tables.items():
            lines += ["", f"[{table}]", *(f"{key} = {toml_value(value)}" for key, value in entries.items())]
        return "\n".join(lines) + "\n"

    @classmethod
    def from_toml(cls, text: str) -> Recipe:
        """Build from TOML text (RecipeError as for `from_dict`, or if the text is not TOML)."""
        try:
            values = tomllib.loads(text)
        except (tomllib.TOMLDecodeError, RecursionError) as error:
            raise RecipeError(f"not TOML: {error}") from error
        return cls.from_dict(values)


_TABLES = {"codebook": CodebookSpec, "search": SearchDefaults, "expect": Expectation}


def _plain(part: Any) -> dict[str, Any]:
    """Return a dataclass of this file as nested plain values, without what is None or ""."""
    plain = {}
    for entry in fields(part):
        value = getattr(part, entry.name)
        if value is not None and value != "" and not (entry.name == "spill" and value is False):
            plain[entry.name] = _plain(value) if entry.name in _TABLES else value
    return plain


def _from_plain(made: Any, values: Any, where: str) -> Any:
    """Build the dataclass ``made`` from nested plain values; ``where`` is for messages."""
    if not isinstance(values, Mapping):
        raise RecipeError(f"{where} = {values!r}: expected a table of keys and values")
    entries = {entry.name: entry for entry in fields(made)}
    check_keys(entries, values, where)
    missing = [name for name, entry in entries.items() if name not in values and entry.default is MISSING]
    if missing:
        raise RecipeError(f"{where}: {', '.join(missing)} missing")
    parts = {key: _from_plain(_TABLES[key], values[key], key) for key in values if key in _TABLES}
    return made(**{**values, **parts})
