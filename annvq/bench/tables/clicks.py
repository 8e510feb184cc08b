"""Click data: rows of category ids and a label, split into training, validation and test."""

from __future__ import annotations

import csv
import gzip
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from annvq.errors import DataFormatError

PADDING = 0
_ZIP_PREFIX = 3  # characters: a region
_AGE_STEP = 5
FORGOTTEN = 0.05  # share of the values of training samples that are replaced by unknown ones


@dataclass(frozen=True)
class ClickSplit:
    """Samples: ``ids`` (n, slots) int64 of the table's rows, ``labels`` (n,) float32."""

    ids: np.ndarray
    labels: np.ndarray


@dataclass(frozen=True)
class Clicks:
    """A data set whose categories are the rows of one embedding table; row 0 is padding.

    Parameters
    ----------
    name
        The name of the data.
    train, valid, test
        The splits.
    rows
        The number of rows of the table.
    fields
        First and last slot (exclusive) of each field; one of several slots holds a set of values.
    unknown
        (slots,) int64: for each slot's field, the row of values that do not occur in training.
    field_of_row
        (rows,) int64: the field that a row belongs to, the padding row to the first.
    frequencies
        (rows,) int64: occurrences in training; for rows of unknown values, the number that an epoch forgets on average.

    """

    name: str
    train: ClickSplit
    valid: ClickSplit
    test: ClickSplit
    rows: int
    fields: tuple[tuple[int, int], ...]
    unknown: np.ndarray
    field_of_row: np.ndarray
    frequencies: np.ndarray

    @classmethod
    def of(cls, name: str, columns: Sequence[Sequence[Sequence[str]]], labels: np.ndarray, parts: np.ndarray) -> Clicks:
        """Number the values that occur in training; each field has one more row for all others.

        Parameters
        ----------
        name
            The name of the data.
        columns
            For every field, the values of each sample, mostly one.
        labels
            (n,), each 0 or 1.
        parts
            (n,): 0 training, 1 validation, 2 test.

        """
        number, slots, fields, unknown, owners = PADDING + 1, [], [], [], [0]
        for field, values in enumerate(columns):
            seen = sorted({value for row, part in zip(values, parts) if part == 0 for value in row})
            known = {value: number + 1 + place for place, value in enumerate(seen)}
            width = max(1, max(len(row) for row in values))
            ids = np.full((len(labels), width), PADDING, np.int64)
            for sample, row in enumerate(values):
                ids[sample, : len(row)] = [known.get(value, number) for value in row]
            first = sum(array.shape[1] for array in slots)
            fields.append((first, first + width))
            unknown += [number] * width
            slots.append(ids)
            owners += [field] * (len(seen) + 1)
            number += len(seen) + 1
        every = np.concatenate(slots, axis=1)
        train, valid, test = (
            ClickSplit(every[parts == part], labels[parts == part].astype(np.float32)) for part in range(3)
        )
        counts = np.bincount(train.ids.ravel(), minlength=number)
        counts[PADDING] = 0
        forgotten = np.round(FORGOTTEN * (train.ids != PADDING).sum(0)).astype(int)
        np.add.at(counts, np.array(unknown), forgotten)
        return cls(name, train, valid, test, number, tuple(fields), np.array(unknown), np.array(owners), counts)

    def forget(self, ids: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Return ids (batch, slots) of which some, drawn at random, are replaced by those of unknown values.

        If data are split by time, most test samples have a user that does not occur in training. If the row of unknown
        users were not trained, it would be what the start left there, or what rows that share its place have learned.
        """
        is_forgotten = (rng.random(ids.shape) < FORGOTTEN) & (ids != PADDING)
        return np.where(is_forgotten, self.unknown, ids)


def movielens(folder: Path) -> Clicks:
    """Read MovieLens 100K: a rating of 4 or 5 is a click.

    The first 80% in time are for training, then 10% each for validation and test.

    Fields: user, item, age in steps of five, gender, occupation, zip prefix, genres (a set).

    Raises
    ------
    DataFormatError
        A file is missing or not as published.

    """
    try:
        with gzip.open(folder / "u.data.gz", "rt") as file:
            ratings = np.array([[int(cell) for cell in line.split("\t")] for line in file])
        users = dict(_lines(folder / "u.user"))
        items = dict(_lines(folder / "u.item"))
        order = np.argsort(ratings[:, 3], kind="stable")
        ratings = ratings[order]
        people = [users[str(user)] for user in ratings[:, 0]]
        genres = [[str(g) for g, flag in enumerate(items[str(item)][-19:]) if flag == "1"] for item in ratings[:, 1]]
    except (OSError, EOFError, UnicodeDecodeError, ValueError, KeyError, IndexError) as error:
        raise DataFormatError(f"{folder}: not MovieLens 100K: {error!r}") from error
    columns = [
        [[str(user)] for user in ratings[:, 0]],
        [[str(item)] for item in ratings[:, 1]],
        [[str(int(person[0]) // _AGE_STEP)] for person in people],
        [[person[1]] for person in people],
        [[person[2]] for person in people],
        [[person[3][:_ZIP_PREFIX]] for person in people],
        genres,
    ]
    parts = np.digitize(np.arange(len(ratings)), [0.8 * len(ratings), 0.9 * len(ratings)])
    return Clicks.of("movielens-100k", columns, ratings[:, 2] >= 4, parts)


def _lines(path: Path) -> list[tuple[str, list[str]]]:
    cells = [line.rstrip("\n").split("|") for line in path.read_text(encoding="latin-1").splitlines() if line]
    return [(row[0], row[1:]) for row in cells]


def diabetes(folder: Path) -> Clicks:
    """Read Diabetes 130: is a patient admitted again, sooner or later? Parts have 80, 10 and 10% of the patients.

    Every column except the identifiers and the label is a field; all have few values, also those that are counts.

    Raises
    ------
    DataFormatError
        The file is missing or not as published.

    """
    path = folder / "diabetic_data.csv.gz"
    try:
        with gzip.open(path, "rt", newline="") as file:
            rows = list(csv.DictReader(file))
        patients = np.array([int(row["patient_nbr"]) for row in rows])
        labels = np.array([row["readmitted"] != "NO" for row in rows])
    except (OSError, EOFError, UnicodeDecodeError, ValueError, KeyError) as error:
        raise DataFormatError(f"{path}: not the Diabetes 130 data: {error!r}") from error
    names = [name for name in rows[0] if name not in ("encounter_id", "patient_nbr", "readmitted")]
    every, place = np.unique(patients, return_inverse=True)
    drawn = np.random.default_rng(0).random(len(every))
    parts = np.digitize(drawn[place], [0.8, 0.9])
    return Clicks.of("diabetes130", [[[row[name]] for row in rows] for name in names], labels, parts)
