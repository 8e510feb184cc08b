"""The demo: build recipes over Cranfield, search, compare; leave an index to play with."""

from __future__ import annotations

import shlex
import shutil
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
from rich.console import Console

import annvq
from annvq.bench import plots
from annvq.bench.console import print_fitting, quality_table
from annvq.bench.quality import JudgedVectors, Quality, measure
from annvq.bench.sweep import Point
from annvq.demo import cranfield, speed
from annvq.errors import MissingExtraError
from annvq.evaluation import BeirDataset, evaluate

RECIPES = (
    "flat",
    "ivf-flat",
    "ivf-sq8",
    "balanced",
    "fast",
    "ivf-pq-fastscan",
    "ivf-rabitq",
    "opq-ivf-pq8",
    "small",
)
_KEPT = "balanced"  # the recipe of the index that stays
_TITLE = "Cranfield: 1,400 abstracts, 225 questions, all-MiniLM-L6-v2 (384 dimensions)"


def run(out: Path, console: Console) -> list[Quality]:
    """Measure all recipes, print a table, and write pictures, an index and queries to ``out``.

    Ranking measures need pytrec_eval, and pictures matplotlib; the rest works without them.

    Parameters
    ----------
    out
        The folder to write, created if missing: index/, queries.npy, queries.tsv, documents.tsv, pictures.
    console
        Where the table goes.

    """
    out.mkdir(parents=True, exist_ok=True)  # first, so that an error comes before a minute's work
    dataset = cranfield.texts()
    judged = cranfield.embeddings(dataset)
    can_judge = _can_judge(console)
    qualities = []
    console.print(f"building and searching {len(RECIPES)} recipes (a first run also compiles kernels)")
    with console.status("") as status:
        for recipe in RECIPES:
            status.update(f"building and searching {recipe}")
            qualities.append(measure(judged, recipe, judge=can_judge)[0])
    print_fitting(console, lambda narrow: quality_table(qualities, _TITLE, narrow))
    if can_judge:
        _draw(partial(plots.quality_against_size, qualities, title=_TITLE), out / "ndcg-bytes.png", console)
    _show_speed(out, console)
    index = _keep(judged, dataset, out)
    _show_hits(index, judged, dataset, console)
    _show_next(out, console)
    return qualities


def _can_judge(console: Console) -> bool:
    try:
        evaluate({}, {})
    except MissingExtraError as error:
        console.print(f"no ranking measures: {error}", markup=False)
        return False
    return True


def _show_speed(out: Path, console: Console) -> None:
    """Print and draw how fast recipes are on a collection that is large enough to tell them apart."""
    with console.status("") as status:
        points = speed.measure(lambda recipe: status.update(f"measuring the speed of {recipe}"))
    if points:
        console.print(f"\n{speed.TITLE}\nat recall@10 of {speed.TARGET} or more:", markup=False, highlight=False)
        for line in speed.lines(points):
            console.print(line, markup=False, highlight=False, soft_wrap=True)
        groups: list[list[Point]] = list(points.values())
        _draw(partial(plots.recall_against_speed, groups, title=speed.TITLE), out / "recall-qps.png", console)


def _draw(draw: Callable[[Path], None], path: Path, console: Console) -> None:
    try:
        draw(path)
    except MissingExtraError as error:
        console.print(f"no picture: {error}", markup=False)
    else:
        console.print(f"picture: {path}", markup=False, soft_wrap=True)


def _keep(judged: JudgedVectors, dataset: BeirDataset, out: Path) -> annvq.Index:
    """Write the index (documents under their own ids), the queries, and texts by id."""
    index = annvq.build(judged.documents, recipe=_KEPT, ids=list(judged.document_ids), metric="ip")
    index.save(out / "index")
    np.save(out / "queries.npy", judged.queries)
    _write_tsv(out / "documents.tsv", dataset.documents)
    _write_tsv(out / "queries.tsv", {str(row): text for row, text in enumerate(dataset.queries.values())})
    return index


def _write_tsv(path: Path, texts: dict[str, str]) -> None:
    lines = (f"{key}\t{' '.join(text.split())}\n" for key, text in texts.items())
    path.write_text("".join(lines), encoding="utf-8")


def _show_hits(index: annvq.Index, judged: JudgedVectors, dataset: BeirDataset, console: Console) -> None:
    question = next(iter(dataset.queries.values()))
    console.print(f"\nquestion: {question}", markup=False)
    for key, score in index.search(judged.queries[:1], k=3).to_lists()[0]:
        line = f"  {score:.3f}  {key:>4}  {dataset.documents[key]}"
        console.print(_shortened(line, min(105, console.width)), markup=False)


def _shortened(text: str, length: int) -> str:
    return text if len(text) <= length else text[: length - 3] + "..."


def _show_next(out: Path, console: Console) -> None:
    annvq, index, queries = _program(), shlex.quote(str(out / "index")), shlex.quote(str(out / "queries.npy"))
    lines = (
        f"\nnext: {annvq} search {index} {queries} -k 5",
        f"      {annvq} info {index}",
        f"texts: {out / 'queries.tsv'} (row, question) and {out / 'documents.tsv'} (id, abstract)",
    )
    for line in lines:
        console.print(line, markup=False, soft_wrap=True)


def _program() -> str:
    """Return how a shell in this folder calls annvq: by its bare name only if that finds this environment's."""
    script = Path(sys.executable).with_name("annvq")
    found = shutil.which("annvq")
    if found is not None and Path(found) == script:
        return "annvq"
    if not script.exists():
        return f"{shlex.quote(sys.executable)} -m annvq"
    here = Path.cwd()
    return shlex.quote(str(script.relative_to(here) if script.is_relative_to(here) else script))
