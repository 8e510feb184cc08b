"""A retrieval data set in BEIR's layout.

corpus.jsonl[.gz]      {"_id": ..., "title": ..., "text": ...} per line
queries.jsonl[.gz]     {"_id": ..., "text": ...} per line
qrels/SPLIT.tsv[.gz]   query-id <tab> corpus-id <tab> score, with a header line

Blank lines and a byte order mark do not count.
"""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from annvq.arguments import as_count, as_path
from annvq.errors import DataFormatError
from annvq.evaluation.ranking import LARGEST_GRADE, is_plain_text
from annvq.renamed import warn_renamed

_SHOWN = 40  # characters of a bad value in a message


@dataclass(frozen=True)
class BeirDataset:
    """Documents, judged queries and judgements of one split, in the files' order.

    Parameters
    ----------
    name
        The folder's name.
    split
        The judgements' split: "train", "dev" or "test".
    documents
        ``{document id: text}``, where text is ``(title + " " + text).strip()``.
    queries
        ``{query id: text}`` of the queries that the split judges.
    qrels
        ``{query id: {document id: grade}}``.

    """

    name: str
    split: str
    documents: dict[str, str]
    queries: dict[str, str]
    qrels: dict[str, dict[str, int]]

    @classmethod
    def read(cls, folder: str | Path, split: str = "test") -> BeirDataset:
        """Read a folder; if a line cannot be read, the error names the file and the line.

        Raises
        ------
        DataFormatError
            A file is missing, is not JSON or TSV, lacks a field, repeats an id, or judges a query that
            does not exist. (A judged document that the corpus lacks is kept, as in BEIR: no system can
            find it, and every system's recall shows that.)

        """
        folder = as_path(folder)
        documents = dict(_documents(_existing(folder, "corpus.jsonl")))
        texts = dict(_texts(_existing(folder, "queries.jsonl")))
        judgements = _existing(folder, f"qrels/{split}.tsv")
        qrels = _qrels(judgements, texts)
        queries = {qid: text for qid, text in texts.items() if qid in qrels}
        return cls(folder.resolve().name, split, documents, queries, {qid: qrels[qid] for qid in queries})

    @classmethod
    def load(cls, folder: str | Path, split: str = "test") -> BeirDataset:
        """Do what `read` does: this is its former name."""
        warn_renamed("BeirDataset.load", "read")
        return cls.read(folder, split)

    def with_queries(self, count: int) -> BeirDataset:
        """Return the data set with at most ``count`` of its queries, evenly spaced.

        Raises
        ------
        ParameterError
            ``count`` is not a whole number of at least 1.

        """
        count, names = as_count("count", count), list(self.queries)
        kept = [names[i * len(names) // count] for i in range(count)] if count < len(names) else names
        return replace(self, queries={q: self.queries[q] for q in kept}, qrels={q: self.qrels[q] for q in kept})

    @staticmethod
    def splits(folder: str | Path) -> list[str]:
        """Return the names of the splits that the folder has judgements for, sorted."""
        return sorted({path.name.split(".")[0] for path in as_path(folder).glob("qrels/*.tsv*")})


def _existing(folder: Path, name: str) -> Path:
    for path in (folder / name, folder / f"{name}.gz"):
        if path.is_file():
            return path
    raise DataFormatError(f"{folder.name}: no {name} or {name}.gz (expected a folder in BEIR's layout)")


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    """Yield the number, from 1, and the text, without its line end, of every line that is not blank."""
    encoding = "utf-8-sig"  # also without the mark
    opened = gzip.open(path, "rt", encoding=encoding) if path.suffix == ".gz" else open(path, encoding=encoding)
    with opened as lines:
        try:
            for number, line in enumerate(lines, 1):
                if line.strip():
                    yield number, line.rstrip("\r\n")
        except (UnicodeDecodeError, EOFError, gzip.BadGzipFile, zlib.error) as error:
            raise DataFormatError(f"{path.name}: cannot be read as UTF-8 text: {error}") from None


def _records(path: Path) -> Iterator[tuple[int, str, dict]]:
    seen: set[str] = set()
    for number, line in _lines(path):
        try:
            record = json.loads(line)
        except (ValueError, RecursionError) as error:  # a number of 5,000 digits, a thousand brackets
            said = error.msg if isinstance(error, json.JSONDecodeError) else error
            raise DataFormatError(f"{path.name}, line {number}: not JSON: {said}") from None
        if not isinstance(record, dict) or "_id" not in record:
            raise DataFormatError(f'{path.name}, line {number}: expected an object with "_id"')
        key = _key(path, number, record["_id"])
        if key in seen:
            raise DataFormatError(f"{path.name}, line {number}: id {key!r} occurs twice")
        seen.add(key)
        yield number, key, record


def _key(path: Path, number: int, value: object) -> str:
    """Return an id as text; some sets number their documents."""
    is_id = isinstance(value, str) or (isinstance(value, int) and not isinstance(value, bool))
    key = str(value) if is_id else ""
    if not is_id or not is_plain_text(key):
        raise DataFormatError(f'{path.name}, line {number}: expected valid text or a number as "_id", got {value!r}')
    return key


def _field(path: Path, number: int, record: dict, name: str, default: str | None) -> str:
    value = record.get(name, default)
    if value is None and default is not None:
        return default  # some BEIR sets write null for an absent title
    if not isinstance(value, str):
        raise DataFormatError(f'{path.name}, line {number}: expected a string as "{name}", got {value!r}')
    return value


def _documents(path: Path) -> Iterator[tuple[str, str]]:
    for number, key, record in _records(path):
        title = _field(path, number, record, "title", "")
        text = _field(path, number, record, "text", None)
        yield key, f"{title} {text}".strip()


def _texts(path: Path) -> Iterator[tuple[str, str]]:
    for number, key, record in _records(path):
        yield key, _field(path, number, record, "text", None)


def _qrels(path: Path, texts: dict[str, str]) -> dict[str, dict[str, int]]:
    qrels: dict[str, dict[str, int]] = {}
    for position, (number, line) in enumerate(_lines(path)):
        fields = line.split("\t")
        if position == 0 and fields[-1].strip() == "score":
            continue
        qid, key, grade = _judgement(path, number, fields)
        if qid not in texts:
            raise DataFormatError(f"{path.name}, line {number}: no query has the id {qid!r}")
        if key in qrels.setdefault(qid, {}):
            raise DataFormatError(f"{path.name}, line {number}: {qid!r} and {key!r} are judged twice")
        qrels[qid][key] = grade
    return qrels


def _judgement(path: Path, number: int, fields: list[str]) -> tuple[str, str, int]:
    if len(fields) != 3:
        raise DataFormatError(f"{path.name}, line {number}: expected 3 fields with tabs, got {len(fields)}")
    try:
        grade = int(fields[2])
    except ValueError:
        given = fields[2][:_SHOWN]
        raise DataFormatError(f"{path.name}, line {number}: expected a whole number as score, got {given!r}") from None
    if abs(grade) > LARGEST_GRADE:
        raise DataFormatError(f"{path.name}, line {number}: a score beyond {LARGEST_GRADE:,}")
    return fields[0], fields[1], grade
