"""One cell of the grid: a method at a ratio, trained with one seed on one task."""

from __future__ import annotations

import copy
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from annvq.bench.tables.tasks import Task
from annvq.learn.runtime import torch
from annvq.tables.models.compression import compress, replace
from annvq.tables.models.fitting import fit
from annvq.tables.registry import METHODS
from annvq.tables.table import Table

UNCOMPRESSED = "uncompressed"
UNIFORM = "uniform"  # one dimension for all rows, and a projection: what searched dimensions are compared with
TRAINED_FIRST = ("Dedup", "PQ", "RVQ", "RaBitQ")  # then compressed, then trained on
_STD = 0.05
_PATIENCE = 3  # measurements without a better one
_MEASUREMENTS = 12  # at most, of a training
_SEARCH_SHARE = 0.5  # the largest share of the epochs that a stage may search


@dataclass
class Runs:
    """The training of the cells of one task; what several cells start from is trained once.

    Parameters
    ----------
    task
        What is learned.
    epochs
        The largest number of epochs in every stage; the epoch that is best on validation data is kept.

    """

    task: Task
    epochs: int
    _full: dict[int, Any] = field(default_factory=dict)
    _best: dict[int, int] = field(default_factory=dict)

    @property
    def steps(self) -> int:
        """Steps of an epoch."""
        return -(-self.task.samples // self.task.batch)

    def run(self, method: str, ratio: float, seed: int) -> dict[str, float]:
        """Return bytes and test measures of a method.

        Raises
        ------
        BudgetError
            The method cannot meet the ratio.

        """
        torch.manual_seed(seed)
        if method == UNCOMPRESSED:
            model = self._uncompressed(seed)
        elif method in TRAINED_FIRST:
            model = self._compressed(method, ratio, seed)
        else:
            table = self._table(method, ratio, seed)
            model = fit(table, self._make, self._train_with(seed), evaluate=self._validated).model
        model.eval()
        return {"bytes": model.table.nbytes, **self.task.quality(model, "test")}

    def _table(self, method: str, ratio: float, seed: int) -> Table:
        """Return a new table; settings that depend on the length of a training follow from the length of this one."""
        cls, task = METHODS["MDE" if method == UNIFORM else method], self.task
        searching = self._search_epochs(cls, seed) * self.steps
        more: dict[str, Any] = {"frequencies": task.frequencies} if cls.uses_frequencies else {}
        if method in ("AutoDim", "OptEmbed"):
            more["groups"] = task.groups
        more |= {
            "AutoDim": {"cooling": 1 / searching},
            "OptEmbed": {"threshold_lr": task.lr, "rounds": 3, "mutations": 5, "crossovers": 5},
            "DNIS": {"warm_up": searching // 3},
            "AutoSrh": {"warm_up": searching // 3},
            "DeepLight": {"period": max(1, searching // 500)},
            "PEP": {"start": -6.0},
            UNIFORM: {"groups": 1},
        }.get(method, {})
        return cls(task.rows, task.dim, ratio=ratio, padding_idx=task.padding_idx, std=_STD, **more)

    def _search_epochs(self, cls: type[Table], seed: int) -> int:
        """Return the number of epochs in which a stage searches.

        If its values go on into the table, they must not be past their best. The stage then searches no longer than the
        uncompressed table took to be best on validation data.
        """
        most = max(1, int(_SEARCH_SHARE * self.epochs))
        if cls.is_final or cls.next_model == "fresh":
            return most
        self._uncompressed(seed)
        return min(most, max(1, self._best[seed]))

    def _make(self, table: Any) -> Any:
        return self.task.make(table).to("cuda" if torch.cuda.is_available() else "cpu")

    def _uncompressed(self, seed: int) -> Any:
        """Return the trained model of a seed, the same whichever cell asks for it first."""
        if seed not in self._full:
            self._full.clear()  # cells come seed by seed
            with torch.random.fork_rng():
                torch.manual_seed(seed)
                n, d, padding = self.task.rows, self.task.dim, self.task.padding_idx
                table = METHODS["Hash"](n, d, ratio=1, padding_idx=padding, std=_STD)
                model = self._make(table)
                self._best[seed] = self._train(model, table, seed)
            self._full[seed] = model
        return self._full[seed]

    def _compressed(self, method: str, ratio: float, seed: int) -> Any:
        model = copy.deepcopy(self._uncompressed(seed))
        weight = torch.from_numpy(model.table.decoded())
        layer = torch.nn.Embedding.from_pretrained(weight, freeze=False, padding_idx=self.task.padding_idx)
        table = compress(layer, method, ratio=ratio, frequencies=self.task.frequencies, seed=seed)
        replace(model, model.table, table.to(next(model.parameters()).device))
        self._train(model, table, seed)
        return model

    def _validated(self, model: Any) -> float:
        was_training = model.training
        model.eval()
        found = self.task.quality(model, "valid")[self.task.measure]
        model.train(was_training)
        return found

    def _train_with(self, seed: int) -> Any:
        def train(model: Any, table: Table) -> None:
            self._train(model, table, seed)

        return train

    def _train(self, model: Any, table: Table, seed: int) -> int:
        """Train a model and return its best epoch, which a final table keeps; one that searches keeps the last."""
        model.train()
        epochs = self.epochs if table.is_final else self._search_epochs(type(table), seed)
        own = {id(parameter) for parameter in table.parameters()}
        rest = [parameter for parameter in model.parameters() if id(parameter) not in own]
        groups = [*table.parameter_groups(self.task.lr), {"params": rest, "lr": self.task.lr}]
        groups = [group for group in groups if group["params"]]
        optimizer = torch.optim.Adam(groups, fused=True)  # for large tables, a step takes a third of the time
        rng = np.random.default_rng(seed)
        best, best_epoch, best_state, waited = self._validated(model), 0, copy.deepcopy(model.state_dict()), 0
        every = -(-epochs // _MEASUREMENTS)
        for epoch in range(1, epochs + 1):
            self._epoch(model, table, optimizer, rng)
            if getattr(table, "has_reached", False):
                break
            if not table.is_final or epoch % every:
                continue
            found = self._validated(model)
            waited += 1
            if found > best:
                best, best_epoch, best_state, waited = found, epoch, copy.deepcopy(model.state_dict()), 0
            if waited >= _PATIENCE:
                break
        if table.is_final:
            model.load_state_dict(best_state)
        return best_epoch

    def _epoch(self, model: Any, table: Table, optimizer: Any, rng: np.random.Generator) -> None:
        order = rng.permutation(self.task.samples)
        for start in range(0, len(order), self.task.batch):
            loss = self.task.loss(model, "train", order[start : start + self.task.batch], rng) + table.penalty()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            table.step_end()
            held = rng.integers(0, 1 << 40, self.task.batch)
            table.search(lambda held=held: self.task.loss(model, "valid", held, rng))
