"""Factory strings: Faiss's short names for indexes, as far as annvq has the parts.

    [OPQ{M} | PCA{dims} | Truncate{dims} | RR,] [IVF{nlist},] codes [,RFlat | ,Refine({codes})]

| part | spelling | recipe |
|---|---|---|
| rotation | `OPQ32` | learned, M = 32 as in the PQ that follows |
| | `PCA64` | to 64 principal components |
| | `Truncate64` | the first 64 dimensions |
| | `RR` | random |
| lists | `IVF1024`; `IVF` or `IVFauto` | nlist 1024; from n |
| codes | `Flat`, `SQfp16`, `SQ8`, `SQ4` | scalar |
| | `BFlat` | bits, for metric "hamming" |
| | `PQ32`, `PQ32x8`, `PQ32x4` | product, 8 or 4 bits |
| | `PQ32x4fs`, `PQ32x4fsr` | the same codes and scan as `PQ32x4`; of vectors, of residuals |
| | `RQ8`, `RQ8x4` | residual quantizer, 8 stages of 8 or 4 bits |
| | `RaBitQ`, `RaBitQ4` | 1, 4 bits per dimension, always rotated at random |
| | `QG32`, `QG32x48` | a graph of 32 neighbours per vertex, with 64 or 48 codes of 4 bits each; vectors as float16 |
| | `QG32SQ8`, `QG32x48SQ8` | the same, with 8-bit scalars in place of float16 |
| refine | `RFlat`, `Refine(Flat)`, `Refine(SQfp16)`, `Refine(SQ8)` | |
| | `Refine(LVQ8)`, `Refine(LVQ8x8)` | 8 or 16 bits with a range per vector; not in Faiss |

As in Faiss, codes behind `IVF` are of residuals, except `PQ{M}x4fs`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

from annvq.errors import RecipeError
from annvq.index.codes.kinds import KINDS
from annvq.index.codes.refine import REFINES
from annvq.index.codes.spec import CodebookSpec
from annvq.index.recipe.spec import Auto, Recipe
from annvq.index.values import did_you_mean

_NUMBER = r"[0-9]{1,9}"
_STAGES = ("rotation", "lists", "codes", "refine")
_SPELLINGS = {
    "rotation": re.compile(rf"OPQ(?P<M>{_NUMBER})|(?:PCA|(?P<first>Truncate))(?P<dims>{_NUMBER})|RR"),
    "lists": re.compile(rf"IVF(?P<nlist>{_NUMBER}|auto)?"),
    "refine": re.compile(rf"RFlat|Refine\((?P<kind>{'|'.join(kind.text for kind in REFINES.values())})\)"),
}
_ACCEPTED = {
    "rotation": "OPQ{M}, PCA{dims}, Truncate{dims}, RR",
    "lists": "IVF{nlist}, IVF",
    "codes": "Flat, BFlat, SQ8, SQ4, SQfp16, PQ{M}, PQ{M}x8, PQ{M}x4, PQ{M}x4fs, PQ{M}x4fsr, RQ{M}x8, RaBitQ{bits}, "
    "QG32, QG32x{M}, QG32x{M}SQ8",
    "refine": "RFlat, " + ", ".join(f"Refine({kind.text})" for kind in REFINES.values()),
}
_NEAR = (
    "OPQ32",
    "Truncate256",
    "RR",
    "IVF1024",
    "Flat",
    "BFlat",
    "SQ8",
    "SQ4",
    "SQfp16",
    "PQ32x4fs",
    "RQ8",
    "RaBitQ",
    "QG32",
    "RFlat",
)
# What Faiss has and annvq lacks, with an alternative.
_NOT_HERE = (
    (r"OPQ[0-9]+_[0-9]+", "an OPQ that reduces the dimension is not supported; use OPQ{M}, or PCA{dims}"),
    (r"RR[0-9]+|PCA.+|L2norm|ITQ.*|Pad.*", "of transforms there are OPQ{M}, PCA{dims} and RR"),
    (r"IVF[0-9]+[_(].*|IMI.*", "lists are found by scanning all centroids; use IVF{nlist}"),
    (r"(HNSW|NSG|LSH).*", "of graphs there is QG32; or use IVF{nlist} with codes"),
    (r"PQ[0-9]+x4fsr?_[0-9]+", "a block always has 32 vectors; use PQ{M}x4fs"),
    (r"(IDMap|IDMap2)(,.*)?", "every index has ids; leave it out"),
)
_REFINES = {kind.text: name for name, kind in REFINES.items()}


class _Token(NamedTuple):
    text: str
    position: int  # of its first character, from 1


def parse(text: str) -> Recipe:
    """Read a factory string such as ``"OPQ32,IVF1024,PQ32x4fs,RFlat"``.

    Space around parts is ignored; case matters, as in Faiss. The recipe's name is the
    string.

    Raises
    ------
    RecipeError
        A part is unknown, not supported or in the wrong place (the message has its position), or parts do not
        fit each other.

    """
    found: dict[str, re.Match[str]] = {}
    accepted: Sequence[str] = ("rotation", "lists", "codes")
    for token in _split(text):
        stage, match = _match(token, accepted, text)
        found[stage] = match
        following = _STAGES[_STAGES.index(stage) + 1 :]
        accepted = following[:-1] if "codes" in following else following
    if "codes" not in found:
        raise RecipeError(f"factory string {text!r} names no codes; accepted: {_ACCEPTED['codes']}")
    try:
        return _assemble(found, text)
    except RecipeError as error:
        raise RecipeError(f"factory string {text!r}: {error}") from error


def to_factory(recipe: Recipe) -> str:
    """Return the factory string that `parse` reads as an equal recipe.

    Raises
    ------
    RecipeError
        The recipe holds something that factory strings cannot express.

    Examples
    --------
    >>> recipe = annvq.recipes.load("IVF64,PQ16x4fs,Refine(SQ8)")
    >>> annvq.recipes.to_factory(recipe)
    'IVF64,PQ16x4fs,Refine(SQ8)'

    """
    untold = _untold(recipe)
    if untold:
        raise RecipeError(f"recipe {recipe.name!r} has no factory string: it cannot say {', '.join(untold)}")
    codebook = recipe.codebook
    parts = []
    if recipe.rotation == "opq":
        parts.append(f"OPQ{codebook.M}")
    elif recipe.rotation in ("pca", "truncate"):
        parts.append(f"{'PCA' if recipe.rotation == 'pca' else 'Truncate'}{recipe.dims}")
    elif recipe.rotation == "random" and not KINDS[codebook.kind].rotates_itself:
        parts.append("RR")
    if recipe.nlist is not None:
        parts.append("IVF" if recipe.nlist == "auto" else f"IVF{recipe.nlist}")
    parts.append(KINDS[codebook.kind].spelled(codebook))
    if recipe.refine is not None:
        parts.append("RFlat" if recipe.refine == "fp32" else f"Refine({REFINES[recipe.refine].text})")
    return ",".join(parts)


def _split(text: str) -> list[_Token]:
    if not isinstance(text, str):
        raise RecipeError(f"a factory string is text, not {type(text).__name__}")
    tokens, position = [], 1
    for part in text.split(","):
        lead = len(part) - len(part.lstrip())
        tokens.append(_Token("".join(part.split()), position + lead))
        position += len(part) + 1
    return tokens


def _match(token: _Token, stages: Sequence[str], text: str) -> tuple[str, re.Match[str]]:
    for stage in stages:
        match = _read(stage, token)
        if match:
            return stage, match
    for pattern, way_out in _NOT_HERE:
        if re.fullmatch(pattern, token.text):
            raise RecipeError(f"{token.text!r} at character {token.position} of {text!r}: {way_out}")
    raise RecipeError(_unexpected(token, text, stages))


def _read(stage: str, token: _Token) -> re.Match[str] | None:
    if stage != "codes":
        return _SPELLINGS[stage].fullmatch(token.text)
    return next((match for kind in KINDS.values() if (match := kind.spelling.fullmatch(token.text))), None)


def _unexpected(token: _Token, text: str, stages: Sequence[str]) -> str:
    where = f"at character {token.position} of {text!r}"
    accepted = "; ".join(_ACCEPTED[stage] for stage in stages) or "nothing more"
    if any(_read(stage, token) for stage in _STAGES):
        return f"{token.text!r} is in the wrong place, {where}; accepted here: {accepted}"
    return f"unknown part {token.text!r} {where}{did_you_mean(token.text, _NEAR)}; accepted here: {accepted}"


def _assemble(found: dict[str, re.Match[str]], text: str) -> Recipe:
    rotation, lists, codes, refine = (found.get(stage) for stage in _STAGES)
    assert codes is not None  # checked by parse
    nlist: int | Auto | None = None
    if lists:
        nlist = int(lists["nlist"]) if (lists["nlist"] or "auto") != "auto" else "auto"
    codebook = _codebook(codes[0], lists is not None)
    if rotation and rotation["M"] and (codebook.kind, codebook.M) != ("pq", int(rotation["M"])):
        raise RecipeError(f"{rotation[0]} needs a PQ of the same number behind it, given {codes[0]}")
    turned = None
    if rotation:
        turned = (
            "opq" if rotation["M"] else "truncate" if rotation["first"] else "pca" if rotation["dims"] else "random"
        )
    return Recipe(
        name=text.strip(),
        rotation="random" if KINDS[codebook.kind].rotates_itself and turned is None else turned,
        dims=int(rotation["dims"]) if rotation and rotation["dims"] else None,
        nlist=nlist,
        codebook=codebook,
        refine=None if refine is None else _REFINES[refine["kind"] or "Flat"],
    )


def _codebook(text: str, lists: bool) -> CodebookSpec:
    found = ((kind, kind.spelling.fullmatch(text)) for kind in KINDS.values())
    kind, match = next((kind, match) for kind, match in found if match)
    return CodebookSpec(kind=kind.name, **kind.read(match, lists))


def _untold(recipe: Recipe) -> list[str]:
    """Return the parts of ``recipe`` that a factory string cannot express."""
    codebook = recipe.codebook
    coded_as_faiss_would = codebook.residual == (recipe.nlist is not None)
    is_fastscan = codebook.kind == "pq" and codebook.nbits == 4
    defaults = KINDS[codebook.kind].defaults
    says_residual = coded_as_faiss_would or is_fastscan or "residual" not in defaults
    untold = {
        f"dims = {recipe.dims!r}": isinstance(recipe.dims, float),
        "spill = True": recipe.spill,
        f"learn = {recipe.learn!r}": recipe.learn is not None,
        f"codebook.M = {codebook.M!r}": isinstance(codebook.M, str),
        f"codebook.residual = {codebook.residual}": not says_residual,
        f"codebook.score_aware = {codebook.score_aware}": codebook.score_aware is not None,
        f"codebook.beam = {codebook.beam}": codebook.beam != defaults.get("beam"),
        f"search.nprobe = {recipe.search.nprobe}": isinstance(recipe.search.nprobe, int),
        f"search.rerank = {recipe.search.rerank}": isinstance(recipe.search.rerank, int),
    }
    return [what for what, is_untold in untold.items() if is_untold]
