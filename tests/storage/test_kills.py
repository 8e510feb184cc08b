"""A process that dies while it saves leaves the old version or the new one, nothing between and nothing else."""

import os
import random
import signal
import time

import pytest
from storage_faults import (
    FAST,
    SCENARIOS,
    Killing,
    Recording,
    arrays,
    check_next_commit,
    contents,
    in_child,
    make,
    prepared,
)

from annvq.storage import Store


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_killed_before_and_after_every_operation(tmp_path, scenario):
    act, before, after = SCENARIOS[scenario]
    make(tmp_path / "base")
    path = tmp_path / "work" / "an index"
    recording = Recording()
    act(prepared(tmp_path / "base", path, before), recording)
    operations = [name for name, _, _ in recording.log]
    assert operations.count("replace") == 1
    assert operations.count("sync") >= 2
    commit = operations.index("replace") + 1
    for at in range(1, len(operations) + 1):
        for late in (False, True):
            prepared(tmp_path / "base", path, before)
            status = in_child(act, path, Killing(at, late))
            assert os.WIFSIGNALED(status)
            assert os.WTERMSIG(status) == signal.SIGKILL
            committed = at > commit or (at == commit and late)
            assert contents(path) == (after if committed else before), (at, late, operations[at - 1])
            check_next_commit(path)


def save_forever(path, acknowledge):
    with Store.open(path, "rw", fs=FAST) as store:
        while True:
            seed = store.version + 1
            name = store.stage("segment", arrays(seed))
            store.commit({"names": {str(seed): name}}, [name])
            os.write(acknowledge, store.version.to_bytes(4, "little"))


def test_killed_at_random_moments(tmp_path):
    """A hundred kills of a process that saves all the time; what it said is saved is there."""
    moments = random.Random(7)
    path = tmp_path / "index"
    make(path)
    version = 1
    for _ in range(100):
        reader, writer = os.pipe()
        pid = os.fork()
        if pid == 0:
            try:
                save_forever(path, writer)
            finally:
                os._exit(1)
        os.close(writer)
        first = os.read(reader, 4)
        time.sleep(moments.uniform(0, 0.012))
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        said = first
        while more := os.read(reader, 1 << 16):
            said += more
        os.close(reader)
        last = int.from_bytes(said[-4:], "little")
        found, seeds = contents(path)
        assert found in (last, last + 1)
        assert last > version
        assert seeds == (found,)
        version = found
    check_next_commit(path)
