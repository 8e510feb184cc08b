"""A reader beside a writer: which version it shows, takes and sends to other processes."""

import copy
import multiprocessing
import pickle
import shutil

import numpy as np
import pytest

import annvq
from annvq.errors import CorruptIndexError, ParameterError, StateError
from annvq.multivector import MultiVectorIndex

RNG = np.random.default_rng(3)
ROWS = RNG.normal(size=(600, 8)).astype(np.float32)
QUERIES = RNG.normal(size=(20, 8)).astype(np.float32)
DOCUMENTS = [RNG.normal(size=(3, 8)).astype(np.float32) for _ in range(40)]
RECIPE = "IVF12,SQ8"


def answers(index):
    hits = index.search(QUERIES, 5)
    return index.nprobe, hits.ids.tolist(), hits.scores.tolist()


@pytest.fixture
def path(tmp_path):
    annvq.build(ROWS[:500], RECIPE).save(tmp_path / "index")
    return tmp_path / "index"


@pytest.fixture
def documents(tmp_path):
    MultiVectorIndex.build(DOCUMENTS[:30], path=tmp_path / "documents").close()
    return tmp_path / "documents"


def deepened(index, recall):
    before = index.nprobe
    index.tune(QUERIES, 5, recall)
    assert index.nprobe != before
    return index


@pytest.mark.parametrize("copied", [lambda i: pickle.loads(pickle.dumps(i)), copy.copy, copy.deepcopy])
def test_a_copy_answers_as_the_original_does_whatever_that_was_tuned_to(path, copied):
    with annvq.open(path) as index:
        deepened(index, 1.0)
        assert index.version == 1, "nothing has changed but this object"
        with copied(index) as other, copied(other) as third:
            assert answers(other) == answers(third) == answers(index)
            assert (other.version, other.rerank) == (1, index.rerank)
            other.close()
        assert len(index) == 500


def test_a_copy_in_another_process_answers_as_the_original_does(path):
    with annvq.open(path) as index, multiprocessing.get_context("spawn").Pool(1) as pool:
        deepened(index, 1.0)
        assert pool.apply(answers, (index,)) == answers(index)


def test_another_version_than_was_sent_is_refused(path):
    with annvq.open(path) as index:
        sent = pickle.dumps(index)
        with annvq.open(path, "rw") as writer:
            writer.remove([3])
            later = pickle.dumps(writer)
        for call in (lambda: pickle.loads(sent), lambda: copy.copy(index)):
            with pytest.raises(StateError, match=r"version 1 was sent.*now holds version 2.*annvq\.open"):
                call()
    with pickle.loads(later) as again:
        assert (len(again), again.version) == (499, 2)
        with pytest.raises(StateError, match="reading"):
            again.remove([4])
    annvq.build(ROWS[:100], RECIPE).save(path)
    with annvq.open(path, "rw") as writer:
        writer.remove([3])  # version 2, too, of another index
    with pytest.raises(StateError, match="another index"):
        pickle.loads(later)


def test_an_index_in_memory_is_copied_as_bytes():
    index = annvq.build(ROWS[:50], "Flat")
    for call in (copy.copy, copy.deepcopy, lambda index: pickle.loads(pickle.dumps(index)), annvq.Index.copy):
        other = call(index)
        other.remove([3])
        assert (len(index), len(other), 3 in index, 3 in other) == (50, 49, True, False)


def test_a_readers_tuning_is_its_own_a_writers_is_a_version(path):
    with annvq.open(path) as reader:
        deepened(reader, 1.0)
        with annvq.open(path, "rw") as writer:
            writer.remove([3])
            assert (writer.version, reader.version) == (2, 1)
            deepened(writer, 1.0)
            assert writer.version == 3
    memory = annvq.build(ROWS[:500], RECIPE)
    deepened(memory, 1.0)
    assert memory.version == 2


def test_a_reader_takes_the_current_version_when_it_is_told_to(path):
    with annvq.open(path) as reader:
        assert reader.is_current()
        assert reader.refresh() is False
        with annvq.open(path, "rw") as writer:
            writer.add(ROWS[500:])
            writer.remove([3])
            assert writer.is_current()
            assert writer.refresh() is False
            assert not reader.is_current()
            assert (len(reader), reader.version) == (500, 1)
            assert reader.refresh() is True
            assert reader.is_current()
            assert reader.refresh() is False
            assert (len(reader), reader.version) == (599, 3)
            assert answers(reader) == answers(writer)
            reader.verify()
    memory = annvq.build(ROWS[:50], "Flat")
    assert (memory.is_current(), memory.refresh()) == (True, False)


def test_what_a_reader_was_tuned_to_stays_with_the_index_it_was_tuned_on(path):
    with annvq.open(path) as tuned, annvq.open(path) as plain:
        deep = deepened(tuned, 1.0).nprobe
        with annvq.open(path, "rw") as writer:
            writer.remove([3])
            for reader, nprobe in ((tuned, deep), (plain, writer.nprobe)):
                assert reader.refresh()
                assert (reader.nprobe, reader.version) == (nprobe, 2)
            assert copy.copy(tuned).nprobe == deep
            writer.tune(QUERIES, 5, 1.0)
            assert plain.refresh()
            assert plain.nprobe == writer.nprobe
        annvq.build(ROWS[:100, :6], "IVF3,SQ8").save(path)
        assert tuned.refresh()
        assert (len(tuned), tuned.dim, tuned.version) == (100, 6, 1)
        assert tuned.nprobe == annvq.open(path).nprobe


def test_a_refresh_that_fails_changes_nothing(path):
    with annvq.open(path) as reader:
        before = answers(reader)
        shutil.move(path, path.with_name("away"))
        path.mkdir()
        for call in (reader.refresh, reader.is_current):
            with pytest.raises(CorruptIndexError, match="not an annvq index"):
                call()
        assert answers(reader) == before
        path.rmdir()
        shutil.move(path.with_name("away"), path)
        assert reader.is_current()


def test_a_writer_whose_folder_was_changed_by_others_says_so(path):
    other = path.with_name("other")
    annvq.build(ROWS[:50], "Flat").save(other)
    with annvq.open(path, "rw") as writer:
        shutil.copyfile(other / "manifest.json", path / "manifest.json")
        assert not writer.is_current()
        with pytest.raises(StateError, match="open for writing"):
            writer.refresh()


# Documents of several vectors


def found(index, candidates=None, documents=DOCUMENTS):
    hits = index.search(documents[:15], 4, candidates=candidates)
    return candidates or index.candidates, hits.ids.tolist(), hits.scores.tolist()


def test_documents_are_copied_and_refreshed_alike(documents, path):
    with MultiVectorIndex.open(documents) as reader:
        reader.tune(DOCUMENTS[:5], 4, 1.0)
        assert reader.version == 1
        for copied in (pickle.loads(pickle.dumps(reader)), copy.copy(reader)):
            assert found(copied) == found(reader)
            copied.close()
        sent = pickle.dumps(reader)
        with MultiVectorIndex.open(documents, "rw") as writer:
            writer.add(DOCUMENTS[30:])
            with pytest.raises(StateError, match="version 1 was sent"):
                pickle.loads(sent)
            assert (reader.is_current(), len(reader)) == (False, 30)
            assert (reader.refresh(), reader.is_current(), reader.refresh(), len(reader)) == (True, True, False, 40)
            assert found(reader, 40) == found(writer, 40)
        short = [one[:, :6] for one in DOCUMENTS[:20]]
        other = MultiVectorIndex.build(short)
        other.save(documents)
        assert reader.refresh()
        assert (len(reader), reader.dim) == (20, 6)
        assert found(reader, 20, short) == found(other, 20, short)
        annvq.build(ROWS[:50], "Flat").save(documents)
        with pytest.raises(StateError, match=r"single vectors: open it with annvq\.open"):
            reader.refresh()
        assert (len(reader), reader.dim) == (20, 6)
        with pytest.raises(ParameterError, match="k must be"):
            reader.search(DOCUMENTS[:1], 0)
