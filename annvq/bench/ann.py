"""Speed against recall: annvq's recipes and other libraries on one data set."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from annvq.bench.compare import SideBySide, set_beside
from annvq.bench.cpu import Watch
from annvq.bench.machine import gpus
from annvq.bench.peers import ON_GPU, Peer, check_name, load_peers, version_of
from annvq.bench.peers.annvq_ import AnnvqPeer
from annvq.bench.sweep import TARGETS, Half, Mode, Point, Problem, chosen, sweep, tuning_front
from annvq.errors import DeviceError, MissingExtraError, ParameterError
from annvq.evaluation import exact_neighbors, exact_scores
from annvq.gpu.device import resolve
from annvq.index import recipe as recipes
from annvq.index.warmup import warmup
from annvq.io import read_ann_dataset
from annvq.progress import Progress

BATCHES = (1, 10, 1_000, 10_000)  # queries per call that are measured on a device
DEFAULT_RECIPES = ("ivf-flat", "ivf-sq8", "ivf-pq-fastscan", "ivf-rabitq", "fast", "balanced")


@dataclass(frozen=True)
class AnnBench:
    """What to measure.

    Parameters
    ----------
    recipes
        annvq recipes, as names or strings.
    peers
        Keys of `annvq.bench.peers.PEERS`.
    k
        Neighbours per query.
    modes
        How queries are submitted; every index is built once and measured in each mode. A mode whose batches are larger
        than half of the queries is left out.
    build_threads
        Threads to build with, the same for every library.
    queries
        The largest number of the data set's queries to use, evenly spaced, both halves together. With a thousand
        reported queries recall is accurate to about 0.002, and a sweep has hundreds of settings.
    n
        The largest number of the data set's vectors to use, evenly spaced; by default all.
    device
        Where annvq searches: "cpu", or what `annvq.Index.to` takes. Peers for GPUs use the same GPU.

    """

    recipes: tuple[str, ...] = DEFAULT_RECIPES
    peers: tuple[str, ...] = ()
    k: int = 10
    modes: tuple[Mode, ...] = (Mode(single=False, threads=1),)
    build_threads: int = 1
    queries: int = 2000
    n: int | None = None
    device: str = "cpu"

    def __post_init__(self) -> None:
        for name in self.peers:
            check_name(name)
        for recipe in self.recipes:
            recipes.check(recipe)  # before minutes are spent on those ahead of it
        threads = min(self.build_threads, *(mode.threads for mode in self.modes))
        for name, value in (("k", self.k), ("threads", threads), ("n", 1 if self.n is None else self.n)):
            if value < 1:
                raise ParameterError(f"{name} must be at least 1, got {value}")
        if self.queries < 2:
            raise ParameterError(f"queries must be at least 2 (two halves), got {self.queries}")
        if self.device != "cpu":
            resolve(self.device)

    @property
    def gpu(self) -> str:
        """The GPU that peers use, as "cuda" or "cuda:1"."""
        return self.device if self.device.startswith("cuda") else "cuda"


@dataclass(frozen=True)
class AnnResult:
    """All points measured, annvq beside every other index, what was asked for, and what was left out and why."""

    config: dict[str, Any]
    points: list[Point]
    skipped: dict[str, str] = field(default_factory=dict)
    comparisons: list[SideBySide] = field(default_factory=list)

    def rows(self) -> list[dict[str, Any]]:
        """Return one row per point."""
        return [point.row() for point in self.points]

    @property
    def modes(self) -> list[Mode]:
        """The modes measured, in order."""
        return list(dict.fromkeys(point.mode for point in self.points))

    def by_index(self, mode: Mode) -> dict[tuple[str, str], list[Point]]:
        """Return the points of every index in a mode, keyed by (library, recipe), in the order of its series."""
        grouped: dict[tuple[str, str], list[Point]] = {}
        for point in self.points:
            if point.mode == mode:
                grouped.setdefault((point.lib, point.recipe), []).append(point)
        return grouped


def run(path: Path, bench: AnnBench, progress: Progress, keep: Callable[[AnnResult], None]) -> AnnResult:
    """Measure every index on the data set at ``path`` (ann-benchmarks HDF5, or npz).

    After every index, ``keep`` is called with all results so far, because a run can take hours and be interrupted.

    Raises
    ------
    DataFormatError, MissingExtraError, RecipeError
        The file cannot be read, or a recipe cannot be built. A peer that cannot be imported, or fails,
        is left out and named in the result with the reason.

    """
    problem = _problem(path, bench)
    most = len(problem.reporting.queries)
    bench = replace(bench, modes=tuple(mode for mode in bench.modes if (mode.batch or 1) <= most))
    watch = Watch()
    skipped: dict[str, str] = {}
    points: list[Point] = []
    comparisons: list[SideBySide] = []

    def result() -> AnnResult:
        config = _config(path, problem, bench, points, skipped)
        config["comparisons"] = [comparison.row() for comparison in comparisons]
        config["use_of_the_machine"] = vars(watch.use())
        return AnnResult(config, points, skipped, comparisons)

    own: dict[str, Peer] = {}
    for recipe in bench.recipes:
        warmup(recipe, metric=problem.metric)  # compilation is not counted as building
        own[recipe] = AnnvqPeer(recipe, bench.device)
        points += _measured(own[recipe], problem, bench, progress)
        kept = _fastest(points, bench.modes) if bench.peers else set()
        own = {name: index for name, index in own.items() if name in kept}
        keep(result())
    own_points = [point for point in points if point.recipe in own]
    peers = _peers(problem, bench, skipped)
    while peers:
        peer = peers.pop(0)  # not held here when the next one is built: each takes memory
        try:
            measured = _measured(peer, problem, bench, progress)
            points += measured
            for mode in bench.modes:
                progress.begin(f"{peer.lib} {peer.recipe}: beside annvq")
                comparisons += set_beside(peer, _of(mode, measured), own, _of(mode, own_points), problem)
        except Exception as error:  # other people's code: what was measured so far is kept
            skipped[f"{peer.lib} {peer.recipe}"] = f"{type(error).__name__}: {error}"
        keep(result())
    whole = result()
    keep(whole)  # even if no peer could be loaded: the result says so
    return whole


def _of(mode: Mode, points: Sequence[Point]) -> list[Point]:
    return [point for point in points if point.mode == mode]


def _fastest(points: Sequence[Point], modes: Sequence[Mode]) -> set[str]:
    """Return the recipes that no other beats at every recall; the others' indexes need not be kept."""
    return {point.recipe for mode in modes for point in tuning_front(_of(mode, points))}


def _peers(problem: Problem, bench: AnnBench, skipped: dict[str, str]) -> list[Peer]:
    """Return the indexes of all peers; one that cannot be imported, or has no GPU, is added to ``skipped``."""
    peers: list[Peer] = []
    for name in bench.peers:
        try:
            peers += load_peers(name, len(problem.base), problem.base.shape[1], problem.metric, bench.gpu)
        except (MissingExtraError, DeviceError) as error:
            skipped[name] = str(error)
    return peers


def _problem(path: Path, bench: AnnBench) -> Problem:
    dataset = read_ann_dataset(path)
    # Copies: a mapped file is read from disk while timed, and not aligned inside an npz.
    rows = slice(None) if bench.n is None else _evenly(len(dataset.base), bench.n)
    base = np.array(dataset.base[rows], dtype=np.float32, order="C")
    chosen_queries = _evenly(len(dataset.query), bench.queries)
    queries = np.array(dataset.query[chosen_queries], dtype=np.float32, order="C")
    if len(queries) < 2 or len(base) < bench.k:
        counts = f"{len(base)} vectors and {len(queries)} queries"
        raise ParameterError(f"{path.name}: {counts}, expected at least k = {bench.k} and 2")
    metric = dataset.metric
    if metric == "cosine":  # every library then gets the same problem: unit vectors, inner product
        base, queries, metric = _normalized(base), _normalized(queries), "ip"
    truth = dataset.gt if len(base) == len(dataset.base) else None
    if truth is not None and truth.shape[1] >= bench.k:
        exact = exact_scores(base, queries, np.asarray(truth[chosen_queries, : bench.k]), metric)
        exact = -np.sort(-exact, axis=1)
    else:
        exact = exact_neighbors(base, queries, bench.k, metric)[1]
    # Every other query, in case the file's order means something; contiguous, as not every library checks.
    tuning, reporting = (Half(np.ascontiguousarray(queries[half::2]), exact[half::2]) for half in (0, 1))
    return Problem(base, metric, bench.k, tuning, reporting)


def _evenly(count: int, wanted: int) -> np.ndarray:
    """Return at most ``wanted`` of ``count`` rows, evenly spaced, for neighbours may be alike, as tokens of a text."""
    return np.unique(np.linspace(0, count - 1, min(count, wanted)).round().astype(np.int64))


def _normalized(vectors: np.ndarray) -> np.ndarray:
    lengths = np.linalg.norm(vectors.astype(np.float64), axis=1, keepdims=True)
    return (vectors / np.where(lengths > 0, lengths, 1.0)).astype(np.float32)


def _measured(peer: Peer, problem: Problem, bench: AnnBench, progress: Progress) -> list[Point]:
    name, done = f"{peer.lib} {peer.recipe}", 0
    progress.begin(f"{name}: building")

    def started(settings: int) -> None:
        progress.begin(name, done + settings)
        progress.at(done)

    def advance(count: int) -> None:
        nonlocal done
        done += count
        progress.at(done)

    return sweep(peer, problem, bench.modes, bench.build_threads, started, advance)


def _config(
    path: Path, problem: Problem, bench: AnnBench, points: Sequence[Point], skipped: dict[str, str]
) -> dict[str, Any]:
    return {
        "data": path.name,
        "n": len(problem.base),
        "dim": problem.base.shape[1],
        "metric": problem.metric,
        "k": bench.k,
        "modes": [mode.row() for mode in bench.modes],
        **_devices(bench),
        "build_threads": bench.build_threads,
        "tuning_queries": len(problem.tuning.queries),
        "reporting_queries": len(problem.reporting.queries),
        "recall": "places filled with neighbours as close as the k-th exact one (float64, ties count)",
        "timing": "best of 3 passes, with one query per call for each query; one pass where that takes over "
        "a minute; one thread stays on one CPU where the system lets it",
        "comparing": "annvq's queries/s at the recall that the other index reached, interpolated between two settings "
        "of annvq's fastest recipe there, measured right before and after the other index; their mean / the other's",
        "recipes": list(bench.recipes),
        "peers": {name: version_of(name) for name in bench.peers if name not in skipped},
        "skipped_peers": skipped,
        # CPU time over wall time while searching: shows whether the number of threads was obeyed
        "cores_used": {str(mode): _cores_used(points, mode) for mode in bench.modes},
        "chosen_on_tuning_queries": _choices(points),
    }


def _devices(bench: AnnBench) -> dict[str, Any]:
    """Return where annvq searches, and the GPUs of the machine if anything measured uses one."""
    if bench.device == "cpu" and not ON_GPU & set(bench.peers):
        return {"device": "cpu"}
    return {"device": bench.device, "gpus": gpus()[0]}


def device_modes(threads: int) -> tuple[Mode, ...]:
    """Return the modes in which a device is measured: one query per call, and batches of several sizes (`BATCHES`)."""
    return tuple(Mode(size == 1, threads, None if size == 1 else size) for size in BATCHES)


def _cores_used(points: Sequence[Point], mode: Mode) -> dict[str, float]:
    libraries = sorted({point.lib for point in points})
    used = {lib: [point.cores_used for point in points if (point.lib, point.mode) == (lib, mode)] for lib in libraries}
    return {lib: round(max(cores), 2) for lib, cores in used.items() if cores}


def _choices(points: Sequence[Point]) -> list[dict[str, Any]]:
    indexes = dict.fromkeys((point.mode, point.lib, point.recipe) for point in points)
    choices = []
    for target in TARGETS:
        for index in indexes:
            best = chosen([point for point in points if (point.mode, point.lib, point.recipe) == index], target)
            if best is not None:
                index_of = {"mode": str(best.mode), "lib": best.lib, "recipe": best.recipe, "params": best.params}
                choices.append({"recall_at_least": target, **index_of})
    return choices
