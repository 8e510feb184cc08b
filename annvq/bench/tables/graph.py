"""Who liked what: users and items as rows of one table."""

from __future__ import annotations

import gzip
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from annvq.errors import DataFormatError

_DRAWS = 10  # attempts to draw an item that a user does not like
_HELD = 0.05  # share of the training pairs that choose the epoch, and that searching methods learn from


@dataclass(frozen=True)
class Likes:
    """Pairs of users and items.

    Parameters
    ----------
    name
        The name of the data.
    users, items
        Counts; item i is row users + i of the table.
    train, valid, test
        (pairs, 2) int64 of user and item.

    """

    name: str
    users: int
    items: int
    train: np.ndarray
    valid: np.ndarray
    test: np.ndarray

    @property
    def rows(self) -> int:
        """Rows of the table."""
        return self.users + self.items

    @property
    def frequencies(self) -> np.ndarray:
        """How often each row occurs in training, (rows,) int64."""
        return np.bincount(np.concatenate([self.train[:, 0], self.users + self.train[:, 1]]), minlength=self.rows)

    @classmethod
    def read(cls, folder: Path) -> Likes:
        """Read train.txt.gz and test.txt.gz: a line is a user and the items that the user likes.

        A twentieth of the training pairs is held out for validation.

        Raises
        ------
        DataFormatError
            A file is missing or has other lines.

        """
        train, test = (_pairs(folder / name) for name in ("train.txt.gz", "test.txt.gz"))
        every = np.concatenate([train, test])
        held = np.random.default_rng(0).random(len(train)) < _HELD
        users, items = (int(count) + 1 for count in every.max(axis=0))
        return cls(folder.resolve().name, users, items, train[~held], train[held], test)

    @cached_property
    def _known(self) -> np.ndarray:
        return np.unique(self.train[:, 0] * self.items + self.train[:, 1])

    def others(self, users: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Return an item for each user (m,) that the user does not like in training."""
        drawn, open_ = rng.integers(0, self.items, len(users)), np.arange(len(users))
        for _ in range(_DRAWS):
            keys = users[open_] * self.items + drawn[open_]
            places = np.minimum(np.searchsorted(self._known, keys), len(self._known) - 1)
            open_ = open_[self._known[places] == keys]
            if not len(open_):
                break
            drawn[open_] = rng.integers(0, self.items, len(open_))
        return drawn

    def items_of(self, pairs: np.ndarray) -> list[np.ndarray]:
        """Return the items of every user in some pairs."""
        order = np.argsort(pairs[:, 0], kind="stable")
        ends = np.searchsorted(pairs[order, 0], np.arange(self.users + 1))
        return np.split(pairs[order, 1], ends[1:-1])


def _pairs(path: Path) -> np.ndarray:
    try:
        with gzip.open(path, "rt") as file:
            lines = [[int(cell) for cell in line.split()] for line in file]
        return np.array([(line[0], item) for line in lines if line for item in line[1:]], np.int64).reshape(-1, 2)
    except (OSError, EOFError, UnicodeDecodeError, ValueError) as error:
        raise DataFormatError(f"{path}: expected lines of a user and items: {error!r}") from error
