"""What a table is used for: batches of a data set, the loss of a model on them, and its quality."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from annvq.bench.tables.clicks import PADDING, Clicks, ClickSplit, diabetes, movielens
from annvq.bench.tables.graph import Likes
from annvq.bench.tables.models import CLICK_MODELS, GRAPH_MODELS
from annvq.errors import DataFormatError
from annvq.evaluation.clicks import auc, log_loss, recall_and_ndcg
from annvq.learn.runtime import torch

if TYPE_CHECKING:
    from torch import Tensor

K = 20
_ROWS_AT_ONCE = 8192
_USERS_AT_ONCE = 256
_RUN = 32  # columns of a run, whose largest score is looked at first
_SURE = 700.0  # a logit of which the exponential is still a number
_DECAY = 1e-4  # of the rows of a batch (He et al. 2020, section 4.1.2)
_VALIDATED = 4096  # users, drawn once: enough to choose an epoch by


class _Training(NamedTuple):
    batch: int
    lr: float
    epochs: int


# A step takes the time of the table's gradient and Adam, or of the graph, whatever the batch: batches are large, and
# rates so that validation recall rises fast.
_GRAPH_TRAINING = {"bpr-mf": _Training(8192, 5e-3, 20), "lightgcn": _Training(65_536, 5e-2, 48)}


@dataclass(frozen=True)
class ClickTask:
    """Predict a click: AUC and log-loss.

    Parameters
    ----------
    data
        Samples.
    model
        "dlrm", "wide-deep" or "deepfm".

    """

    data: Clicks
    model: str

    dim = 16
    batch = 512
    lr = 2e-3
    epochs = 12
    padding_idx: int | None = PADDING
    measure = "auc"

    @property
    def rows(self) -> int:
        """Rows of the table."""
        return self.data.rows

    @property
    def groups(self) -> np.ndarray:
        """The field of every row."""
        return self.data.field_of_row

    @property
    def frequencies(self) -> np.ndarray:
        """Occurrences of every row in training."""
        return self.data.frequencies

    @property
    def samples(self) -> int:
        """Training samples of an epoch."""
        return len(self.data.train.labels)

    def make(self, table: Any) -> Any:
        """Return a new model."""
        return CLICK_MODELS[self.model](table, self.data.fields)

    def loss(self, model: Any, part: str, rows: np.ndarray, rng: np.random.Generator) -> Tensor:
        """Return the loss on some samples of a part, numbered modulo its length."""
        split: ClickSplit = getattr(self.data, part)
        rows = rows % len(split.labels)
        device = next(model.parameters()).device
        ids = self.data.forget(split.ids[rows], rng) if part == "train" else split.ids[rows]
        logits = model(torch.from_numpy(ids).to(device))
        labels = torch.from_numpy(split.labels[rows]).to(device)
        return torch.nn.functional.binary_cross_entropy_with_logits(logits, labels)

    @torch.no_grad()
    def quality(self, model: Any, part: str) -> dict[str, float]:
        """Return the measures of a model in evaluation mode on a part."""
        split: ClickSplit = getattr(self.data, part)
        device = next(model.parameters()).device
        logits = [
            model(torch.from_numpy(split.ids[start : start + _ROWS_AT_ONCE]).to(device)).cpu().numpy()
            for start in range(0, len(split.labels), _ROWS_AT_ONCE)
        ]
        scores = np.concatenate(logits).astype(np.float64)
        scores = np.nan_to_num(scores, posinf=_SURE, neginf=-_SURE)  # a model that diverged says nothing
        return {"auc": auc(scores, split.labels), "logloss": log_loss(1 / (1 + np.exp(-scores)), split.labels)}


@dataclass(frozen=True)
class GraphTask:
    """Recommend items: recall@20 and nDCG@20 over all items not seen in training.

    Parameters
    ----------
    data
        Pairs.
    model
        "bpr-mf" or "lightgcn".

    """

    data: Likes
    model: str

    dim = 64
    padding_idx: int | None = None
    measure = f"recall@{K}"

    @property
    def batch(self) -> int:
        """Pairs of a step."""
        return _GRAPH_TRAINING[self.model].batch

    @property
    def lr(self) -> float:
        """Learning rate."""
        return _GRAPH_TRAINING[self.model].lr

    @property
    def epochs(self) -> int:
        """Epochs at most."""
        return _GRAPH_TRAINING[self.model].epochs

    @property
    def rows(self) -> int:
        """Rows of the table."""
        return self.data.rows

    @property
    def groups(self) -> None:
        """None: users and items are grouped by popularity."""
        return None

    @property
    def frequencies(self) -> np.ndarray:
        """Occurrences of every row in training."""
        return self.data.frequencies

    @property
    def samples(self) -> int:
        """Training samples of an epoch."""
        return len(self.data.train)

    def make(self, table: Any) -> Any:
        """Return a new model."""
        return GRAPH_MODELS[self.model](table, self.data.users, self.data.train)

    def loss(self, model: Any, part: str, rows: np.ndarray, rng: np.random.Generator) -> Tensor:
        """Return the Bayesian personalized ranking loss on some pairs of a part, numbered modulo its length."""
        pairs = getattr(self.data, part)
        users, items = pairs[rows % len(pairs)].T
        others = self.data.others(users, rng)
        ids = np.concatenate([users, self.data.users + items, self.data.users + others])
        device = next(model.parameters()).device
        vectors, small = model.vectors(torch.from_numpy(ids).to(device))
        user, item, other = vectors.reshape(3, len(users), -1)
        decay = 0.5 * small.square().sum() / len(users)
        return torch.nn.functional.softplus((user * (other - item)).sum(1)).mean() + _DECAY * decay

    @torch.no_grad()
    def quality(self, model: Any, part: str) -> dict[str, float]:
        """Return the measures of a model in evaluation mode on a part; for validation, on some of the users.

        Items that a user likes in training are not recommended.
        """
        vectors, users = model.every(), np.arange(self.data.users)
        seen, wanted = self.data.items_of(self.data.train), self.data.items_of(getattr(self.data, part))
        if part == "test":
            seen = [np.concatenate(both) for both in zip(seen, self.data.items_of(self.data.valid))]
        else:
            users = np.random.default_rng(0).permutation(users)[:_VALIDATED]
        found = np.zeros((len(users), K), np.int64)
        for start in range(0, len(users), _USERS_AT_ONCE):
            some = users[start : start + _USERS_AT_ONCE]
            scores = vectors[torch.from_numpy(some).to(vectors.device)] @ vectors[self.data.users :].T
            known = [seen[user] for user in some]
            owners = np.repeat(np.arange(len(some)), [len(items) for items in known])
            places = (torch.from_numpy(one).to(scores.device) for one in (owners, np.concatenate(known)))
            scores[tuple(places)] = -torch.inf
            found[start : start + _USERS_AT_ONCE] = best_columns(scores, K).cpu().numpy()
        recall, ndcg = recall_and_ndcg(found, [wanted[user] for user in users])
        return {f"recall@{K}": recall, f"ndcg@{K}": ndcg}


def best_columns(scores: Tensor, k: int) -> Tensor:
    """Return the columns (n, k) of the k largest scores (n, m) of each row, best first, then the lower column.

    They are in the k runs of columns with the largest maxima, which one pass over the scores finds.
    """
    n, m = scores.shape
    runs = m // _RUN
    if runs <= 2 * k:
        return _largest(scores, k)
    maxima = scores[:, : runs * _RUN].reshape(n, runs, _RUN).amax(2)
    starts = _largest(maxima, k).sort(1).values * _RUN
    inside = (starts[:, :, None] + torch.arange(_RUN, device=scores.device)).reshape(n, k * _RUN)
    columns = torch.cat([inside, torch.arange(runs * _RUN, m, device=scores.device).expand(n, -1)], 1)
    return columns.gather(1, _largest(scores.gather(1, columns), k))


def _largest(scores: Tensor, k: int) -> Tensor:
    """Return what `best_columns` returns; topk alone takes an arbitrary one of equal scores at the cut."""
    scores = scores.nan_to_num(nan=-torch.inf, posinf=torch.inf, neginf=-torch.inf)  # of a model that diverged
    least = scores.topk(k, 1).values[:, -1:]
    above, equal = scores > least, scores == least
    equal &= equal.cumsum(1) <= k - above.sum(1, keepdim=True)
    columns = (above | equal).nonzero()[:, 1].reshape(len(scores), k)
    return columns.gather(1, scores.gather(1, columns).sort(dim=1, descending=True, stable=True).indices)


Task = ClickTask | GraphTask


def models_of(folder: Path) -> tuple[str, ...]:
    """Return the models that a folder's data are for (DataFormatError if there are none)."""
    if (folder / "u.data.gz").is_file() or (folder / "diabetic_data.csv.gz").is_file():
        return tuple(CLICK_MODELS)
    if (folder / "train.txt.gz").is_file():
        return tuple(GRAPH_MODELS)
    names = "u.data.gz (MovieLens 100K), diabetic_data.csv.gz (Diabetes 130) or train.txt.gz (pairs)"
    raise DataFormatError(f"{folder}: expected a folder with {names}")


def tasks_of(folder: Path, models: tuple[str, ...]) -> list[Task]:
    """Read a folder's data once, for some of its models."""
    if (folder / "u.data.gz").is_file():
        data = movielens(folder)
        return [ClickTask(data, model) for model in models]
    if (folder / "diabetic_data.csv.gz").is_file():
        data = diabetes(folder)
        return [ClickTask(data, model) for model in models]
    likes = Likes.read(folder)
    return [GraphTask(likes, model) for model in models]
