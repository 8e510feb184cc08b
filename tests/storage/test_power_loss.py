"""A commit is all or nothing even if the power fails and the disk forgets what was not synced."""

import shutil

import pytest
from storage_faults import SCENARIOS, PowerLoss, Recording, check_next_commit, contents, make, prepared

from annvq.errors import CorruptIndexError


def laid_out(root, state):
    """Write a state of the disk, whose paths are below ``root``, there."""
    shutil.rmtree(root)
    root.mkdir()
    for path in sorted(path for path, content in state.items() if content is None):
        path.mkdir(parents=True)
    for path, content in state.items():
        if content is not None and path.parent.is_dir():
            path.write_bytes(content)


def files_below(root):
    return {path: path.read_bytes() if path.is_file() else None for path in root.rglob("*") if path.name != "LOCK"}


def recorded(base, path, scenario):
    """Run a scenario; return the disk before it and the operations it took."""
    act, before, _ = SCENARIOS[scenario]
    prepared(base, path, before)
    disk = PowerLoss(files_below(path.parent))
    recording = Recording()
    act(path, recording)
    return disk, recording.log


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_power_fails_after_every_operation(tmp_path, scenario):
    _, before, after = SCENARIOS[scenario]
    make(tmp_path / "base")
    path = tmp_path / "work" / "index"
    disk, log = recorded(tmp_path / "base", path, scenario)
    operations = [name for name, _, _ in log]
    commit = operations.index("replace")
    durable = operations.index("sync_folder", commit)
    tried, outcomes = set(), set()
    for at, operation in enumerate(log):
        disk.apply(*operation)
        phase = "before" if at < commit else "durable" if at >= durable else "between"
        allowed = {"before": {before}, "between": {before, after}, "durable": {after}}[phase]
        for state in disk.states():
            key = phase, hash(frozenset(state.items()))
            if key not in tried:
                tried.add(key)
                laid_out(path.parent, state)
                found = contents(path)
                assert found in allowed, (at, operation[0])
                outcomes.add((phase, found))
                check_next_commit(path)
    assert outcomes == {("before", before), ("between", before), ("between", after), ("durable", after)}
    assert len(tried) > 30


@pytest.mark.parametrize("forgotten", ["sync", "sync_folder"])
def test_the_model_finds_a_missing_sync(tmp_path, forgotten):
    """The test above can fail: where files, or folders, are not synced, versions are lost."""
    make(tmp_path / "base")
    path = tmp_path / "work" / "index"
    disk, log = recorded(tmp_path / "base", path, "next version")
    for operation in log:
        if operation[0] != forgotten:
            disk.apply(*operation)
    lost = 0
    for state in disk.states():
        laid_out(path.parent, state)
        try:
            lost += contents(path) != SCENARIOS["next version"][2]
        except CorruptIndexError:
            lost += 1
    assert lost
