import gzip
import json
import os
from pathlib import Path

import pytest

from annvq.errors import DataFormatError, ParameterError
from annvq.evaluation import BeirDataset

DOCUMENTS = [
    {"_id": "d1", "title": "Wings", "text": "lift and drag"},
    {"_id": "d2", "title": "", "text": "no title"},
    {"_id": "d3", "title": None, "text": "null title", "metadata": {}},
    {"_id": "d4", "title": "only a title", "text": ""},
]
QUERIES = [{"_id": "q1", "text": "what lifts"}, {"_id": "q2", "text": "not judged"}, {"_id": "3", "text": "drag"}]
QRELS = "query-id\tcorpus-id\tscore\n3\td2\t1\nq1\td1\t2\nq1\td2\t0\n"


def lines(records):
    return "".join(json.dumps(record) + "\n" for record in records)


def write(folder, corpus=None, queries=None, qrels=QRELS, packed=False):
    files = {
        "corpus.jsonl": lines(DOCUMENTS) if corpus is None else corpus,
        "queries.jsonl": lines(QUERIES) if queries is None else queries,
        "qrels/test.tsv": qrels,
    }
    for name, text in files.items():
        path = folder / (name + ".gz" if packed else name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(gzip.compress(text.encode()) if packed else text.encode())
    return folder


@pytest.mark.parametrize("packed", [False, True])
def test_it_reads_texts_and_judgements(tmp_path, packed):
    dataset = BeirDataset.read(write(tmp_path / "wings", packed=packed))
    assert dataset.name == "wings"
    assert dataset.documents == {
        "d1": "Wings lift and drag",
        "d2": "no title",
        "d3": "null title",
        "d4": "only a title",
    }
    assert dataset.queries == {"q1": "what lifts", "3": "drag"}  # judged ones, in the file's order
    assert list(dataset.qrels) == ["q1", "3"]
    assert dataset.qrels["q1"] == {"d1": 2, "d2": 0}


def test_queries_are_sampled_evenly(tmp_path):
    texts = lines([{"_id": f"q{i}", "text": "drag"} for i in range(10)])
    qrels = "".join(f"q{i}\td1\t1\n" for i in range(10))
    dataset = BeirDataset.read(write(tmp_path, queries=texts, qrels=qrels))
    some = dataset.with_queries(4)
    assert list(some.queries) == list(some.qrels) == ["q0", "q2", "q5", "q7"]
    assert some.documents == dataset.documents
    with pytest.raises(ParameterError, match="count"):
        dataset.with_queries(0)
    assert dataset.with_queries(10) == dataset.with_queries(11) == dataset


def test_splits_are_listed(tmp_path):
    folder = write(tmp_path)
    (folder / "qrels" / "dev.tsv.gz").write_bytes(gzip.compress(QRELS.encode()))
    assert BeirDataset.splits(folder) == ["dev", "test"]
    assert BeirDataset.read(folder, "dev").split == "dev"


def test_judgements_may_lack_a_header_and_judge_absent_documents(tmp_path):
    dataset = BeirDataset.read(write(tmp_path, qrels="q1\tgone\t1\r\n"))
    assert dataset.qrels == {"q1": {"gone": 1}}


def test_blank_lines_and_a_byte_order_mark_do_not_count(tmp_path):
    folder = write(tmp_path, corpus="\ufeff\n" + lines(DOCUMENTS), qrels="\ufeff\n" + QRELS + "\n\n")
    assert BeirDataset.read(folder) == BeirDataset.read(write(tmp_path))


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"corpus": lines(DOCUMENTS[:1]) + "{oops\n"}, "corpus.jsonl, line 2: not JSON"),
        ({"corpus": '{"text": "x"}\n'}, 'corpus.jsonl, line 1: expected an object with "_id"'),
        ({"corpus": "[1]\n"}, "corpus.jsonl, line 1"),
        ({"corpus": lines(DOCUMENTS + DOCUMENTS[:1])}, "corpus.jsonl, line 5: id 'd1' occurs twice"),
        ({"corpus": '\n{"_id": "d", "text": 3}\n'}, 'corpus.jsonl, line 2: expected a string as "text"'),
        ({"corpus": '{"_id": null, "text": "x"}\n'}, "corpus.jsonl, line 1: expected valid text"),
        ({"corpus": '{"_id": "d\\ud800", "text": "x"}\n'}, "corpus.jsonl, line 1: expected valid text"),
        ({"corpus": '{"_id": "d\\u0000", "text": "x"}\n'}, "corpus.jsonl, line 1: expected valid text"),
        ({"corpus": '{"_id": "d", "text": ' + "[" * 100_000}, "corpus.jsonl, line 1: not JSON"),
        ({"corpus": '{"_id": "d", "text": ' + "9" * 5000 + "}"}, "corpus.jsonl, line 1: (not JSON|expected a string)"),
        ({"queries": '{"_id": "q1"}\n'}, "queries.jsonl, line 1"),
        ({"qrels": f"q1\td1\t{10**30}\n"}, "test.tsv, line 1: a score beyond"),
        ({"qrels": "query-id\tcorpus-id\tscore\nq1 d1 1\n"}, "test.tsv, line 2: expected 3 fields"),
        ({"qrels": "q1\td1\thigh\n"}, "test.tsv, line 1: expected a whole number"),
        ({"qrels": "q9\td1\t1\n"}, "test.tsv, line 1: no query has the id 'q9'"),
        ({"qrels": "q1\td1\t1\nq1\td1\t2\n"}, "test.tsv, line 2: 'q1' and 'd1' are judged twice"),
    ],
)
def test_a_bad_line_is_named(tmp_path, files, message):
    with pytest.raises(DataFormatError, match=message):
        BeirDataset.read(write(tmp_path, **files))


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(DataFormatError, match=r"corpus\.jsonl"):
        BeirDataset.read(tmp_path)
    with pytest.raises(DataFormatError, match=r"qrels/dev\.tsv"):
        BeirDataset.read(write(tmp_path), "dev")


def test_damaged_files_are_format_errors(tmp_path):
    folder = write(tmp_path, packed=True)
    packed = folder / "corpus.jsonl.gz"
    packed.write_bytes(packed.read_bytes()[:-12])
    with pytest.raises(DataFormatError, match=r"corpus\.jsonl\.gz"):
        BeirDataset.read(folder)
    damaged = bytearray(gzip.compress(os.urandom(4000)))
    damaged[2000:2100] = bytes(100)
    for content in (b"not gzip", bytes(damaged)):
        packed.write_bytes(content)
        with pytest.raises(DataFormatError, match=r"corpus\.jsonl\.gz"):
            BeirDataset.read(folder)
    packed.unlink()
    (folder / "corpus.jsonl").write_bytes(b"\xff\xfe\n")
    with pytest.raises(DataFormatError, match="UTF-8"):
        BeirDataset.read(folder)


@pytest.mark.data
def test_cranfield_has_its_published_counts():
    folder = Path(os.environ.get("ANNVQ_DATA", "../shared/data")) / "cranfield"
    if not folder.is_dir():
        pytest.skip("no data")
    dataset = BeirDataset.read(folder)
    judgements = sum(len(documents) for documents in dataset.qrels.values())
    assert (len(dataset.documents), len(dataset.queries), judgements) == (1400, 225, 1837)


@pytest.mark.parametrize("given", [None, 5, "a\0b"], ids=ascii)
def test_what_is_no_path(given):
    for call in (BeirDataset.read, BeirDataset.splits):
        with pytest.raises(ParameterError, match="path"):
            call(given)
