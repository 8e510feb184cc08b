"""One training loop for learned codes: propose documents, score them by their codes, descend, keep the best step."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from annvq.arguments import as_count, as_number
from annvq.errors import NonFiniteError, ParameterError
from annvq.kernels import threads as pool
from annvq.learn.codes.assignment import EPSILON, hardened, sinkhorn, soft
from annvq.learn.codes.health import CodeHealth
from annvq.learn.data import QuerySet
from annvq.learn.parts.mirrors import ProductMirror
from annvq.learn.parts.start import Start
from annvq.learn.parts.student import RATES, Student
from annvq.learn.runtime import torch
from annvq.learn.step.batch import Batch
from annvq.learn.step.objectives import Objective
from annvq.learn.step.proposals import Proposals, Teacher, drawn
from annvq.learn.training import checkpoint
from annvq.learn.training.checkpoint import Advance
from annvq.learn.training.dev import DevSet
from annvq.learn.training.devices import Devices
from annvq.learn.training.live import LiveIndex
from annvq.progress import Progress

if TYPE_CHECKING:
    from torch import Tensor

ASSIGNMENTS = ("fixed", "nearest", "soft", "balanced")
_MOST_SEED = 2**32 - 1
Report = Callable[[Mapping[str, float]], None]


@dataclass(frozen=True, kw_only=True)
class Trainer:
    """How codes are learned.

    Parameters
    ----------
    objectives
        Pairs of weight and objective; their sum is minimised.
    train
        Parts that are trained (keys of `annvq.learn.parts.student.RATES`); all others are frozen.
    proposals
        Which documents a step uses.
    assignment
        How documents are assigned to codes during training: "fixed" as at the start; "nearest" under the current
        codebooks; "soft", nearest with the gradient of a softmax; "balanced", so that in each sub-space the step's
        documents use all centroids equally. Lists always stay those of the start.
    rates
        Learning rates of parts, if they differ from `RATES`.
    batch, accumulate
        Queries per forward pass, and passes per step.
    epochs, most_steps
        Passes over the queries; a number of steps that ends training earlier, or None.
    warm_up
        Share of the steps over which rates rise linearly from 0; afterwards they fall linearly to 0.
    measure_every
        Steps from one measurement on the dev queries to the next; None: twenty times in all.
    patience
        Number of measurements without improvement after which training stops, or None.
    pseudo_relevant
        Without labels, how many of the teacher's best documents are taken to be relevant.
    epsilon, softness
        Parameters of "balanced" and of "soft" assignment.
    seed
        The same seed, data and machine give the same result.

    Raises
    ------
    ParameterError
        There are no objectives, a word or a part is none that is accepted, or a number is outside its range.

    """

    objectives: tuple[tuple[float, Objective], ...]
    train: tuple[str, ...]
    proposals: Proposals
    assignment: str = "fixed"
    rates: Mapping[str, float] = field(default_factory=dict)
    batch: int = 32
    accumulate: int = 1
    epochs: int = 6
    most_steps: int | None = None
    warm_up: float = 0.05
    measure_every: int | None = None
    patience: int | None = None
    pseudo_relevant: int = 3
    epsilon: float = EPSILON
    softness: float = 0.01
    seed: int = 0

    def __post_init__(self) -> None:
        if not self.objectives:
            raise ParameterError("nothing to learn: give at least one objective")
        if self.assignment not in ASSIGNMENTS:
            raise ParameterError(f"assignment {self.assignment!r}: expected one of {', '.join(ASSIGNMENTS)}")
        for name in ("batch", "accumulate", "epochs", "pseudo_relevant"):
            as_count(name, getattr(self, name))
        for name in ("most_steps", "measure_every", "patience"):
            if getattr(self, name) is not None:
                as_count(name, getattr(self, name))
        as_count("seed", self.seed, least=0, most=_MOST_SEED)
        if not 0 <= as_number("warm_up", self.warm_up) <= 1:
            raise ParameterError(f"warm_up is a share of the steps, 0 to 1, not {self.warm_up}")
        for name in ("epsilon", "softness"):
            as_number(name, getattr(self, name), above=0)
        unknown = set(self.rates) - set(RATES)
        if unknown:
            raise ParameterError(f"rates of {sorted(unknown)}: expected some of {', '.join(RATES)}")
        for name, rate in self.rates.items():
            if as_number(f"the rate of {name}", rate) < 0:
                raise ParameterError(f"the rate of {name} must not be below 0, not {rate}")

    def fit(
        self,
        start: Start,
        queries: QuerySet,
        dev: QuerySet,
        *,
        folder: Path | None = None,
        resume: bool = True,
        threads: int | None = None,
        report: Report | None = None,
        progress: Progress | None = None,
    ) -> Run:
        """Train, starting from an index's parts.

        Parameters
        ----------
        start
            The starting point: `Run.end` of an earlier stage, or `Start.of`.
        queries, dev
            Queries to learn from, and to choose the best step by. If an objective needs labels and there are none, the
            teacher's best documents are used.
        folder
            Where checkpoints go, or None.
        resume
            Whether to continue from the folder's checkpoint, if there is one.
        threads
            For the engine's searches and encoding; by default all CPUs of the process.
        report
            A function that is called with every measurement.
        progress
            Is told about every step.

        Raises
        ------
        ParameterError
            Parts cannot be trained, or the checkpoint is from another training run.
        NonFiniteError
            The loss or a parameter became NaN or infinite: the message says which, and after which step.

        """
        heard = progress or Progress()
        heard.begin("preparing: the teacher's and the dev queries' nearest documents")
        run = Run(self, start, queries, dev, pool.resolve(threads))
        run.learn(None if folder is None else folder / checkpoint.FILE, resume, report, heard)
        return run

    def describe(self) -> str:
        """Return everything that decides the result, as text."""
        own = {entry.name: getattr(self, entry.name) for entry in fields(self)}
        own["objectives"] = [(weight, _named(objective)) for weight, objective in self.objectives]
        return ", ".join(f"{name}={value!r}" for name, value in own.items())


def _named(objective: Objective) -> str:
    """Return an objective of any class as text that is the same in the next process."""
    return f"{type(objective).__qualname__}({', '.join(f'{n}={v!r}' for n, v in sorted(vars(objective).items()))})"


class Run:
    """One training run: its student, codes and progress. After `learn` they are those of the best measurement."""

    def __init__(self, how: Trainer, start: Start, queries: QuerySet, dev: QuerySet, threads: int) -> None:
        self.how, self.threads, self.begun = how, threads, start
        self.documents, self.labels, self.codes = start.documents, start.labels, start.codes
        if any(objective.needs_relevance for _, objective in how.objectives):
            queries = queries.labelled()
        if not len(queries):
            raise ParameterError("no query has a relevant document to learn from")
        if "encoder" in how.train and start.texts is None:
            raise ParameterError("training both sides' encoder needs the documents as texts")
        self.queries = queries
        torch.manual_seed(how.seed)
        self.devices = Devices()
        self.student = Student(start, how.train).to(self.devices.device)
        if self.student.encoder_moves and queries.texts is None:
            raise ParameterError("an encoder is to be trained: give queries as texts")
        if how.assignment in ("soft", "balanced") and not isinstance(self.student.codebook, ProductMirror):
            raise ParameterError(f"assignment {how.assignment!r} is for product codes, not for residual ones")
        self.ksub = self.student.codebook.codebooks.shape[1]
        self.live = LiveIndex(start.trained, self.labels, self.codes, start.nprobe, self.devices.of_search)
        depth = max(how.proposals.teacher, how.pseudo_relevant)
        self.judged = np.full(len(self.documents), queries.relevance is None)
        if queries.relevance is not None:
            self.judged[queries.relevance.rows] = True
        self.teacher = Teacher(start.originals, queries.vectors, depth, threads)
        self.dev = DevSet.of(dev, start.originals, threads)
        self.progress = Advance()
        self._asked = f"{how.describe()}; data {checkpoint.digest(*start.arrays(), *queries.arrays(), *dev.arrays())}"
        self.devices.check_alike(self._asked, "what they learn from, and how")

    def end(self) -> Start:
        """Return what the next stage begins with."""
        student = self.student
        moved = student.encoder if "encoder" in student.train_parts else self.begun.document_encoder
        return replace(
            self.begun, trained=student.to_trained(), documents=self.documents, codes=self.codes,
            encoder=student.encoder, adapter=student.adapter, encoder_moved=student.encoder_moves,
            document_encoder=copy.deepcopy(moved),
        )  # fmt: skip

    @property
    def steps(self) -> int:
        """Steps in all."""
        each = math.ceil(len(self.queries) / (self.how.batch * self.how.accumulate))
        wanted = self.how.epochs * each
        return wanted if self.how.most_steps is None else min(wanted, self.how.most_steps)

    def learn(self, file: Path | None, resume: bool, report: Report | None, heard: Progress) -> None:
        """Run all steps, or those that remain after a checkpoint; see `Trainer.fit`."""
        how, student = self.how, self.student
        rates = RATES | dict(how.rates)
        optimizer = torch.optim.AdamW(student.groups(rates), lr=0.0)
        best = self._state()
        if file is not None and resume and file.exists():
            best = self._resume(file, optimizer)
        self.devices.check_alike(f"{self.progress.step} {self.progress.best}", "the checkpoint that they go on from")
        if not self.progress.history:
            self._measure(float("nan"), report)
        heard.begin(f"learning, {self.steps:,} steps", self.steps)
        every = how.measure_every or max(1, self.steps // 20)
        losses: list[float] = []
        student.train()
        while self.progress.step < self.steps and not self.progress.stopped:
            self._set_rates(optimizer, rates)
            losses.append(self._step(optimizer))
            self.progress.step += 1
            heard.at(self.progress.step)
            if self.progress.step % every and self.progress.step < self.steps:
                continue
            if self._measure(float(np.mean(losses)), report):
                best = self._state()
            losses.clear()
            if file is not None:
                self._save(file, best, optimizer)
        self._set_state({name: self.devices.from_first(value) for name, value in best.items()})
        student.eval()

    def _save(self, file: Path, best: dict[str, Tensor], optimizer: Any) -> None:
        """Write a checkpoint, once for all processes."""
        parts = {"student": self._state(), "best": best}
        self.devices.by_first(lambda: checkpoint.save(file, parts, optimizer, self.progress, self._asked))

    def _resume(self, file: Path, optimizer: Any) -> dict[str, Tensor]:
        parts, state, self.progress = checkpoint.load(file, self._asked, self._state())
        self._set_state(parts["student"])
        whole = optimizer.state_dict()
        whole["state"] = state
        optimizer.load_state_dict(whole)
        return parts["best"]

    def _state(self) -> dict[str, Tensor]:
        """Return a copy of parameters and codes."""
        state = {f"student.{name}": value for name, value in self.student.state_dict().items()}
        state["codes"] = torch.from_numpy(self.codes)
        if "encoder" in self.student.train_parts:
            state["documents"] = torch.from_numpy(self.documents)
        return {name: value.detach().cpu().clone() for name, value in state.items()}

    def _set_state(self, state: dict[str, Tensor]) -> None:
        prefix = "student."
        self.student.load_state_dict({n[len(prefix) :]: v for n, v in state.items() if n.startswith(prefix)})
        self.codes = state["codes"].numpy().copy()
        if "documents" in state:
            self.documents = state["documents"].numpy().copy()
        self.live.recode(self.student.to_trained(), self.labels, self.codes)

    def _set_rates(self, optimizer: Any, rates: Mapping[str, float]) -> None:
        """Set this step's learning rates: linear warm-up, then linear decay."""
        done, rising = self.progress.step, max(1, round(self.how.warm_up * self.steps))
        share = (done + 1) / rising if done < rising else (self.steps - done) / max(1, self.steps - rising)
        names = [name for name in RATES if name in self.student.train_parts]
        for name, group in zip(names, optimizer.param_groups, strict=True):
            group["lr"] = rates[name] * share

    def _step(self, optimizer: Any) -> float:
        how, step = self.how, self.progress.step
        torch.manual_seed(how.seed * 1_000_003 + step)  # of dropout: resuming needs no state of generators
        rng = np.random.default_rng((how.seed, step))
        optimizer.zero_grad(set_to_none=True)
        total = 0.0
        for part in range(how.accumulate):
            batch = self.batch(self.devices.share(self._rows(step * how.accumulate + part)), rng)
            terms = torch.stack([weight * objective(batch) for weight, objective in how.objectives])
            loss = terms.sum() / how.accumulate
            if not torch.isfinite(loss):
                raise NonFiniteError(f"the loss became {loss.item()} in step {step}: use smaller learning rates")
            loss.backward()
            total += float(loss.detach())
        self.devices.average_gradients(self.student.parameters())
        torch.nn.utils.clip_grad_norm_(self.student.parameters(), 1.0)
        optimizer.step()
        moved = {name: value for name, value in self.student.named_parameters() if value.requires_grad}
        finite = torch.stack([torch.isfinite(value).all() for value in moved.values()])  # one wait for a GPU, not many
        if not finite.all():
            name = list(moved)[int(finite.int().argmin())]
            raise NonFiniteError(f"{name} became NaN or infinite in step {step}: use smaller learning rates")
        return total

    def _rows(self, number: int) -> np.ndarray:
        """Return the queries of a batch: every epoch goes through them in a new order."""
        each = math.ceil(len(self.queries) / self.how.batch)
        epoch, place = divmod(number, each)
        order = np.random.default_rng((self.how.seed, 1, epoch)).permutation(len(self.queries))
        return order[place * self.how.batch : (place + 1) * self.how.batch]

    def batch(self, rows: np.ndarray, rng: np.random.Generator) -> Batch:
        """Return some queries with the documents proposed for them, scored."""
        wanted, student = self.how.proposals, self.student
        vectors = self._query_vectors(rows)
        found = np.empty((len(rows), 0), np.int64)
        if wanted.live:
            self.live.update(student.to_trained())
            found = self.live.search(vectors.detach().float().cpu().numpy(), wanted.live, self.threads)
        proposed = [drawn(found, wanted.shown, rng)]
        if wanted.teacher:
            proposed.append(drawn(self.teacher.best(rows)[:, : wanted.teacher], wanted.shown, rng))
        if wanted.random:
            proposed.append(rng.integers(0, len(self.documents), (len(rows), wanted.random)))
        relevant = self._relevant(rows)
        own = [np.concatenate([*(each[q] for each in proposed), relevant[q]]) for q in range(len(rows))]
        pool = np.unique(np.concatenate(own))
        pool = pool[pool >= 0]
        return self._scored(rows, vectors, pool, own, relevant, found)

    def _relevant(self, rows: np.ndarray) -> list[np.ndarray]:
        if self.queries.relevance is not None:
            return [self.queries.relevance.of_query(q) for q in rows]
        return list(self.teacher.best(rows)[:, : self.how.pseudo_relevant])

    def _query_vectors(self, rows: np.ndarray) -> Tensor:
        """Return the queries' vectors (B, d), with gradients if they are learned."""
        student = self.student
        if student.encoder_moves:
            assert student.encoder is not None
            assert self.queries.texts is not None
            with self.devices.mixed_precision():
                vectors = student.encoder([self.queries.texts[row] for row in rows], "query").float()
        else:
            vectors = self.devices.tensor(self.queries.vectors[rows])
        return student.adapt(vectors)

    def _scored(
        self,
        rows: np.ndarray,
        vectors: Tensor,
        pool: np.ndarray,
        own: list[np.ndarray],
        relevant: list[np.ndarray],
        found: np.ndarray,
    ) -> Batch:
        student = self.student
        rotated = student.rotate(vectors)
        documents = self._document_vectors(pool)
        labels = self.devices.tensor(self.labels[pool])
        of_lists = student.lists(labels)
        targets = documents - of_lists if student.residual and of_lists is not None else documents
        quantized = self._quantized(targets, pool)
        if student.residual and of_lists is not None:
            quantized = quantized + of_lists
        scored = quantized
        if self.how.assignment in ("nearest", "balanced"):
            scored = quantized + (documents - documents.detach())  # straight through to their encoder
        with torch.no_grad():
            teacher = self.devices.tensor(self.queries.vectors[rows] @ self.begun.originals[pool].T)
        places = [np.searchsorted(pool, each[each >= 0]) for each in own]
        is_own, is_relevant = (np.zeros((len(rows), len(pool)), bool) for _ in range(2))
        ranks = np.zeros((len(rows), len(pool)), np.int64)
        for q in range(len(rows)):
            is_own[q, places[q]] = True
            is_relevant[q, np.searchsorted(pool, relevant[q])] = True
            self._rank(found[q], pool, ranks[q])
        return Batch(
            scores=rotated @ scored.T,
            teacher=teacher,
            relevant=self.devices.tensor(is_relevant),
            ranks=self.devices.tensor(ranks),
            own=self.devices.tensor(is_own),
            judged=self.devices.tensor(self.judged[pool]),
            queries=rotated,
            documents=documents,
            quantized=quantized,
            lists=of_lists,
        )

    @staticmethod
    def _rank(found: np.ndarray, pool: np.ndarray, ranks: np.ndarray) -> None:
        """Write the ranks, from 1, of the rows found that are in the sorted pool."""
        order = np.flatnonzero(found >= 0)
        places = np.searchsorted(pool, found[order])
        places = np.minimum(places, len(pool) - 1)
        there = pool[places] == found[order]
        ranks[places[there]] = order[there] + 1

    def _document_vectors(self, pool: np.ndarray) -> Tensor:
        """Return the rotated documents (P, d), with gradients if their encoder is learned."""
        student = self.student
        if "encoder" in student.train_parts:
            assert student.encoder is not None
            assert self.begun.texts is not None
            with self.devices.mixed_precision():
                vectors = student.encoder([self.begun.texts[row] for row in pool], "document").float()
        else:
            vectors = self.devices.tensor(self.documents[pool])
        return student.rotate(vectors)

    def _quantized(self, targets: Tensor, pool: np.ndarray) -> Tensor:
        """Return what the codes of documents stand for (P, d), with gradients by the way of assignment."""
        codebook, how = self.student.codebook, self.how
        if how.assignment == "fixed":
            return codebook.decode(self.devices.tensor(self.codes[pool]))
        if how.assignment == "nearest":  # it needs no gradient of its own, so the engine's kernel finds it
            coded = codebook.to_codebook().encode(targets.detach().cpu().numpy(), threads=self.threads)
            return codebook.decode(self.devices.tensor(coded))
        if how.assignment == "soft":
            weights = soft(codebook.distances(targets), how.softness)
            return codebook.mix(hardened(weights, codebook.nearest(targets)))
        with torch.no_grad():
            codes = sinkhorn(codebook.distances(targets), how.epsilon).argmax(2)
        return codebook.decode(codes)

    def recode(self) -> None:
        """Re-encode all documents with the current parts; their lists stay."""
        if "encoder" in self.student.train_parts:
            assert self.student.encoder is not None
            assert self.begun.texts is not None
            self.documents = self.student.encoder.encode(self.begun.texts, "document")
        trained = self.student.to_trained()
        self.codes = trained.codes.encode(trained.rotate(self.documents), self.labels, self.threads)["codes"]
        self.live.recode(trained, self.labels, self.codes)

    def _measure(self, loss: float, report: Report | None) -> bool:
        """Measure on the dev queries; return whether it is the best so far."""
        progress, how = self.progress, self.how
        if how.assignment != "fixed" and progress.step:
            self.recode()
        self.live.update(self.student.to_trained())
        metric = self.dev.measure(self.live, self.query_vectors(self.dev.queries), self.threads)
        health = CodeHealth.of(self.codes, self.ksub).row()
        entry = {"step": progress.step, "loss": loss, self.dev.metric: metric, **health}
        progress.history.append({name: value for name, value in entry.items() if value == value})
        if report is not None and self.devices.is_first:
            report({**entry, "steps": self.steps})
        if metric > progress.best:
            progress.best, progress.best_step = metric, progress.step
            return True
        waited = sum(1 for each in progress.history if each["step"] > progress.best_step)
        if how.patience is not None and waited >= how.patience:
            progress.stopped = f"no better {self.dev.metric} in {waited} measurements"
        return False

    def query_vectors(self, queries: QuerySet) -> np.ndarray:
        """Return the vectors (nq, d) float32 with which the index is to be searched for any queries."""
        student = self.student
        vectors = queries.vectors
        if student.encoder_moves:
            assert student.encoder is not None
            if queries.texts is None:
                raise ParameterError("an encoder was trained: give queries as texts")
            vectors = student.encoder.encode(queries.texts, "query")
        with torch.no_grad():
            return student.adapt(self.devices.tensor(vectors)).cpu().numpy()
